"""What is pushed of a model: of a snapshot, of uploaded files, of an adapter."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from hugging_llama.dialects.ollama.push import render_modelfile
from hugging_llama.errors import ModelNotFoundError
from hugging_llama.neutral.models import LocalModel
from hugging_llama.store.defaults import sampling_defaults
from hugging_llama.store.local import Store
from hugging_llama.store.manifests import Manifest, Manifests, Source
from hugging_llama.store.push_files import files_of, generation_config, is_replaced
from hugging_llama.store.push_request import PushFile
from hugging_llama_config.settings import Settings
from tests.hub_cache import add_to_hub_cache
from tests.store import models

ADAPTER = {
    "adapter_config.json": json.dumps({"peft_type": "LORA", "r": 8, "base_model_name_or_path": "/tmp/x"}).encode(),
    "adapter_model.safetensors": models.safetensors({"lora_A": ("F32", (8,))}),
}


class _Home:
    """A home and a Hub cache with `acme/base` in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(home=str(folder / "home"), hub_cache=str(folder / "hub"))
        self.add("acme/base", models.chat_model())

    def add(self, repo: str, files: dict[str, bytes]) -> None:
        root = self.folder / repo
        for path, data in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        add_to_hub_cache(self.folder / "hub", repo, root)

    def blobs(self, files: dict[str, bytes]) -> dict[str, str]:
        folder = self.folder / "home/blobs"
        folder.mkdir(parents=True, exist_ok=True)
        digests = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
        for path, data in files.items():
            (folder / digests[path]).write_bytes(data)
        return digests

    def model(self, **fields: Any) -> LocalModel:
        fields = {"name": "me/mine:latest", "source": Source(base="acme/base:latest"), **fields}
        Manifests(self.settings.home).write(Manifest(**fields))
        return Store(self.settings).resolve(fields["name"])


@pytest.fixture
def home(tmp_path: Path) -> _Home:
    return _Home(tmp_path)


def _contents(files: tuple[PushFile, ...]) -> dict[str, bytes]:
    assert not any(Path(file.source).is_symlink() for file in files if file.source)
    return {file.path: Path(file.source).read_bytes() if file.source else file.text.encode() for file in files}


def test_the_files_of_the_hub_go_on_as_they_are(home: _Home) -> None:
    pushed = _contents(files_of(home.model(), "me/mine", "FROM acme/base\n"))
    assert pushed.pop("Modelfile") == b"FROM acme/base\n"
    kept = models.chat_model()
    # its code is part of it, where somebody has allowed it; other formats of the weights are not
    assert pushed == {path: kept[path] for path in (*models.KEPT, "modeling_custom.py")}


def test_modules_in_folders_come_along(home: _Home) -> None:
    home.add("acme/sentences", models.sentence_model())
    model = home.model(source=Source(base="acme/sentences:latest"))
    assert _contents(files_of(model, "me/mine", "")).items() >= models.sentence_model().items()


def test_a_model_of_uploaded_files(home: _Home) -> None:
    files = {path: models.chat_model()[path] for path in ("config.json", "tokenizer.json", "model.safetensors")}
    model = home.model(source=Source(files=home.blobs(files)))
    pushed = _contents(files_of(model, "me/mine", ""))
    card = pushed.pop("README.md").decode()
    assert pushed == files | {"Modelfile": b""}
    assert "base_model" not in card
    assert card.startswith("---\nlibrary_name: transformers\n---\n\n# me/mine\n")


def test_an_adapter_is_pushed_without_its_base(home: _Home) -> None:
    model = home.model(adapter=Source(files=home.blobs(ADAPTER)), template="{{ x }}", parameters={"temperature": 0.0})
    pushed = _contents(files_of(model, "me/mine", "ADAPTER me/mine\n"))
    assert set(pushed) == {*ADAPTER, "Modelfile", "README.md", "chat_template.jinja"}
    assert pushed["adapter_model.safetensors"] == ADAPTER["adapter_model.safetensors"]
    config = json.loads(pushed["adapter_config.json"])
    assert config == {"peft_type": "LORA", "r": 8, "base_model_name_or_path": "acme/base"}
    card = pushed["README.md"].decode()
    assert card.startswith("---\nbase_model: acme/base\nlibrary_name: peft\nlicense: other\n---\n")


def test_an_adapter_that_names_its_base_is_left_alone(home: _Home) -> None:
    config = json.dumps({"peft_type": "LORA", "base_model_name_or_path": "acme/first"}).encode()
    model = home.model(adapter=Source(files=home.blobs(ADAPTER | {"adapter_config.json": config})))
    assert _contents(files_of(model, "me/mine", ""))["adapter_config.json"] == config


