"""The size of a model that is not here, from the stand-in Hub, of whose weights only the headers are fetched."""

import json
from typing import Any

import pytest

from hugging_llama import create_app
from hugging_llama.errors import GatedModelError, HuggingLlamaError, InvalidRequestError, ModelNotFoundError
from hugging_llama.store import remote_size as module
from hugging_llama.store import safetensors_header
from hugging_llama.store.remote_size import remote_size
from hugging_llama.testing import ScriptedEngine
from tests.hub_server import Repo
from tests.store.conftest import IMPATIENT, QUICK, Workplace
from tests.store.models import CONFIG, chat_model, safetensors, sentence_model, sharded_model

SHAPE = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "dtype": "bfloat16"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_POLICY", QUICK)


def _large_model(num_bytes: int) -> dict[str, bytes]:
    files = chat_model()
    files["config.json"] = json.dumps(CONFIG | SHAPE).encode()
    files["model.safetensors"] = safetensors(
        {
            "model.embed_tokens.weight": ("BF16", (100, 64)),
            "model.layers.0.mlp.up_proj.weight": ("BF16", (num_bytes // 2, 1)),
            "model.norm.weight": ("F32", (64,)),
        }
    )
    return files


def test_headers_are_enough(work: Workplace) -> None:
    work.hub.repos["acme/chat"] = Repo(_large_model(40_000_000))
    size, dtype = remote_size(work.settings, "acme/chat")
    assert (size.linear, size.other, size.head) == (20_000_000, 6400 + 64, 6400)
    assert (size.is_head_tied, size.is_embedding, dtype) == (True, False, "bfloat16")
    assert size.kv_per_token == 2 * 2 * 2 * 16
    assert work.hub.sent("safetensors") < 20_000_000, "the rest of the file is left there"
    assert not list(work.cache.iterdir())


def test_shards_and_embedding_models(work: Workplace) -> None:
    work.hub.repos["acme/shards"] = Repo(sharded_model())
    assert remote_size(work.settings, "acme/shards")[0].other == 1500
    work.hub.repos["acme/sentences"] = Repo(sentence_model())
    assert remote_size(work.settings, "acme/sentences")[0].is_embedding


@pytest.mark.parametrize(
    ("name", "change", "error"),
    [
        ("acme/none", {}, ModelNotFoundError),
        ("acme/chat:v9", {}, InvalidRequestError),
        ("a b", {}, InvalidRequestError),
        ("acme/chat", {"config.json": b"["}, HuggingLlamaError),
        ("acme/chat", {"config.json": b"[]"}, HuggingLlamaError),
        ("acme/chat", {"model.safetensors": b"x" * 100}, HuggingLlamaError),
        ("acme/chat", {"model.safetensors": b""}, HuggingLlamaError),
        ("acme/chat", {"model.safetensors": None}, HuggingLlamaError),
    ],
)
def test_what_can_go_wrong(work: Workplace, name: str, change: dict[str, Any], error: type[HuggingLlamaError]) -> None:
    files = chat_model() | change
    work.hub.repos["acme/chat"] = Repo({path: data for path, data in files.items() if data is not None})
    with pytest.raises(error):
        remote_size(work.settings, name)


@pytest.mark.parametrize(("mode", "arg"), [("status", 503), ("cut", 4), ("stall", 4), ("body", b"{")])
@pytest.mark.parametrize("what", ["revision", "tree", "config.json", "_cdn.*safetensors"])
def test_a_hub_in_trouble_is_a_typed_error(
    work: Workplace, monkeypatch: pytest.MonkeyPatch, mode: str, arg: Any, what: str
) -> None:
    work.hub.repos["acme/chat"] = Repo(chat_model())
    work.hub.fault(what, mode, arg)
    monkeypatch.setattr(module, "_POLICY", IMPATIENT)
    with pytest.raises(HuggingLlamaError):
        remote_size(work.settings, "acme/chat")


def test_a_list_without_end_is_not_taken_in(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors_header, "MOST_TENSORS", 2)
    work.hub.repos["acme/chat"] = Repo(_large_model(4000))
    with pytest.raises(HuggingLlamaError, match="can't be read"):
        remote_size(work.settings, "acme/chat")


def test_gated(work: Workplace) -> None:
    work.hub.repos["acme/gated"] = Repo(chat_model(), access="gated")
    with pytest.raises(GatedModelError):
        remote_size(work.settings, "acme/gated")


def test_on_the_wire(work: Workplace) -> None:
    work.hub.repos["acme/chat"] = Repo(_large_model(4000))
    client = create_app(work.settings, engine=ScriptedEngine()).test_client()
    body = {"model": "acme/chat", "remote": True, "options": {"num_ctx": 300}}
    answer = client.post("/api/show", json=body).get_json()
    assert answer["memory"]["num_ctx"] == 300
    assert answer["memory"]["weights"] == (2000 + 6400 + 64 + 6400) * 2
    assert client.post("/api/show", json={"model": "acme/none", "remote": True}).status_code == 404
    assert client.post("/api/show", json={"model": "acme/chat"}).status_code == 404, "it is not here"
