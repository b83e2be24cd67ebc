"""/api/show on the wire."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from hugging_llama.errors import EngineDiedError
from hugging_llama.neutral.events import EngineStatus
from hugging_llama.store.safetensors_header import read_tensors
from hugging_llama.testing import ScriptedEngine
from hugging_llama_config.model_size import StoredTensor
from tests.functional.conftest import MakeClient
from tests.hub_cache import MINILM, add_to_hub_cache
from tests.store.models import safetensors

DEMO = "hugging-llama/demo"
LICENSE = 'Do what you like,\nbut "quote" me.\n'
CARD = "---\nlanguage: en\nlicense: other\nlicense_name: our-own\n---\n# A model\nlicense: not-this\n"


def _show(make_client: MakeClient, body: dict[str, Any], **options: Any) -> dict[str, Any]:
    client, _ = make_client(**options)
    response = client.post("/api/show", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.get_json()
    return answer


@pytest.fixture
def odd_cache(tmp_path: Path) -> Path:
    """A cache with `acme/odd`: a vision model's configuration, several ends, a licence."""
    files = tmp_path / "odd"
    files.mkdir()
    text = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_local_experts": 8}
    config = {
        "model_type": "odd_vl", "architectures": ["OddForConditionalGeneration"], "eos_token_id": [7, 8],
        "text_config": text | {"num_experts_per_tok": 2, "rope_scaling": {"rope_theta": 5e5}, "rms_norm_eps": 1e-5},
    }  # fmt: skip
    (files / "config.json").write_text(json.dumps(config))
    (files / "tokenizer.json").write_text("{}")
    (files / "generation_config.json").write_text('{"temperature": 1.0, "top_p": 0.123456789, "top_k": 20}')
    (files / "model.safetensors").write_bytes(safetensors({"a.weight": ("BF16", (64, 64)), "n": ("F32", (64,))}))
    (files / "LICENSE").write_text(LICENSE)
    (files / "README.md").write_text(CARD)
    cache = tmp_path / "odd-cache"
    add_to_hub_cache(cache, "acme/odd", files)
    return cache


def test_all_that_the_demo_model_says(make_client: MakeClient) -> None:
    answer = _show(make_client, {"model": DEMO})
    assert list(answer) == [
        "license", "modelfile", "parameters", "template", "details", "model_info", "capabilities", "tool_format",
        "thinking_tags", "modified_at", "memory",
    ]  # fmt: skip
    assert answer["license"] == "apache-2.0"
    assert "<|im_start|>" in answer["template"]
    assert answer["details"]["family"] == "llama"
    info = answer["model_info"]
    assert info["general.architecture"] == "llama"
    assert (info["llama.context_length"], info["llama.embedding_length"], info["llama.block_count"]) == (2048, 256, 5)
    assert (info["llama.attention.head_count"], info["llama.attention.head_count_kv"]) == (8, 4)
    assert info["general.parameter_count"] == 3_721_984
    assert (info["llama.rope.freq_base"], info["llama.rope.dimension_count"]) == (1_000_000.0, 32)
    assert (info["tokenizer.ggml.model"], info["tokenizer.ggml.tokens"], info["tokenizer.ggml.merges"]) == (
        "gpt2",
        [],
        [],
    )
    assert answer["capabilities"] == ["completion", "tools", "thinking"]
    assert (answer["tool_format"], answer["thinking_tags"]) == ("hermes", ["<think>", "</think>"])
    assert answer["parameters"].splitlines()[0] == "temperature" + " " * 20 + "0.3"


