"""The estimate against what a real engine process really takes, models of many shapes and their caches included."""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    DeepseekV2Config,
    DeepseekV2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from hugging_llama.client.remote import RemoteEngine
from hugging_llama.engine.loader import Loader
from hugging_llama.neutral.models import ModelRef
from hugging_llama.neutral.requests import EmbedRequest, GenerateRequest, LoadRequest, SamplingParams, TextPrompt
from hugging_llama_config.model_memory import MemoryEstimate, estimate
from hugging_llama_config.settings import Settings
from tests.engine.checkpoints import DEMO, byte_tokenizer
from tests.process.servers import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a process's memory is read from /proc")

_TOLERANCE = 0.15
_WAIT_S = 120.0
_NO_IDS: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}

MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32000, hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12,
            num_key_value_heads=4, max_position_embeddings=4096, tie_word_embeddings=False, **_NO_IDS,
        )
    ),
    "qwen2": lambda: Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=60000, hidden_size=512, intermediate_size=1536, num_hidden_layers=8, num_attention_heads=8,
            num_key_value_heads=2, max_position_embeddings=4096, tie_word_embeddings=True, **_NO_IDS,
        )
    ),
    "gemma3": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(
            vocab_size=100000, hidden_size=512, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=4,
            num_key_value_heads=1, head_dim=256, max_position_embeddings=4096, sliding_window=512, **_NO_IDS,
        )
    ),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=30000, n_embd=512, n_layer=8, n_head=8, n_positions=2048, **_NO_IDS)
    ),
    "deepseek_v2": lambda: DeepseekV2ForCausalLM(
        DeepseekV2Config(
            vocab_size=20000, hidden_size=512, intermediate_size=1536, num_hidden_layers=6, num_attention_heads=8,
            num_key_value_heads=8, kv_lora_rank=128, q_lora_rank=None, qk_nope_head_dim=64, qk_rope_head_dim=32,
            v_head_dim=64, first_k_dense_replace=6, max_position_embeddings=4096, tie_word_embeddings=False, **_NO_IDS,
        )
    ),
    "bert": lambda: BertModel(
        BertConfig(
            vocab_size=300, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072
        )
    ),
}  # fmt: skip


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A checkpoint with random weights, hundreds of megabytes that don't outlive the test."""
    name, dtype = request.param
    with tempfile.TemporaryDirectory(prefix="hl-model-") as path, torch.random.fork_rng(devices=[]):
        MODELS[name]().to(getattr(torch, dtype)).save_pretrained(path)
        byte_tokenizer(template=None).save_pretrained(path)
        yield Path(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "dtype", "context"),
    [
        (("llama", "bfloat16"), "bfloat16", 2048),
        (("qwen2", "float32"), "float32", 1024),
        (("qwen2", "float32"), "bfloat16", 512),
        (("gemma3", "bfloat16"), "bfloat16", 3000),
        (("gpt2", "float32"), "float32", 1024),
        (("deepseek_v2", "bfloat16"), "bfloat16", 2048),
        (("bert", "float32"), "bfloat16", 512),
    ],
    indirect=["folder"],
)
def test_the_estimate_is_what_a_full_model_takes(folder: Path, dtype: str, context: int) -> None:
    _compare(folder, dtype, context)


@pytest.mark.slow
def test_the_estimate_of_the_demo_model(tmp_path: Path) -> None:
    _compare(Path(shutil.copytree(DEMO, tmp_path / "demo")), "bfloat16", 2048)


def _compare(folder: Path, dtype: str, context: int) -> None:
    with tempfile.TemporaryDirectory(prefix="hl-") as run_dir:
        settings = Settings(
            run_dir=run_dir, device="cpu", dtype=dtype, context_length=context, standby_engine=False, num_threads=1
        )
        size, runtime = Loader(settings).measure(str(folder))
        expected = estimate(size, runtime, context)
        with contextlib.closing(RemoteEngine(settings)) as engine:
            measured = _resident_bytes(engine, ModelRef(name="model", path=str(folder)), expected)
    print(f"\n{folder.name} {dtype} {context}: {expected}, {expected.total_bytes / 1e6:.0f} MB, "
          f"measured {measured / 1e6:.0f} MB, ratio {expected.total_bytes / measured:.3f}")  # fmt: skip
    assert expected.total_bytes == pytest.approx(measured, rel=_TOLERANCE)


def _resident_bytes(engine: RemoteEngine, ref: ModelRef, expected: MemoryEstimate) -> int:
    """What the engine's process has in memory while the model works on a long context, its cache allocated."""
    text = "a" * (expected.num_ctx * 7 // 10)
    if not expected.kv_cache_bytes:
        list(engine.load(LoadRequest(model=ref)))
        # while a model is loaded the pages of its files count too, which the system drops when it needs memory
        Path(f"/proc/{engine.status(_WAIT_S).pid}/clear_refs").write_text("5")  # resets the peak
        list(engine.embed(EmbedRequest(model=ref, inputs=(text,))))
        return _memory_of(engine.status(_WAIT_S).pid, "VmHWM")
    list(engine.load(LoadRequest(model=ref)))
    call = GenerateRequest(
        model=ref,
        prompt=TextPrompt(text=text),
        sampling=SamplingParams(temperature=0.0, min_tokens=10**6),
        context_length=expected.num_ctx,
    )
    stream = engine.generate(call)
    wait_until(lambda: engine.status(_WAIT_S).output_tokens_total > 0, _WAIT_S)
    pid = engine.status(_WAIT_S).pid
    resident = _memory_of(pid, "VmRSS")
    assert engine.status(_WAIT_S).num_running, "the sequence ended before it was measured"
    stream.close()
    return resident


def _memory_of(pid: int, what: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(f"{what}:"))
    return int(line.split()[1]) * 1024
