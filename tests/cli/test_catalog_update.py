"""`catalog --update` against a stand-in Hub."""

import json
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hugging_llama_cli import model_catalog
from hugging_llama_cli.model_catalog import CatalogModel, load_catalog
from tests.cli.conftest import Invoke
from tests.hub_server import Repo, StandInHub

SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
QWEN = "Qwen/Qwen3-0.6B"
_LAYERS, _HIDDEN, _VOCAB = 30, 576, 49_152
_CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": _HIDDEN,
    "intermediate_size": 1536,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "vocab_size": _VOCAB,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}


def _weights(tensors: dict[str, Any], dtype: str = "BF16") -> bytes:
    """The beginning of a weight file: no more of it is ever read."""
    header = {name: {"dtype": dtype, "shape": shape, "data_offsets": [0, 0]} for name, shape in tensors.items()}
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    return struct.pack("<Q", len(text)) + text + b"weights"


def _smol_tensors(layers: range = range(_LAYERS)) -> dict[str, Any]:
    shapes = {"q": [576, 576], "k": [192, 576], "v": [192, 576], "o": [576, 576]}
    mlp = {"gate": [1536, 576], "up": [1536, 576], "down": [576, 1536]}
    tensors: dict[str, Any] = {}
    for i in layers:
        tensors |= {f"model.layers.{i}.self_attn.{name}_proj.weight": shape for name, shape in shapes.items()}
        tensors |= {f"model.layers.{i}.mlp.{name}_proj.weight": shape for name, shape in mlp.items()}
        tensors |= {f"model.layers.{i}.{norm}.weight": [576] for norm in ("input_layernorm", "post_layernorm")}
    return tensors


def _smol_files(**config: Any) -> dict[str, bytes]:
    first = _weights({"model.embed_tokens.weight": [_VOCAB, _HIDDEN], **_smol_tensors(range(10))})
    second = _weights({**_smol_tensors(range(10, _LAYERS)), "model.norm.weight": [_HIDDEN]})
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    return {
        "config.json": json.dumps(_CONFIG | config).encode(),
        "model.safetensors.index.json": json.dumps({"weight_map": {"a": names[0], "b": names[1]}}).encode(),
        names[0]: first,
        names[1]: second,
        "original/model.safetensors": b"not asked for",
    }


@pytest.fixture
def hub() -> Iterator[StandInHub]:
    with StandInHub() as hub:
        hub.repos[SMOL] = Repo(_smol_files())
        yield hub


