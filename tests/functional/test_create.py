"""/api/create from uploaded files, with adapters and texts, and of models that are on the Hub only."""

import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from flask.testing import FlaskClient
from safetensors.torch import load_file

from hugging_llama.neutral.requests import ChatPrompt
from hugging_llama.store.local import Store
from hugging_llama.testing import ScriptedEngine
from hugging_llama_config.settings import Settings
from tests.functional.conftest import MakeClient
from tests.hub_cache import add_to_hub_cache
from tests.hub_server import Repo, StandInHub
from tests.store import models

DEMO = "hugging-llama/demo"
KEPT = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
MODEL = {path: content for path, content in models.chat_model().items() if path in KEPT}
ADAPTER = models.low_rank()


def _empty_tensors(number: int) -> bytes:
    return models.safetensors({f"t{at}": ("F32", (0,)) for at in range(number)})


def _few_bytes_in(number: int) -> bytes:
    """A header that takes as much as the weights should."""
    return models.safetensors({"w": ("F32", (1,)), **{f"t{at}": ("F32", (0,)) for at in range(number)}})


def upload(client: FlaskClient, files: Mapping[str, bytes]) -> dict[str, str]:
    found = {path: f"sha256:{hashlib.sha256(content).hexdigest()}" for path, content in files.items()}
    for path, digest in found.items():
        assert client.post(f"/api/blobs/{digest}", data=files[path]).status_code in (200, 201)
    return found


def create(client: FlaskClient, base: str = "", **body: Any) -> list[dict[str, Any]]:
    response = client.post("/api/create", json={"model": "mine", "from": base, **body})
    assert response.status_code == 200, response.text
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert lines[-1] == {"status": "success"}
    return lines


def refused(client: FlaskClient, base: str = "", **body: Any) -> str:
    """The error, which must come with a status of its own, and leave nothing."""
    before = client.get("/api/tags").get_json()
    response = client.post("/api/create", json={"model": "mine", "from": base, **body})
    assert (response.status_code, list(response.get_json())) == (400, ["error"]), response.text
    assert client.get("/api/tags").get_json() == before
    return str(response.get_json()["error"])


def prompt_of(client: FlaskClient, engine: ScriptedEngine, path: str, **body: Any) -> ChatPrompt:
    client.post(f"/api/{path}", json={"model": "mine", **body}).get_data()
    prompt = engine.requests[-1].prompt  # type: ignore[union-attr]
    assert isinstance(prompt, ChatPrompt)
    return prompt


def turns(prompt: ChatPrompt) -> list[str]:
    return [f"{message.role}: {message.content}" for message in prompt.messages]