@pytest.mark.parametrize(
    ("template", "tool_format", "tags"),
    [
        ("{{ messages }}", None, None),
        ("{{ tools }}<|channel|>", "harmony", ["<|channel|>analysis<|message|>", "<|end|>"]),
        ("{{ tools }}[TOOL_CALLS][THINK]", "mistral", ["[THINK]", "[/THINK]"]),
    ],
)
def test_how_calls_and_reasoning_are_told_from_text(
    make_client: MakeClient, odd_cache: Path, template: str, tool_format: str | None, tags: list[str] | None
) -> None:
    (snapshot,) = odd_cache.glob("models--acme--odd/snapshots/*")
    (snapshot / "chat_template.jinja").write_text(template)
    answer = _show(make_client, {"model": "acme/odd"}, hub_cache=odd_cache)
    assert (answer.get("tool_format"), answer.get("thinking_tags")) == (tool_format, tags)
    (snapshot / "tokenizer_config.json").write_text('{"response_template": {"fields": {"tool_calls": {}}}}')
    answer = _show(make_client, {"model": "acme/odd"}, hub_cache=odd_cache)
    assert answer.get("tool_format") == (tool_format and "response_template")


def test_verbose_has_the_tokens_and_the_tensors(make_client: MakeClient) -> None:
    answer = _show(make_client, {"model": DEMO, "verbose": True})
    info = answer["model_info"]
    assert len(info["tokenizer.ggml.tokens"]) == len(info["tokenizer.ggml.token_type"]) == info["llama.vocab_size"]
    assert all(" " in merge for merge in info["tokenizer.ggml.merges"])
    assert sum(math.prod(tensor["shape"]) for tensor in answer["tensors"]) == info["general.parameter_count"]


