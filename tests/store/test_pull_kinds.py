"""What comes of repositories that are something else than a plain model: adapters, pickles."""

import json
from typing import Any

import pytest

from hugging_llama.errors import ModelNotFoundError, TransferError
from hugging_llama.store import snapshot
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


def _pickled(shards: bool) -> dict[str, bytes]:
    files = {"config.json": json.dumps(models.CONFIG).encode(), "tokenizer.json": b"{}"}
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


def test_safetensors_go_before_pickles(work: Workplace) -> None:
    work.hub.repos["acme/tiny"] = Repo(models.chat_model())
    work.pull("acme/tiny", allow_pickle=True)
    assert work.files("acme/tiny").keys() == models.KEPT