def test_parameters_lie_over_those_of_the_files(home: _Home) -> None:
    config = {"temperature": 0.6, "top_p": 0.9, "eos_token_id": [1, 2], "max_new_tokens": 9}
    home.add("acme/base", {"generation_config.json": json.dumps(config).encode()})
    model = home.model(parameters={"temperature": 0.25, "top_k": 5, "stop": ["x"], "max_tokens": None})
    text = _contents(files_of(model, "me/mine", ""))["generation_config.json"]
    assert json.loads(text) == {
        "temperature": 0.25, "top_p": 0.9, "eos_token_id": [1, 2], "top_k": 5, "do_sample": True
    }  # fmt: skip


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0.0, "top_k": 40},
        {"temperature": 1.5, "min_p": 0.1, "repetition_penalty": 1.2, "no_repeat_ngram_size": 3},
        {"bad_words": ((1, 2), (3,)), "suppress_tokens": (4,), "max_tokens": 20, "min_tokens": 2},
    ],
)
def test_what_is_written_is_read_back(sampling: dict[str, Any], tmp_path: Path) -> None:
    config = generation_config({}, sampling)
    (tmp_path / "generation_config.json").write_text(json.dumps(config))
    assert sampling_defaults(str(tmp_path)) == sampling


def test_transformers_takes_the_generation_config(tmp_path: Path) -> None:
    from transformers import GenerationConfig

    sampling = {
        "temperature": 0.0, "top_k": 40, "typical_p": 1.0, "num_beams": 2, "early_stopping": "never",
        "bad_words": ("a text", (1, 2)), "stop": ("END",), "seed": 3,
    }  # fmt: skip
    (tmp_path / "generation_config.json").write_text(json.dumps(generation_config({}, sampling)))
    read = GenerationConfig.from_pretrained(str(tmp_path))
    assert (read.do_sample, read.num_beams, read.early_stopping, read.bad_words_ids) == (False, 2, "never", [[1, 2]])
    assert read.stop_strings is None


def test_licences_and_the_card(home: _Home) -> None:
    home.add("acme/bare", {path: models.chat_model()[path] for path in ("config.json", "model.safetensors")})
    source = Source(base="acme/bare:latest")
    texts = _contents(files_of(home.model(source=source, licenses=("Apache-2.0", "and more")), "me/mine", ""))
    assert texts["LICENSE"] == b"Apache-2.0\n\nand more\n"
    assert b"\nlicense: apache-2.0\n" in texts["README.md"]
    texts = _contents(files_of(home.model(source=source, licenses=("evil\nbase_model: x",)), "me/mine", ""))
    assert b"\nlicense: other\n" in texts["README.md"]
    texts = _contents(files_of(home.model(source=source, quantization="int4"), "me/mine", ""))
    assert b"license:" not in texts["README.md"]
    assert b"int4 weights" in texts["README.md"]


def test_what_a_push_takes_away() -> None:
    gone = ["model.safetensors", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "Modelfile"]
    gone += ["adapter_model.safetensors", "adapter_config.json", "chat_template.jinja", "generation_config.json"]
    stays = ["README.md", "LICENSE", "config.json", "onnx/model.safetensors", "results.json", "model.gguf", "a.py"]
    assert [path for path in (*gone, *stays) if is_replaced(path)] == gone


def test_a_model_whose_files_are_gone(home: _Home) -> None:
    model = home.model()
    shutil.rmtree(model.ref.path)
    with pytest.raises(ModelNotFoundError):
        files_of(model, "me/mine", "")


def test_where_a_model_lies_on_the_server_stays_there(home: _Home) -> None:
    (home.folder / "srv").mkdir()
    shutil.copytree(home.folder / "acme/base", home.folder / "srv/secret")
    settings = dataclasses.replace(home.settings, model_dirs=(str(home.folder / "srv"),))
    bare = home.folder / "srv/secret"
    (bare / "README.md").unlink()
    Manifests(settings.home).write(Manifest(name="me/mine:latest", source=Source(base=str(bare))))
    model = Store(settings).resolve("me/mine")
    assert model.parent == str(bare)
    files = files_of(model, "me/mine", render_modelfile(model))
    texts = "".join(file.text for file in files)
    assert "FROM me/mine:latest\n" in texts
    assert "# me/mine" in texts
    assert "srv" not in texts
