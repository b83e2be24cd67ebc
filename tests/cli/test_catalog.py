"""The catalog's estimates, by hand, and what is listed."""

import json
import re
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from hugging_llama.store.safetensors_header import read_tensors
from hugging_llama_cli import machine_memory
from hugging_llama_cli.machine_memory import MachineMemory
from hugging_llama_cli.model_catalog import DEFAULT_CONTEXT, CatalogModel, load_catalog
from hugging_llama_config.hardware import runs_native_kernels
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
        assert model.weight_bytes == model.parameters * _DTYPE_BYTES[model.dtype]
        assert model.size.context_length > 0
        assert min(model.size.linear, model.size.other) > 0
        assert model.license
        if model.kind == "chat":
            assert model.kv_bytes_per_token > 0
    assert {model.id.partition("/")[0] for model in models.values() if model.gated} == {"google", "meta-llama"}


def test_the_demo_entry_agrees_with_the_bundled_model(models: dict[str, CatalogModel]) -> None:
    folder = Path(__file__).parents[2] / "app" / "hugging_llama" / "demo_model"
    config = json.loads((folder / "config.json").read_text())
    demo = models["hugging-llama/demo"]
    tensors = read_tensors(str(folder / "model.safetensors"))
    size = model_size(config, tensors, is_embedding=False)
    # the packaged entry counts the few elements of norms as linear layers
    assert replace(demo.size, linear=size.linear, other=size.other) == size
    assert demo.size.linear + demo.size.other == size.linear + size.other
    assert demo.memory() == estimate(size, Runtime(packs_linears=True), DEFAULT_CONTEXT)
    weights = folder / "model.safetensors"
    header_bytes = 8 + int.from_bytes(weights.read_bytes()[:8], "little")
    assert demo.weight_bytes == weights.stat().st_size - header_bytes


def _fits(out: str) -> dict[str, str]:
    return {line.split()[0]: re.split(r"  +", line)[3] for line in out.splitlines()[1:]}


def test_memory_limits_the_list(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hugging_llama_cli.commands.catalog.runs_native_kernels", lambda: True)
    code, out, err = invoke("catalog", "--memory", "24GB")
    assert code == 0
    assert err == "Models that fit 24 GB (--memory), estimated for a context of 4096 tokens\n"
    assert out.startswith("NAME  ")
    row = (
        "\nQwen/Qwen3-8B                                8.2B      18.2 GB    fits              40960      apache-2.0\n"
    )
    assert row in out
    found = _fits(out)
    assert found["Qwen/Qwen3-14B"] == "fits with int8"
    assert found["Qwen/Qwen3-32B"] == "fits with int4"
    assert "meta-llama/Llama-3.3-70B-Instruct" not in found
    assert "Qwen/Qwen3-30B-A3B-Instruct-2507" not in found, "experts are not quantised"
    best_first = ["fits", "fits with int8", "fits with int4"]
    sizes = [
        (best_first.index(found[line.split()[0]]), float(line.split(" GB")[0].split()[-1]))
        for line in out.splitlines()[1:]
    ]
    assert sizes == sorted(sizes)
    assert max(size for _, size in sizes) <= 24
    everything = _fits(invoke("catalog", "--all", "--memory", "24GB")[1])
    assert everything["meta-llama/Llama-3.3-70B-Instruct"] == "does not fit"
    assert len(everything) == len(load_catalog())
    assert invoke("catalog", "--memory", "0.1GB")[1] == (
        "NAME    PARAMS    MEMORY    FIT    CONTEXT    LICENSE    NOTES\n"
    )


def test_int4_by_torch_takes_more_than_int8(models: dict[str, CatalogModel]) -> None:
    qwen = models["Qwen/Qwen3-32B"]
    taken = {
        (quantization, native): qwen.memory(runtime=qwen.runtime("cpu", quantization, has_native_linears=native))
        for quantization in ("none", "int8", "int4")
        for native in (False, True)
    }
    # linear layers and the head, 31.2 and 0.8 e9 elements, leave two bytes for one, or for a half and its scales
    matrices = qwen.parameters - 151_936 * 5_120
    saved = taken["none", True].weights_bytes - taken["int8", True].weights_bytes
    assert saved == matrices
    saved = taken["none", True].weights_bytes - taken["int4", True].weights_bytes
    assert saved == pytest.approx(matrices * (2 - 0.5625), rel=1e-6)
    assert taken["int4", False].weights_bytes > taken["int8", False].weights_bytes


def test_a_gpu_quantises_nothing(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_nvidia_smi(tmp_path, "echo '24564, NVIDIA GeForce RTX 4090'")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for memory in ((), ("--memory", "24GB")):
        found = _fits(invoke("catalog", "--all", *memory)[1])
        assert set(found.values()) == {"fits", "does not fit"}
        assert found["Qwen/Qwen3-14B"] == "does not fit"


def test_json_and_context(invoke: Invoke) -> None:
    listed = json.loads(invoke("catalog", "--memory", "3GB", "--json", "--context", "8192")[1])
    assert {"id", "parameters", "memory_bytes", "gated", "license"} <= set(listed[0])
    assert all(entry["memory_bytes"] <= 3 * 10**9 for entry in listed)
    small = next(entry for entry in listed if entry["id"] == "HuggingFaceTB/SmolLM2-135M-Instruct")
    assert 134_515_008 * 2 + 30 * 3 * 64 * 2 * 2 * 8192 < small["memory_bytes"] < 1.3e9
    assert (small["fit"], small["quantization"], small["commit"]) == ("fits", "none", None)


def test_processors_that_run_the_kernels(tmp_path: Path) -> None:
    facts = tmp_path / "cpuinfo"
    facts.write_text("flags\t\t: fpu avx512f avx512bw avx512vl avx512dq avx512_vnni avx512_bf16 amx\n" * 2)
    assert runs_native_kernels(str(facts))
    facts.write_text("flags\t\t: fpu avx2 avx512f\n")
    assert not runs_native_kernels(str(facts))
    assert not runs_native_kernels(str(tmp_path / "none"))


def _fake_nvidia_smi(folder: Path, script: str) -> None:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_the_largest_gpu_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    _fake_nvidia_smi(tmp_path, "echo '8192, Small'; echo '24564, NVIDIA GeForce RTX 4090'; echo '[N/A], Odd'")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(machine_memory, "_TIMEOUT_S", 60.0)
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