def test_headers_are_read_once(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = make_client()
    client.post("/api/show", json={"model": DEMO})
    read: list[str] = []

    def noted(path: str) -> list[StoredTensor]:
        read.append(path)
        return read_tensors(path)

    monkeypatch.setattr("hugging_llama.store.safetensors_header.read_tensors", noted)
    assert client.post("/api/show", json={"model": DEMO}).status_code == 200
    assert read == []
    assert client.post("/api/show", json={"model": DEMO, "verbose": True}).get_json()["tensors"]
    assert len(read) == 1, "for the list that was asked for"


def test_an_embedding_model(make_client: MakeClient) -> None:
    answer = _show(make_client, {"model": MINILM})
    assert answer["capabilities"] == ["embedding"]
    assert answer["model_info"]["bert.pooling_type"] == 1
    assert answer["model_info"]["bert.attention.key_length"] == 32
    assert not any("rope" in key for key in answer["model_info"]), "its positions are learned"
    assert answer["memory"]["kv_cache"] == 0
    assert answer["memory"]["weights"] == pytest.approx(90_852_864, rel=0.01)
    assert "parameters" not in answer


def test_odd_files(make_client: MakeClient, odd_cache: Path) -> None:
    answer = _show(make_client, {"name": "acme/odd", "model": ""}, hub_cache=str(odd_cache))
    info = answer["model_info"]
    assert info["general.architecture"] == "odd_vl"
    assert info["odd_vl.embedding_length"] == 64
    assert info["odd_vl.attention.key_length"] == 16
    assert (info["odd_vl.expert_count"], info["odd_vl.expert_used_count"]) == (8, 2)
    assert info["odd_vl.rope.freq_base"] == 500_000.0
    assert info["tokenizer.ggml.eos_token_id"] == 7
    assert "odd_vl.context_length" not in info
    assert answer["license"] == LICENSE.strip()
    assert answer["parameters"].splitlines() == [
        f"{'temperature':<30} 1",
        f"{'top_k':<30} 20",
        f"{'top_p':<30} 0.123456789",
    ]
    modelfile = answer["modelfile"]
    assert modelfile.startswith('# Modelfile generated by "ollama show"')
    assert "\nFROM acme/odd:latest\n" in modelfile
    assert f'\nLICENSE """{LICENSE.strip()}"""\n' in modelfile


def test_the_card_names_the_licence_where_there_is_no_text(make_client: MakeClient, odd_cache: Path) -> None:
    next(odd_cache.glob("**/LICENSE")).unlink()
    assert _show(make_client, {"model": "acme/odd"}, hub_cache=str(odd_cache))["license"] == "our-own"


def test_tensors_are_listed_when_asked_for(make_client: MakeClient, odd_cache: Path) -> None:
    answer = _show(make_client, {"model": "acme/odd", "verbose": True}, hub_cache=str(odd_cache))
    assert answer["tensors"] == [
        {"name": "a.weight", "type": "BF16", "shape": [64, 64]}, {"name": "n", "type": "F32", "shape": [64]}
    ]  # fmt: skip


def test_system_and_options_lie_over_what_the_model_has(make_client: MakeClient) -> None:
    options = {"temperature": 0.5, "stop": ["a", "b c"], "num_ctx": 1000, "unheard_of": 5, "seed": None}
    answer = _show(make_client, {"model": DEMO, "system": "Be brief.", "options": options})
    assert answer["system"] == "Be brief."
    modelfile = answer["modelfile"]
    for line in ("SYSTEM Be brief.", "PARAMETER temperature 0.5", "PARAMETER stop a", "PARAMETER stop b c"):
        assert f"\n{line}\n" in modelfile
    assert f'{"stop":<30} "b c"' in answer["parameters"].splitlines()
    assert "unheard_of" not in modelfile
    assert "seed" not in modelfile
    assert answer["memory"]["num_ctx"] == 1000


def test_memory_adds_up_and_follows_the_context(make_client: MakeClient) -> None:
    small = _show(make_client, {"model": DEMO, "options": {"num_ctx": 256}})["memory"]
    large = _show(make_client, {"model": DEMO})["memory"]
    assert list(large) == ["weights", "kv_cache", "overhead", "total", "num_ctx"]
    assert large["total"] == large["weights"] + large["kv_cache"] + large["overhead"]
    assert large["weights"] == 8_492_544
    assert (small["num_ctx"], large["num_ctx"]) == (256, 2048)
    assert small["kv_cache"] < large["kv_cache"]
    limited = _show(make_client, {"model": DEMO}, kv_cache_bytes=1_000_000)["memory"]
    assert limited["kv_cache"] == 1_000_000


def test_the_engine_says_what_it_runs_on(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def status(self: ScriptedEngine, timeout_s: float) -> EngineStatus:
        return EngineStatus(pid=1, device="cuda:0", dtype="float32", context_length=512)

    monkeypatch.setattr(ScriptedEngine, "status", status)
    memory = _show(make_client, {"model": DEMO})["memory"]
    assert (memory["weights"], memory["num_ctx"]) == (2 * 7_443_968, 512)

    def dead(self: ScriptedEngine, timeout_s: float) -> EngineStatus:
        raise EngineDiedError("no engine is running")

    monkeypatch.setattr(ScriptedEngine, "status", dead)
    assert _show(make_client, {"model": DEMO}, dtype="float32")["memory"]["weights"] == 2 * 8_492_544
    assert _show(make_client, {"model": DEMO}, context_length=300)["memory"]["num_ctx"] == 300


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"model": "foo"}, 404, "model 'foo:latest' not found"),
        ({"name": "acme/nothing:v2"}, 404, "model 'acme/nothing:v2' not found"),
        ({}, 400, "model is required"),
        ({"model": "a b"}, 400, "invalid model name"),
        ({"model": 5}, 400, "json: cannot unmarshal number into Go struct field ShowRequest.model of type string"),
        ({"model": DEMO, "options": {"num_ctx": "x"}}, 400, 'option "num_ctx" must be of type integer'),
    ],
)
def test_errors(make_client: MakeClient, body: dict[str, Any], status: int, error: str) -> None:
    client, _ = make_client()
    response = client.post("/api/show", json=body)
    assert (response.status_code, response.get_json()["error"]) == (status, error)


def test_copilot_is_shown_the_name_it_asked_for(make_client: MakeClient) -> None:
    client, _ = make_client()
    headers = {"User-Agent": "GitHubCopilotChat/0.30"}
    answer = client.post("/api/show", json={"model": "demo"}, headers=headers).get_json()
    assert answer["model_info"]["general.basename"] == "demo"
    answer = client.post("/api/show", json={"model": "hf.co/hugging-llama/demo"}, headers=headers).get_json()
    assert answer["model_info"]["general.basename"] == "hf.co/hugging-llama/demo"
