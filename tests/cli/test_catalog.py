"""The catalog's estimates, by hand, and what is listed."""

import json
import stat
from pathlib import Path

import pytest

from hugging_llama.store.safetensors_header import read_tensors
from hugging_llama_cli import machine_memory
from hugging_llama_cli.machine_memory import MachineMemory
from hugging_llama_cli.model_catalog import DEFAULT_CONTEXT, CatalogModel, load_catalog
from hugging_llama_config.model_memory import Runtime, cache_tokens, estimate
from hugging_llama_config.model_size import model_size
from tests.cli.conftest import Invoke

_DTYPE_BYTES = {"bfloat16": 2, "float32": 4}


@pytest.fixture
def models() -> dict[str, CatalogModel]:
    return {model.id: model for model in load_catalog()}


def test_estimates_by_hand(models: dict[str, CatalogModel]) -> None:
    # 8.19e9 parameters in two bytes; 36 layers x 8 heads x 128 x (key and value) x 2 bytes = 147456 a token
    qwen = models["Qwen/Qwen3-8B"]
    assert qwen.kv_bytes_per_token == 147_456
    memory = qwen.memory(4096)
    assert memory.weights_bytes == 16_381_470_720
    assert memory.kv_cache_bytes == 147_456 * cache_tokens(4096)
    assert memory.total_bytes == memory.weights_bytes + memory.kv_cache_bytes + memory.overhead_bytes
    assert qwen.memory(100_000) == qwen.memory(40_960), "no more than the model's own context"
    # 32 layers x 8 heads x 128
    llama = models["meta-llama/Llama-3.1-8B-Instruct"].memory(8192)
    assert (llama.weights_bytes, llama.kv_cache_bytes) == (16_060_522_496, 131_072 * cache_tokens(8192))
    # an encoder keeps nothing
    minilm = models["sentence-transformers/all-MiniLM-L6-v2"].memory()
    assert (minilm.weights_bytes, minilm.kv_cache_bytes, minilm.num_ctx) == (22_713_216 * 4, 0, 256)


def test_entries_are_consistent(models: dict[str, CatalogModel]) -> None:
    assert 25 <= len(models) <= 40
    for model in models.values():
        assert model.kind in ("chat", "embedding")
        assert model.weight_bytes[model.dtype] == model.parameters * _DTYPE_BYTES[model.dtype]
        assert model.context > 0
        assert model.license
        if model.kind == "chat":
            assert model.kv_bytes_per_token > 0
    assert {model.id.partition("/")[0] for model in models.values() if model.gated} == {"google", "meta-llama"}


def test_the_demo_entry_agrees_with_the_bundled_model(models: dict[str, CatalogModel]) -> None:
    folder = Path(__file__).parents[2] / "app" / "hugging_llama" / "demo_model"
    config = json.loads((folder / "config.json").read_text())
    demo = models["hugging-llama/demo"]
    assert (demo.layers, demo.kv_heads, demo.head_dim, demo.context, demo.hidden, demo.intermediate) == (
        config["num_hidden_layers"], config["num_key_value_heads"], config["head_dim"],
        config["max_position_embeddings"], config["hidden_size"], config["intermediate_size"],
    )  # fmt: skip
    assert (demo.vocab, demo.tied) == (config["vocab_size"], config["tie_word_embeddings"])
    tensors = read_tensors(str(folder / "model.safetensors"))
    assert demo.memory() == estimate(model_size(config, tensors, is_embedding=False), Runtime(), DEFAULT_CONTEXT)
    weights = folder / "model.safetensors"
    header_bytes = 8 + int.from_bytes(weights.read_bytes()[:8], "little")
    assert demo.weight_bytes["bfloat16"] == weights.stat().st_size - header_bytes


def test_memory_limits_the_list(invoke: Invoke) -> None:
    code, out, err = invoke("catalog", "--memory", "24GB")
    assert code == 0
    assert err == "Models that fit 24 GB (--memory), estimated for a context of 4096 tokens\n"
    assert out.startswith("NAME  ")
    assert "\nQwen/Qwen3-8B                                8.2B      18.2 GB    40960      apache-2.0\n" in out
    assert "Llama-3.3-70B" not in out
    sizes = [float(line.split(" GB")[0].split()[-1]) for line in out.splitlines()[1:]]
    assert sizes == sorted(sizes)
    assert sizes[-1] <= 24
    assert "Llama-3.3-70B" in invoke("catalog", "--all")[1]
    assert invoke("catalog", "--memory", "0.1GB")[1] == "NAME    PARAMS    MEMORY    CONTEXT    LICENSE    NOTES\n"


def test_json_and_context(invoke: Invoke) -> None:
    listed = json.loads(invoke("catalog", "--memory", "3GB", "--json", "--context", "8192")[1])
    assert {"id", "parameters", "memory_bytes", "gated", "license"} <= set(listed[0])
    assert all(entry["memory_bytes"] <= 3 * 10**9 for entry in listed)
    small = next(entry for entry in listed if entry["id"] == "HuggingFaceTB/SmolLM2-135M-Instruct")
    assert 134_515_008 * 2 + 30 * 3 * 64 * 2 * 2 * 8192 < small["memory_bytes"] < 1.3e9


def _fake_nvidia_smi(folder: Path, script: str) -> None:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_the_largest_gpu_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    _fake_nvidia_smi(tmp_path, "echo '8192, Small'; echo '24564, NVIDIA GeForce RTX 4090'; echo '[N/A], Odd'")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert machine_memory.machine_memory() == MachineMemory(24564 * 2**20, "NVIDIA GeForce RTX 4090", "cuda")
    assert invoke("catalog")[2].startswith("Models that fit 25 GB (NVIDIA GeForce RTX 4090)")


@pytest.mark.parametrize("script", ["exit 9", "exec sleep 60", "echo nonsense"])
def test_without_a_gpu_main_memory_counts(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_nvidia_smi(tmp_path, script)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(machine_memory, "_TIMEOUT_S", 0.3)
    found = machine_memory.machine_memory()
    assert found is not None
    assert found.owner in ("this machine", "this container")
    assert found.num_bytes > 10**8