def test_a_model_of_uploaded_files(make_client: MakeClient, settings: Settings) -> None:
    client, engine = make_client()
    unused = {"trainer_state.json": b"{}", "LICENSE": b"Do as you like", "model.safetensors.index.json": b"{}"}
    files = upload(client, MODEL | unused)
    statuses = [line["status"] for line in create(client, files=files, system="Be brief.", quantize="int8")]
    assert sorted(statuses[:-2]) == sorted({f"using existing layer {digest}" for digest in files.values()})
    assert statuses[-2:] == ["writing manifest", "success"]
    (mine,) = (model for model in client.get("/api/tags").get_json()["models"] if model["name"] == "mine:latest")
    details = mine["details"]
    assert (details["parent_model"], details["family"], details["quantization_level"]) == ("", "llama", "INT8")
    assert mine["size"] >= sum(map(len, MODEL.values()))
    prompt = prompt_of(client, engine, "chat", messages=[{"role": "user", "content": "x"}])
    assert turns(prompt) == ["system: Be brief.", "user: x"]
    folder = Path(engine.requests[-1].model.path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == MODEL | unused
    create(client, model="other", base="mine")
    client.post("/api/generate", json={"model": "other"})
    assert engine.requests[-1].model.path == str(folder)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"config.json": None}, "it has no config.json"),
        ({"config.json": b"{"}, "config.json is damaged"),
        ({"config.json": b"[]"}, "config.json is damaged"),
        ({"config.json": b"[" * 100_000}, "config.json is nested too deeply"),
        ({"config.json": b"[" + b"0," * 200_000 + b"0]"}, "config.json holds too much: it may have 200,000 values"),
        ({"config.json": b'{"x": ' + b"[" * 900 + b"]" * 900 + b"}"}, "config.json is nested too deeply"),
        ({"generation_config.json": b"[" + b"[]," * 200_000 + b"[]]"}, "generation_config.json holds too much"),
        ({"tokenizer_config.json": b"[" + b"[]," * 1_000_000 + b"[]]"}, "tokenizer_config.json holds too much"),
        ({"tokenizer.json": b"[" + b"[]," * 1_500_000 + b"[]]"}, "tokenizer.json holds too much"),
        ({"1_Pooling/config.json": b"[" + b"[]," * 200_000 + b"[]]"}, "1_Pooling/config.json holds too much"),
        ({"chat_template.jinja": b" " * (4 * 2**20 + 1)}, "chat_template.jinja is too large"),
        ({"config.json": json.dumps({**models.CONFIG, "num_hidden_layers": 10**6})}, "impossible num_hidden_layers"),
        ({"config.json": json.dumps({**models.CONFIG, "vocab_size": 10**6})}, "does not fit its weights"),
        ({"config.json": b'{"architectures": ["ViTForImageClassification"]}'}, "names no architecture"),
        ({"tokenizer.json": None}, "it has no tokenizer (tokenizer.json, or the vocabulary"),
        ({"tokenizer.json": None, "tokenizer_config.json": None}, "it has no tokenizer"),
        ({"tokenizer.json": b"{}"}, "tokenizer.json is damaged"),
        (
            {"tokenizer.json": b'{"model": {"vocab": {"a": 2147483648}}}'},
            "tokenizer.json has a token with the id 2147483648",
        ),
        ({"tokenizer.json": models.long_tokenizer()}, "tokenizer.json may make text 1e+18 times as long; 64 times is"),
        ({"model.safetensors": None}, "it has no safetensors weights"),
        ({"model.safetensors": MODEL["model.safetensors"][:-1]}, "not a whole safetensors file: file is cut short"),
        ({"model.safetensors": b"x" * 100}, "not a whole safetensors file: header length"),
        ({"model.safetensors": models.safetensors({})}, "its weights hold nothing"),
        ({"model.safetensors": _empty_tensors(1000)}, "its weights hold nothing"),
        ({"model.safetensors": _empty_tensors(2**19 + 1)}, "its weights have more than 524288 tensors"),
        ({"model.safetensors": _few_bytes_in(1000)}, "config.json does not fit its weights"),
        ({"model.safetensors": None, "model.safetensors.index.json": b"{}"}, "its weight index can't be read"),
        (
            {
                "model.safetensors": None,
                "model.safetensors.index.json": b'{"weight_map": {"a": "model-1.safetensors"}}',
            },
            "1 of the 1 files that its weight index names are missing",
        ),
        (
            {"model.safetensors": None, "model.safetensors.index.json": b'{"weight_map": {"a": "../x.safetensors"}}'},
            "outside of the repository",
        ),
    ],
)
def test_files_that_make_no_model(make_client: MakeClient, changes: dict[str, Any], error: str) -> None:
    client, _ = make_client()
    changed = {path: text.encode() if isinstance(text, str) else text for path, text in changes.items()}
    files = upload(client, {path: content for path, content in (MODEL | changed).items() if content is not None})
    assert error in refused(client, files=files)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff", b"9" * 200_000, b"[" + b"0," * 200_000 + b"0]"])
def test_a_configuration_that_is_damaged_later(make_client: MakeClient, content: bytes) -> None:
    client, engine = make_client()
    create(client, model="mine", files=upload(client, MODEL))
    client.post("/api/generate", json={"model": "mine"})
    file = Path(engine.requests[-1].model.path) / "config.json"
    file.unlink()
    file.write_bytes(content)
    response = client.post("/api/chat", json={"model": "mine", "messages": [{"role": "user", "content": "x"}]})
    say = {"error": "the model's config.json is damaged, or names no kind of model"}
    assert (response.status_code, response.get_json()) == (500, say)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("/etc/passwd", "file path must be relative"),
        ("../config.json", "file path must be relative"),
        ("a/../../config.json", "file path must be relative"),
        ("a\\..\\b.json", "file path must be relative"),
        ("C:\\b.json", "file path must be relative"),
        ("~/b.json", "file path must be relative"),
        (".hidden.json", "letters, digits"),
        ("a\0.json", "letters, digits"),
        ("a\n.json", "letters, digits"),
        ("", "letters, digits"),
        ("ａ.json", "letters, digits"),
        ("x" * 250 + ".json", "letters, digits"),
        ("config.json/a.json", "can't lie in what is a file itself"),
        ("modeling_x.py", "no file that a model is made of"),
        ("a.zip", "no file that a model is made of"),
        ("deep/er/config.json", "no file that a model is made of"),
        ("onnx/config.json", "no file that a model is made of"),
    ],
)
def test_names_of_files(make_client: MakeClient, name: str, error: str, tmp_path: Path) -> None:
    client, _ = make_client()
    files = upload(client, MODEL)
    assert error in refused(client, files=files | {name: files["config.json"]})
    assert error in refused(
        client, base=DEMO, adapters={name: files["config.json"], "config.json": files["config.json"]}
    )


