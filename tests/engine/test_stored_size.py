"""What the headers and config.json say of a model's memory, against the model that is made of them."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hugging_llama.engine.attention import ATTENTION_NAME
from hugging_llama.engine.kv_cache import KVCache, LayerShape, bytes_per_token
from hugging_llama.engine.loader import Loader
from hugging_llama.engine.model_runner import ModelRunner
from hugging_llama.engine.stored_size import stored_size
from hugging_llama.engine.vetting import vet
from hugging_llama.errors import ModelLoadError
from hugging_llama.neutral.models import Capability
from hugging_llama.store.facts import FolderFacts
from hugging_llama_config.model_memory import Runtime, cache_tokens, estimate, least_load_bytes
from hugging_llama_config.settings import Settings
from tests.engine.checkpoints import DEMO, byte_tokenizer
from tests.engine.tiny_models import CONFIGS, make_model
from tests.hub_cache import minilm_files


@pytest.fixture(scope="module")
def loader() -> Loader:
    return Loader(Settings(device="cpu", dtype="float32"))


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_every_family(family: str, loader: Loader, tmp_path: Path) -> None:
    model = make_model(family)
    model.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    size, runtime = loader.measure(str(tmp_path))
    found = estimate(size, runtime, 1000)
    assert found.weights_bytes == sum(parameter.numel() * 4 for parameter in model.parameters())
    model.set_attn_implementation(ATTENTION_NAME)
    runner = ModelRunner(model)
    shapes = runner.probe().shapes
    assert size.kv_per_token * 4 == bytes_per_token(shapes, torch.float32)
    cache = KVCache(shapes, dtype=torch.float32, device=torch.device("cpu"), capacity_tokens=1 << 14)
    assert cache.allocate(1000)
    assert found.kv_cache_bytes == cache.size_bytes(cache.allocated_tokens)


@pytest.mark.parametrize("num_sequences", [1, 3, 9])
@pytest.mark.parametrize("num_tokens", [1, 256, 257, 4000, 9000])
def test_cache_tokens_are_those_that_the_cache_allocates(num_tokens: int, num_sequences: int) -> None:
    layers = {0: LayerShape(1, 1, 1)}
    cache = KVCache(layers, dtype=torch.float32, device=torch.device("cpu"), capacity_tokens=1 << 20)
    for _ in range(num_sequences):
        assert cache.allocate(num_tokens)
    assert cache_tokens(num_tokens, num_sequences) == cache.allocated_tokens


def test_engine_and_store_say_the_same(loader: Loader) -> None:
    for folder, capability in ((DEMO, Capability.COMPLETION), (minilm_files(), Capability.EMBEDDING)):
        size, runtime = loader.measure(str(folder))
        facts = FolderFacts().of(str(folder))
        assert facts is not None
        assert capability in facts.capabilities
        # the engine estimates by the limit of config.json, also where sentence-transformers has a lower one
        assert dataclasses.replace(facts.size, context_length=size.context_length) == size
        assert size.is_embedding == (capability is Capability.EMBEDDING)
        assert estimate(size, runtime, 512).weights_bytes > 0


def _demo_size(**config: Any) -> Any:
    files = vet(str(DEMO))
    files.config.update(config)
    return stored_size(files, is_embedding=False, has_head=True)


def test_dtype_quantisation_and_packing_change_the_weights() -> None:
    size = _demo_size()
    parameters = size.linear + size.other
    assert parameters == 3_721_984
    assert size.is_head_tied
    assert size.head == 2048 * 256

    def weights(**runtime: Any) -> int:
        return estimate(size, Runtime(**runtime), 2048).weights_bytes

    assert weights(dtype="float32") == parameters * 4
    assert weights(packs_linears=True) == (parameters + size.head) * 2, "a tied head is packed into a copy"
    assert weights(quantization="int8") == size.linear + size.other * 2
    assert weights(quantization="int8", packs_linears=True) == size.linear + size.head + size.other * 2
    assert weights(quantization="int8") < weights(quantization="int4") < weights(dtype="bfloat16")
    with pytest.raises(KeyError):
        weights(dtype="nonsense")


def test_the_parts_add_up_and_the_context_is_limited() -> None:
    size = _demo_size()
    found = estimate(size, Runtime(), 100_000)
    assert found.num_ctx == 2048
    assert found.kv_cache_bytes == 8192 * 5 * 2 * 4 * 32 * 2
    assert found.total_bytes == found.weights_bytes + found.kv_cache_bytes + found.overhead_bytes
    assert found.load_bytes == found.total_bytes - found.runtime_bytes
    assert least_load_bytes(size, Runtime()) < found.load_bytes
    assert estimate(size, Runtime(), 2048, num_sequences=5).kv_cache_bytes == 2 * found.kv_cache_bytes


@pytest.mark.parametrize(
    "config",
    [
        {"hidden_size": "x", "num_hidden_layers": None}, {"num_attention_heads": 0}, {"vocab_size": -5},
        {"layer_types": [[], None, 5]}, {"text_config": []}, {"head_dim": 1e300}, {"kv_lora_rank": 8},
        {"num_hidden_layers": True}, {"max_position_embeddings": "long"},
    ],
)  # fmt: skip
def test_a_configuration_without_sense_raises_nothing(config: dict[str, Any]) -> None:
    assert estimate(_demo_size(**config), Runtime(), 512).total_bytes > 0


def test_layers_without_attention_have_no_keys() -> None:
    mixed = {"layer_types": ["linear_attention", "full_attention", "linear_attention", "conv", "sliding_attention"]}
    assert _demo_size(**mixed).kv_per_token == 2 * 2 * 4 * 32
    assert _demo_size(attn_layer_period=2, attn_layer_offset=1).kv_per_token == 2 * 2 * 4 * 32
    heads = {"linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 16}
    assert _demo_size(**mixed, **heads).state == 3 * 2 * 8 * 16


def test_damaged_weights_are_a_load_error(loader: Loader, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}))
    (tmp_path / "model.safetensors").write_bytes(b"nonsense" * 10)
    with pytest.raises(ModelLoadError):
        loader.measure(str(tmp_path))


_WITHOUT_MEMORY = """
import os, resource, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from hugging_llama.engine.lora.files import _tensors
from hugging_llama.engine.stored_size import stored_size
from hugging_llama.engine.vetting import vet
folder = Path(sys.argv[1])
save_file({"a": torch.zeros(10 * 2**18)}, folder / "model.safetensors")
files = vet(str(folder))
stored_size(files, is_embedding=False, has_head=True)
before = len(os.listdir("/proc/self/fd"))
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * os.sysconf("SC_PAGE_SIZE") + 14 * 2**20  # the file once, and not twice
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
for _ in range(20):
    stored_size(files, is_embedding=False, has_head=True)
    _tensors(folder / "model.safetensors")
print(len(os.listdir("/proc/self/fd")) - before)
"""


def test_headers_that_are_read_without_memory_leave_no_file_open(tmp_path: Path) -> None:
    """torch maps a file that it opens, and forgets to close it where there is no memory for that."""
    folder = tmp_path / "model"
    shutil.copytree(DEMO, folder, ignore=shutil.ignore_patterns("*.safetensors*"))
    command = [sys.executable, "-c", _WITHOUT_MEMORY, str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout) == (0, "0\n"), ended.stderr[-500:]