@pytest.fixture
def home(tmp_path: Path, hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    home = tmp_path / "home"
    monkeypatch.setenv("HUGGING_LLAMA_HOME", str(home))
    return home


def _entry(home: Path, id: str) -> CatalogModel:
    return next(model for model in load_catalog(home) if model.id == id)


def test_an_update_measures_what_the_hub_has(invoke: Invoke, hub: StandInHub, home: Path) -> None:
    packaged = _entry(home, SMOL)
    code, out, err = invoke("catalog", "--update", "--memory", "24GB")
    assert code == 0
    commit = hub.repos[SMOL].commit
    assert f"\n{SMOL}: commit {commit[:7]}" in err
    assert f"{QWEN} needs a token" in err
    assert "1 of 39 models are as the Hub has them now" in err
    assert out.startswith("NAME  ")
    found = _entry(home, SMOL)
    assert (found.commit, found.parameters, found.dtype) == (commit, packaged.parameters, "bfloat16")
    assert found.memory(4096).weights_bytes == packaged.memory(4096).weights_bytes
    assert found.memory(4096).kv_cache_bytes == packaged.memory(4096).kv_cache_bytes
    assert _entry(home, QWEN) == next(model for model in load_catalog() if model.id == QWEN)
    # of weights no more than their headers, and nothing twice
    assert not hub.requests("original/")
    listed = json.loads(invoke("catalog", "--all", "--json")[1])
    assert next(entry["commit"] for entry in listed if entry["id"] == SMOL) == commit
    before = len(hub.seen)
    assert f"{SMOL}: unchanged" in invoke("catalog", "--update", "--all")[2]
    assert not [seen for seen in hub.seen[before:] if "/resolve/" in seen.path]


def test_an_update_says_what_changed(invoke: Invoke, hub: StandInHub, home: Path) -> None:
    invoke("catalog", "--update", "--all")
    old = hub.repos[SMOL].commit
    hub.repos[SMOL] = Repo(_smol_files(max_position_embeddings=16_384))
    err = invoke("catalog", "--update", "--all")[2]
    assert f"{SMOL}: commit {old[:7]} -> {hub.repos[SMOL].commit[:7]}, context 8192 -> 16384\n" in err


def test_an_encoder_has_the_context_of_its_sentences(invoke: Invoke, hub: StandInHub, home: Path) -> None:
    tensors: dict[str, Any] = {"embeddings.word_embeddings.weight": [30_522, 384]}
    for i in range(6):
        names = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
        tensors |= {f"encoder.layer.{i}.{name}.weight": [384, 384] for name in names}
        tensors |= {f"encoder.layer.{i}.intermediate.dense.weight": [1536, 384]}
        tensors |= {f"encoder.layer.{i}.output.dense.weight": [384, 1536]}
    config = {"model_type": "bert", "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6,
              "num_attention_heads": 12, "vocab_size": 30_522, "max_position_embeddings": 512}  # fmt: skip
    files = {
        "config.json": json.dumps(config).encode(),
        "sentence_bert_config.json": b'{"max_seq_length": 256}',
        "model.safetensors": _weights(tensors, "F32"),
    }
    hub.repos[MINILM] = Repo(files)
    invoke("catalog", "--update", "--all")
    found = _entry(home, MINILM)
    assert (found.dtype, found.size.context_length, found.size.is_embedding) == ("float32", 256, True)
    assert found.size.kv_per_token == found.size.head == 0


@pytest.mark.parametrize(
    ("pattern", "body"),
    [
        ("/revision/", b"<html>"),
        ("/revision/", b"[]"),
        ("/revision/", json.dumps({"id": SMOL, "sha": "../../etc", "siblings": []}).encode()),
        ("/revision/", json.dumps({"id": "else/where", "sha": "0" * 40, "siblings": []}).encode()),
        ("/revision/", json.dumps({"id": SMOL, "sha": "0" * 40, "siblings": "none"}).encode()),
        ("/revision/", b"[" * 100_000),
        ("config.json", b"{}"),
        ("config.json", json.dumps(_CONFIG | {"num_hidden_layers": -1, "vocab_size": 2**80}).encode()),
        ("index.json", b'{"weight_map": {"a": "../x.safetensors"}}'),
        ("index.json", b'{"weight_map": 5}'),
        ("00001-of-00002", b"\xff" * 40),
        ("00001-of-00002", struct.pack("<Q", 200) + b"{}"),
        ("00001-of-00002", _weights({"a": [2**39, 2**39]})),
        ("00001-of-00002", _weights({"a": [-1]})),
        ("00001-of-00002", struct.pack("<Q", 2) + b"{}"),
    ],
)
def test_a_bad_answer_replaces_nothing(pattern: str, body: bytes, invoke: Invoke, hub: StandInHub, home: Path) -> None:
    invoke("catalog", "--update", "--all")
    before, kept = _entry(home, SMOL), (home / "catalog.json").read_bytes()
    hub.repos[SMOL] = Repo(_smol_files(changed=True))
    hub.fault(f"{SMOL}.*{pattern}", "body", body, times=9)
    code, _, err = invoke("catalog", "--update", "--all")
    assert (code, err.splitlines()[-1][:5]) == (1, "Error"), err
    assert next(line for line in err.splitlines() if line.startswith(SMOL)).count(" ") > 3
    assert _entry(home, SMOL) == before
    assert (home / "catalog.json").read_bytes() == kept
    assert [path.name for path in home.iterdir()] == ["catalog.json"]


def test_a_hub_that_is_not_there(invoke: Invoke, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    code, out, err = invoke("catalog", "--update")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == (
        "Error: the Hub at http://127.0.0.1:1 described no model; the catalog stays as it was"
    )
    assert len(err.splitlines()) == 2, "it is asked once"
    assert not home.exists()


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_mode_asks_nobody(
    variable: str, invoke: Invoke, hub: StandInHub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    code, out, err = invoke("catalog", "--update", "--all")
    host = hub.endpoint.removeprefix("http://")
    assert (code, out) == (1, "")
    assert err == f"Error: offline mode is on (HF_HUB_OFFLINE is set): {host} is not contacted\n"
    assert not hub.seen
    assert not home.exists()
    assert invoke("catalog", "--all")[0] == 0, "what is known goes on being shown"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"version": 2, "models": {}}',
        '{"version": 1, "models": 5}',
        '{"version": 1, "models": {"%s": {"size": {}}}}',
        '{"version": 1, "models": {"%s": 5}}',
    ],
)
def test_a_file_that_makes_no_sense_is_not_there(text: str, tmp_path: Path) -> None:
    (tmp_path / "catalog.json").write_text(text.replace("%s", SMOL))
    assert load_catalog(tmp_path) == load_catalog()


def test_a_write_that_fails_leaves_the_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = [replace(model, commit="0" * 40) for model in load_catalog()]
    model_catalog.save_catalog(home, known)
    before = (home / "catalog.json").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        model_catalog.save_catalog(home, known[:1])
    assert (home / "catalog.json").read_bytes() == before
    assert [path.name for path in home.iterdir()] == ["catalog.json"]


def test_the_token_goes_to_the_hub_alone(
    invoke: Invoke, hub: StandInHub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    hub.repos[SMOL] = Repo(_smol_files(), access="gated")
    assert f"{SMOL}: commit" in invoke("catalog", "--update", "--all")[2]
    assert {seen.authorization for seen in hub.requests("/_cdn/")} == {""}
    assert {seen.authorization for seen in hub.requests("/api/")} == {"Bearer hf_good"}