def test_what_is_asked_of_files(make_client: MakeClient) -> None:
    client, _ = make_client()
    files = upload(client, MODEL)
    absent = f"sha256:{'0' * 64}"
    assert refused(client, files=files | {"vocab.txt": absent}) == f'blob "{absent}" not found'
    for digest in ("", "sha256:", "x", absent[:-1], f"sha256:../{'0' * 61}", 5, None):
        assert refused(client, files={"config.json": digest}) == "invalid digest format"
    assert refused(client, files={}) == "no files provided to convert"
    assert "cannot unmarshal" in refused(client, files=[1])
    assert "not of both" in refused(client, files=files, base=DEMO)
    client, _ = make_client(home="")
    assert "HUGGING_LLAMA_HOME" in refused(client, files=files)


def test_uploaded_adapters(make_client: MakeClient, settings: Settings) -> None:
    client, engine = make_client()
    files = upload(client, ADAPTER)
    statuses = [line["status"] for line in create(client, adapters=files, base=DEMO)]
    assert set(statuses[1:3]) == {f"using existing layer {digest}" for digest in files.values()}
    client.post("/api/generate", json={"model": "mine"})
    ref = engine.requests[-1].model
    assert {path.name: path.read_bytes() for path in Path(ref.adapter).iterdir()} == ADAPTER
    client.post("/api/generate", json={"model": DEMO})
    assert (engine.requests[-1].model.path, engine.requests[-1].model.adapter) == (ref.path, "")
    create(client, model="other", system="Be brief.", base="mine")
    client.post("/api/generate", json={"model": "other"})
    assert engine.requests[-1].model.adapter == ref.adapter
    shown = {name: client.post("/api/show", json={"model": name}).get_json()["details"] for name in ("other", DEMO)}
    assert (shown["other"]["adapter"], "adapter" in shown[DEMO]) == ("uploaded files", False)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"adapter_config.json": None}, "the adapter has no adapter_config.json"),
        ({"adapter_model.safetensors": None}, "the adapter has no adapter_model.safetensors"),
        ({"adapter_config.json": b"{"}, "adapter_config.json can't be read"),
        ({"adapter_config.json": b'{"peft_type": "IA3"}'}, "peft_type must be LORA"),
        ({"adapter_model.safetensors": b"x" * 50}, "not a whole safetensors file"),
        ({"second.safetensors": b"x"}, "only one adapter is currently supported"),
        ({"adapter.gguf": b"GGUF"}, "GGUF adapters can't be used"),
    ],
)
def test_adapters_that_are_none(make_client: MakeClient, changes: dict[str, bytes | None], error: str) -> None:
    client, _ = make_client()
    files = upload(client, {path: content for path, content in (ADAPTER | changes).items() if content is not None})
    assert error in refused(client, adapters=files, base=DEMO)
    assert "neither 'from' or 'files'" in refused(client, adapters=files)


def test_an_adapter_of_the_hubs_cache(make_client: MakeClient, tmp_path: Path) -> None:
    for repo, files in (("acme/lora", ADAPTER), ("acme/model", MODEL)):
        folder = tmp_path / repo
        folder.mkdir(parents=True)
        for path, content in files.items():
            (folder / path).write_bytes(content)
        snapshot = add_to_hub_cache(tmp_path / "cache", repo, folder, "v1")
    client, engine = make_client(hub_cache=str(tmp_path / "cache"))
    create(client, adapters="acme/lora:v1", base="acme/model:v1")
    client.post("/api/generate", json={"model": "mine"})
    ref = engine.requests[-1].model
    assert ref.path == str(snapshot)
    assert set(os.listdir(ref.adapter)) == set(ADAPTER)
    assert "the adapter has no adapter_config.json" in refused(client, adapters="acme/model:v1", base=DEMO)
    assert refused(client, adapters="../x", base=DEMO) == "invalid model name"


