"""What comes of repositories that are something else than a plain model: adapters, pickles."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hugging_llama.errors import ModelNotFoundError, TransferError
from hugging_llama.store import removal, snapshot
from hugging_llama.store.pull_stream import pull
from tests.hub_server import Repo
from tests.store import models
from tests.store.conftest import QUICK, Workplace

NEEDED = {"README.md", "LICENSE", "adapter_config.json", "adapter_model.safetensors"}


def test_an_adapter_brings_what_it_is_made_of(work: Workplace) -> None:
    files = models.adapter()
    repo = work.hub.repos["acme/lora"] = Repo(files)
    work.pull("acme/lora", kind="adapter")
    assert work.files("acme/lora") == {path: files[path] for path in NEEDED}
    assert work.parts() == []
    folder = work.cache / "models--acme--lora" / "snapshots" / repo.commit
    assert len(snapshot.read_adapter(str(folder)).digest) == 64
    with pytest.raises(ModelNotFoundError):  # no model of its own
        work.store.resolve("acme/lora")


def test_an_adapter_through_the_child(work: Workplace) -> None:
    work.hub.repos["acme/lora"] = Repo(models.adapter())
    events = list(pull(work.settings, work.store, "acme/lora", kind="adapter", policy=QUICK))
    assert events[-1].status == "success"
    assert work.files("acme/lora").keys() == NEEDED


@pytest.mark.parametrize(
    ("config", "base"),
    [
        ({"base_model_name_or_path": "acme/base"}, "acme/base"),
        ({"base_model_name_or_path": "/home/me/model"}, ""),
        ({"base_model_name_or_path": "../../x"}, ""),
        ({"base_model_name_or_path": "acme/base:cloud"}, ""),
        ({"base_model_name_or_path": "a\x1b[2Jb"}, ""),
        ({"base_model_name_or_path": ["acme/base"]}, ""),
        ({}, ""),
        ([], ""),
    ],
)
def test_an_adapter_is_no_model(work: Workplace, config: Any, base: str) -> None:
    work.hub.repos["acme/lora"] = Repo(models.adapter() | {"adapter_config.json": json.dumps(config).encode()})
    with pytest.raises(TransferError) as caught:
        work.pull("acme/lora")
    message = caught.value.message
    assert f"it is an adapter for {base or 'another model'}; write `FROM {base or 'MODEL'}`" in message
    assert "`ADAPTER acme/lora`" in message
    assert message.isprintable()
    assert work.refs() == []


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 1_000_000, b"\xff\xfe"])
def test_an_adapter_that_says_nothing_of_its_base(work: Workplace, body: bytes) -> None:
    work.hub.repos["acme/lora"] = Repo(models.adapter())
    work.hub.fault("adapter_config", "status", 503)
    work.hub.fault("adapter_config", "body", body)
    with pytest.raises(TransferError, match="adapter for another model"):
        work.pull("acme/lora")


def test_a_model_is_no_adapter(work: Workplace) -> None:
    work.hub.repos["acme/tiny"] = Repo(models.chat_model())
    with pytest.raises(TransferError, match=r"it is no adapter: it has no adapter_config\.json"):
        work.pull("acme/tiny", kind="adapter")
    assert work.hub.requests("/resolve/") == []


def test_an_adapter_beside_a_model_stays_behind(work: Workplace) -> None:
    work.hub.repos["acme/tiny"] = Repo(models.chat_model() | models.adapter())
    work.pull("acme/tiny")
    assert work.files("acme/tiny").keys() == models.KEPT
    work.pull("acme/tiny", kind="adapter")
    assert work.files("acme/tiny").keys() == models.KEPT | NEEDED


def test_an_adapter_in_pickle_is_refused(work: Workplace) -> None:
    files = models.adapter()
    del files["adapter_model.safetensors"]
    work.hub.repos["acme/lora"] = Repo(files)
    with pytest.raises(TransferError, match=r"has no adapter_model\.safetensors"):
        work.pull("acme/lora", kind="adapter")


CUT = models.chat_model()["model.safetensors"][:-1]
NO_TOKENIZER = "it has no tokenizer"
AUTO_MAP = {"AutoConfig": "modeling_custom.Config", "AutoModelForCausalLM": "modeling_custom.Model"}
OWN_CODE = json.dumps({**models.CONFIG, "model_type": "evilmodel", "auto_map": AUTO_MAP}).encode()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"model.safetensors": CUT}, r"model\.safetensors is not a whole safetensors file: file is cut short"),
        ({"model.safetensors": b"x" * 4000}, r"model\.safetensors is not a whole safetensors file: header length"),
        ({"config.json": b"[1,2]"}, r"config\.json is damaged"),
        ({"config.json": json.dumps({**models.CONFIG, "vocab_size": 10**6}).encode()}, "does not fit its weights"),
        ({"config.json": b'{"architectures": ["ViTForImageClassification"]}'}, "names no architecture that writes"),
        ({"config.json": b'{"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": true}'}, "names no"),
        ({"config.json": OWN_CODE}, "this model needs code of its own, which is not run"),
        ({"tokenizer.json": None}, NO_TOKENIZER),
        ({"tokenizer.json": None, "tokenizer_config.json": None}, NO_TOKENIZER),
        ({"tokenizer.json": None, "tokenizer_config.json": b'{"tokenizer_class": "LlamaTokenizer"}'}, NO_TOKENIZER),
        ({"tokenizer.json": b"{"}, r"tokenizer\.json is damaged"),
        ({"tokenizer.json": b'{"model": 5}'}, r"tokenizer\.json is damaged"),
        ({"tokenizer.json": b"[" * 1_000_000}, r"tokenizer\.json is nested too deeply"),
        ({"tokenizer.json": b'{"model": {"vocab": {"a": 2147483648}}}'}, r"tokenizer\.json has a token with the id 2"),
        ({"tokenizer.json": models.long_tokenizer()}, r"tokenizer\.json may make text 1e\+18 times as long"),
    ],
)
def test_what_can_not_be_served_ends_in_an_error_and_can_be_removed(
    work: Workplace, changes: dict[str, bytes | None], error: str
) -> None:
    files = {path: data for path, data in (models.chat_model() | changes).items() if data is not None}
    work.hub.repos["acme/broken"] = Repo(files)
    with pytest.raises(TransferError, match=f"acme/broken can't be served: .*{error}"):
        work.pull("acme/broken")
    assert work.refs() == []
    assert list(work.cache.glob("models--*/blobs/*"))
    assert removal.remove_model(work.settings, work.store, "acme/broken")
    assert list(work.cache.glob("models--*")) == []


def test_what_is_told_by_the_configuration_costs_no_weights(work: Workplace) -> None:
    work.hub.repos["acme/vit"] = Repo(
        models.chat_model(2_000_000) | {"config.json": b'{"architectures": ["ViTForImageClassification"]}'}
    )
    with pytest.raises(TransferError, match="names no architecture"):
        work.pull("acme/vit")
    assert [seen.path.rpartition("/")[2] for seen in work.hub.requests("/resolve/")] == ["config.json"]


@pytest.mark.parametrize(
    "config",
    [
        {"auto_map": AUTO_MAP},
        {"auto_map": AUTO_MAP, "model_type": "gpt-sw3"},
        {"model_type": "newer-than-the-library"},
        {"auto_map": {}, "model_type": "newer-than-the-library"},
        {"auto_map": AUTO_MAP, "model_type": None},
    ],
)
def test_code_beside_what_needs_none_stays_behind(work: Workplace, config: dict[str, Any]) -> None:
    """Many a repository still has the code from before the library knew its kind."""
    files = models.chat_model() | {"config.json": json.dumps(models.CONFIG | config).encode()}
    work.hub.repos["acme/known"] = Repo(files)
    work.pull("acme/known")
    assert "modeling_custom.py" not in work.files("acme/known")


def test_who_may_bring_code_brings_it(work: Workplace) -> None:
    work.hub.repos["acme/own"] = Repo(models.chat_model() | {"config.json": OWN_CODE})
    work.pull("acme/own", allow_code=True)
    assert "modeling_custom.py" in work.files("acme/own")


def test_a_broken_update_leaves_the_model_and_goes_with_it(work: Workplace) -> None:
    repo = work.hub.repos["acme/tiny"] = Repo(models.chat_model(), revisions=("main", "v2"))
    work.pull("acme/tiny")
    before = work.store.resolve("acme/tiny")
    repo.branches["v2"] = models.chat_model(8000) | {"model.safetensors": b"x" * 4000}
    with pytest.raises(TransferError, match="not a whole safetensors file"):
        work.pull("acme/tiny:v2")
    # beside a model nobody can tell what has been left from what will be gone on with
    assert removal.remove_model(work.settings, work.store, "acme/tiny:v2") is None
    assert work.store.resolve("acme/tiny") == before
    assert removal.remove_model(work.settings, work.store, "acme/tiny") is not None
    assert not list(work.cache.rglob("blobs/*"))


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer.model": b"x"},
        {"spiece.model": b"x"},
        {"sentencepiece.bpe.model": b"x"},
        {"vocab.txt": b"x"},
        {"vocab.json": b"{}", "merges.txt": b""},
        {"tekken.json": b"{}"},
        {"qwen.tiktoken": b"x"},
        {"tokenizer_config.json": b'{"tokenizer_class": "ByT5Tokenizer"}'},
    ],
)
def test_every_tokenizer_will_do(work: Workplace, files: dict[str, bytes]) -> None:
    rest = {path: data for path, data in models.chat_model().items() if not path.startswith("tokenizer")}
    work.hub.repos["acme/other"] = Repo(rest | files)
    assert work.pull("acme/other")[-1].status == "success"


def test_modules_that_need_no_tokenizer_of_transformers(work: Workplace) -> None:
    files = {path: data for path, data in models.sentence_model().items() if path != "vocab.txt"}
    work.hub.repos["acme/words"] = Repo(files | {"modules.json": b'[{"type": "sentence_transformers.models.BoW"}]'})
    assert work.pull("acme/words")[-1].status == "success"
    kind = b'[{"type": "sentence_transformers.models.Transformer"}]'
    work.hub.repos["acme/sentences"] = Repo(files | {"modules.json": kind})
    with pytest.raises(TransferError, match=NO_TOKENIZER):
        work.pull("acme/sentences")


def _pickled(shards: bool) -> dict[str, bytes]:
    files = {"config.json": b'{"architectures": ["LlamaForCausalLM"]}', "tokenizer.json": models.TOKENIZER}
    if not shards:
        return files | {"pytorch_model.bin": b"\x80\x04."}
    names = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    index = {"weight_map": {str(number): name for number, name in enumerate(names)}}
    files |= {name: name.encode() for name in names}
    return files | {"pytorch_model.bin.index.json": json.dumps(index).encode()}


@pytest.mark.parametrize("shards", [False, True])
def test_pickles_come_only_where_allowed(work: Workplace, shards: bool) -> None:
    files = _pickled(shards)
    work.hub.repos["acme/old"] = Repo(files | {"optimizer.bin": b"x"})
    with pytest.raises(TransferError, match="HUGGING_LLAMA_ALLOW_PICKLE"):
        work.pull("acme/old")
    assert work.hub.requests("/resolve/") == []
    work.pull("acme/old", allow_pickle=True)
    assert work.files("acme/old") == files


def test_a_pull_says_how_pickles_are_converted_where_they_may_be(work: Workplace, tmp_path: Path) -> None:
    work.hub.repos["acme/old"] = Repo(_pickled(shards=False))
    settings = replace(work.settings, allow_pickle=True, home=str(tmp_path / "home"))
    with pytest.raises(TransferError) as caught:
        list(pull(settings, work.store, "acme/old", policy=QUICK))
    assert caught.value.message == (
        "acme/old can't be served: it has pickled weights alone; create converts them: hugging-llama create NAME "
        "--from acme/old"
    )


def test_safetensors_go_before_pickles(work: Workplace) -> None:
    work.hub.repos["acme/tiny"] = Repo(models.chat_model())
    work.pull("acme/tiny", allow_pickle=True)
    assert work.files("acme/tiny").keys() == models.KEPT