def test_texts_of_a_model(make_client: MakeClient) -> None:
    client, engine = make_client()
    said = [{"role": "User", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
    create(client, messages=said, system="Be brief.", license="one", template="{{ messages }}", base=DEMO)
    assert refused(client, template="{{ .Nonsense }}", base=DEMO).startswith("template error")
    asked = [{"role": "user", "content": "x"}]
    prompt = prompt_of(client, engine, "chat", messages=asked)
    assert turns(prompt) == ["system: Be brief.", "user: 2+2?", "assistant: 4", "user: x"]
    assert prompt.template == "{{ messages }}"
    prompt = prompt_of(client, engine, "chat", messages=[{"role": "system", "content": "Mine."}, *asked])
    assert turns(prompt) == ["system: Mine.", "user: 2+2?", "assistant: 4", "user: x"]
    late = [*asked, {"role": "system", "content": "Late."}]
    assert turns(prompt_of(client, engine, "chat", messages=late))[0] == "system: Be brief."
    assert turns(prompt_of(client, engine, "generate", prompt="x"))[-2:] == ["assistant: 4", "user: x"]
    prompt = prompt_of(client, engine, "generate", prompt="x", context=[1])
    assert (turns(prompt), prompt.template) == (["user: x"], "{{ messages }}")

    create(client, model="heir", license=["two", "one"], messages=[], template="", system="", base="mine")
    store = client.application.extensions["hugging_llama"].store
    heir = store.resolve("heir")
    assert heir.licenses == ("one", "two")
    assert heir.defaults == store.resolve("mine").defaults
    create(client, model="heir", messages=said[:1], base="heir")
    assert [message.content for message in store.resolve("heir").defaults.messages] == ["2+2?"]
    assert refused(client, system="x" * 2**22, base=DEMO).endswith("bytes")


def test_parameters_without_effect_are_named(make_client: MakeClient) -> None:
    client, _ = make_client()
    body = {"model": "mine", "from": DEMO, "parameters": {"num_gpu": 0, "top_k": 5, "use_mmap": True}}
    ignored = client.post("/api/create", json=body).headers["X-Ignored-Fields"]
    assert ignored == "parameters.num_gpu, parameters.use_mmap"


def test_a_template_of_ollamas_is_translated(make_client: MakeClient) -> None:
    client, engine = make_client()
    create(client, template="{{ .System }}|{{ .Prompt }}", base=DEMO)
    template = prompt_of(client, engine, "generate", prompt="x").template
    assert "messages" in template
    assert ".Prompt" not in template


@pytest.fixture
def hub() -> Iterator[StandInHub]:
    with StandInHub() as hub:
        yield hub


def test_a_model_of_the_hub_is_pulled_first(make_client: MakeClient, hub: StandInHub, tmp_path: Path) -> None:
    hub.repos["acme/tiny"] = Repo(models.chat_model())
    client, _ = make_client(hub_endpoint=hub.endpoint, hub_cache=str(tmp_path / "cache"))
    lines = create(client, system="Be brief.", base="acme/tiny")
    statuses = [line["status"] for line in lines]
    assert statuses[0] == "pulling manifest"
    assert "downloading" in statuses
    assert statuses.count("success") == 1
    (mine,) = (model for model in client.get("/api/tags").get_json()["models"] if model["name"] == "mine:latest")
    assert mine["details"]["parent_model"] == "acme/tiny:latest"
    assert create(client, base="mine")[0]["status"].startswith("using existing layer")

    response = client.post("/api/create", json={"model": "other", "from": "acme/nothing"})
    assert json.loads(response.text.splitlines()[-1]) == {"error": "model 'acme/nothing:latest' not found"}
    response = client.post("/api/create", json={"model": "other", "from": "acme/nothing", "stream": False})
    assert (response.status_code, response.get_json()) == (404, {"error": "model 'acme/nothing:latest' not found"})
    assert client.post("/api/show", json={"model": "other"}).status_code == 404


def _pickled(values: torch.Tensor, shards: bool) -> dict[str, bytes]:
    files = {path: content for path, content in MODEL.items() if path != "model.safetensors"}
    parts = {f"pytorch_model-0000{n}-of-00002.bin": {f"w{n}": values} for n in (1, 2)}
    if shards:
        index = {"weight_map": {name: part for part, tensors in parts.items() for name in tensors}}
        files["pytorch_model.bin.index.json"] = json.dumps(index).encode()
    else:
        parts = {"pytorch_model.bin": {"w1": values, "w2": values}}
    for name, tensors in parts.items():
        torch.save(tensors, stored := io.BytesIO())
        files[name] = stored.getvalue()
    return files | {"LICENSE": b"Do as you like", "modeling_custom.py": b"raise SystemExit"}


@pytest.mark.parametrize("shards", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_pickled_weights_of_the_hub_are_converted_where_allowed(
    make_client: MakeClient, hub: StandInHub, settings: Settings, tmp_path: Path, shards: bool
) -> None:
    values = torch.arange(2000, dtype=torch.bfloat16)
    hub.repos["acme/old"] = Repo(_pickled(values, shards))
    places = {"hub_endpoint": hub.endpoint, "hub_cache": str(tmp_path / "cache")}
    client, _ = make_client(**places)
    response = client.post("/api/create", json={"model": "mine", "from": "acme/old"})
    assert "HUGGING_LLAMA_ALLOW_PICKLE" in json.loads(response.text.splitlines()[-1])["error"]
    assert client.delete("/api/delete", json={"model": "acme/old"}).status_code == 404

    client, _ = make_client(**places, allow_pickle=True)
    response = client.post("/api/pull", json={"model": "acme/old"})
    assert "create NAME --from acme/old" in json.loads(response.text.splitlines()[-1])["error"]
    for _ in range(2):
        statuses = [line["status"] for line in create(client, base="acme/old", license="MIT")]
        assert statuses[0] == "pulling manifest"
        assert {"converting model", "verifying conversion"} < set(statuses)
    assert client.delete("/api/delete", json={"model": "acme/old"}).status_code == 200
    assert not (tmp_path / "cache" / "models--acme--old").exists()
    model = Store(replace(settings, **places)).resolve("mine")  # type: ignore[arg-type]
    folder = Path(model.ref.path)
    weights = [path for path in folder.iterdir() if path.suffix == ".safetensors"]
    assert {path.name for path in folder.iterdir()} >= {"config.json", "tokenizer.json", "LICENSE"}
    assert not [path for path in folder.iterdir() if path.suffix in (".bin", ".py")]
    made = {name: tensor for path in weights for name, tensor in load_file(path).items()}
    assert made.keys() == {"w1", "w2"}
    assert all(tensor.equal(values) for tensor in made.values())
    assert "Do as you like\nMIT" in client.post("/api/show", json={"model": "mine"}).get_json()["license"]


def test_an_adapter_of_the_hub_is_pulled_first(make_client: MakeClient, hub: StandInHub, tmp_path: Path) -> None:
    hub.repos["acme/lora"] = Repo(ADAPTER)
    client, engine = make_client(hub_endpoint=hub.endpoint, hub_cache=str(tmp_path / "cache"))
    statuses = [line["status"] for line in create(client, adapters="acme/lora", base=DEMO)]
    assert statuses[0] == "pulling manifest"
    assert client.post("/api/show", json={"model": "mine"}).get_json()["details"]["adapter"] == "acme/lora:latest"
    client.post("/api/generate", json={"model": "mine"})
    assert set(os.listdir(engine.requests[-1].model.adapter)) == set(ADAPTER)
    assert client.delete("/api/delete", json={"model": "mine"}).status_code == 200
    freed = client.delete("/api/delete", json={"model": "acme/lora"})
    assert (freed.status_code, freed.headers["X-Freed-Bytes"]) == (200, str(sum(map(len, ADAPTER.values()))))


def test_a_creation_that_is_left_makes_no_model(make_client: MakeClient, hub: StandInHub, tmp_path: Path) -> None:
    hub.repos["acme/tiny"] = Repo(models.chat_model(2_000_000))
    hub.fault("/_cdn/", "slow", 200_000, times=9)
    client, _ = make_client(hub_endpoint=hub.endpoint, hub_cache=str(tmp_path / "cache"))
    response = client.post("/api/create", json={"model": "mine", "from": "acme/tiny"}, buffered=False)
    chunks = response.iter_encoded()
    assert b"pulling manifest" in next(iter(chunks))
    response.close()
    assert client.post("/api/show", json={"model": "mine"}).status_code == 404
    assert list(tmp_path.rglob("mine*")) == []
