"""On a CUDA device: the batch says what `generate` says there, with graphs and without, and a lost device ends the
process."""

import gc
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, Qwen3Config, Qwen3Model

from hugging_llama.engine import model_runner
from hugging_llama.engine.cuda_graphs import DecodeGraphs
from hugging_llama.engine.device_loss import EXIT_STATUS
from hugging_llama.engine.flash_attention import FlashAttention, FlashKernels, find_flash_attention
from hugging_llama.engine.linear.packer import LinearPacker
from hugging_llama.engine.lora.cache import AdapterCache
from hugging_llama.engine.self_test import can_host
from hugging_llama.engine.wide_attention import use_wide_attention
from hugging_llama.errors import ModelLoadError
from hugging_llama.neutral.requests import SamplingParams
from tests.engine.adapters import make_adapter, merged
from tests.engine.flash_reference import REFERENCE, flash_attn_func, flash_attn_with_kvcache
from tests.engine.harness import Inbox, make_loop, make_prompts, make_sequence, run_until
from tests.engine.tiny_models import CONFIGS, make_model

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]

NUM_TOKENS = 80
PROMPTS = make_prompts(6)


def on_cuda(name: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    model: Any = make_model(name, dtype=dtype)
    moved: PreTrainedModel = model.to("cuda")
    return moved


def generate_greedy(model: PreTrainedModel, prompt: list[int]) -> list[int]:
    ids = torch.tensor([prompt], device="cuda")
    # torch's own kernels know no softcap
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        out = model.generate(  # type: ignore[operator]
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NUM_TOKENS,
            do_sample=False,
            pad_token_id=0,
            disable_compile=True,
        )
    tokens: list[int] = out[0, len(prompt) :].tolist()
    return tokens


def run_batched(model: PreTrainedModel, *, graphs: bool) -> tuple[list[list[int]], int, bool]:
    """The tokens, how many graphs there are in the end and whether they are still on."""
    inbox = Inbox()
    loop = make_loop(model, inbox, max_num_seqs=6, max_num_batched_tokens=64)
    if graphs:
        loop._model_runner.use_graphs()
    sampling = SamplingParams(temperature=0.0, max_tokens=NUM_TOKENS)
    sequences = [make_sequence(i, prompt, sampling) for i, prompt in enumerate(PROMPTS)]
    for sequence in sequences:
        loop.submit(sequence)
    run_until(loop, inbox, len(sequences))
    held = loop._model_runner._graphs
    outputs = [sequence.output_token_ids for sequence in sequences]
    return outputs, held.num_graphs if held else 0, held is not None and held.is_on


@pytest.mark.parametrize("flash", [False, True], ids=["torch", "reference"])
@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_tokens_with_and_without_graphs(name: str, flash: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if flash:
        monkeypatch.setattr(model_runner, "find_flash_attention", lambda device, dtype: REFERENCE)
    model = on_cuda(name)
    expected = [generate_greedy(model, prompt) for prompt in PROMPTS]
    assert can_host(model) == (True, "")
    eager, _, _ = run_batched(model, graphs=False)
    # `generate` does not compute the keys anew where longrope changes its frequencies
    num_compared = 10 if name == "phi3_longrope" else NUM_TOKENS
    assert [tokens[:num_compared] for tokens in eager] == [tokens[:num_compared] for tokens in expected]
    outputs, num_graphs, is_on = run_batched(model, graphs=True)
    assert outputs == eager
    # experts are chosen on the CPU in some of their implementations
    if model_runner.rope_switch(model) is None and name not in {"qwen3_moe", "gpt_oss"}:
        assert is_on
        assert num_graphs > 0


def test_half_precision_passes_the_self_test() -> None:
    model = on_cuda("llama", torch.bfloat16)
    assert can_host(model) == (True, "")
    _, num_graphs, is_on = run_batched(model, graphs=True)
    assert is_on
    assert num_graphs > 0


def test_adapters_beside_graphs(tmp_path: Path) -> None:
    model = on_cuda("llama")
    folders = [make_adapter(tmp_path / str(seed), model, seed=seed) for seed in (1, 2)]
    models = [*(merged(model, folder) for folder in folders), model]
    expected = [generate_greedy(models[i % 3], prompt) for i, prompt in enumerate(PROMPTS)]
    assert can_host(model) == (True, "")
    cache, inbox = AdapterCache(model, budget_bytes=2**30), Inbox()
    adapters = [*(cache.take(str(folder)) for folder in folders), None]
    sampling = SamplingParams(temperature=0.0, max_tokens=NUM_TOKENS)
    loop = make_loop(model, inbox, max_num_seqs=6, max_num_batched_tokens=64)
    loop._model_runner.use_graphs()
    sequences = [make_sequence(i, prompt, sampling) for i, prompt in enumerate(PROMPTS)]
    for i, sequence in enumerate(sequences):
        sequence.adapter = adapters[i % 3]
        loop.submit(sequence)
    run_until(loop, inbox, len(sequences))
    assert [sequence.output_token_ids for sequence in sequences] == expected
    plain, num_graphs, _ = run_batched(model, graphs=True)
    assert plain[2::3] == expected[2::3]
    assert num_graphs > 0


def test_a_model_that_waits_for_the_device_decodes_without_graphs() -> None:
    model = on_cuda("llama")
    expected = [generate_greedy(model, prompt) for prompt in PROMPTS]
    assert can_host(model) == (True, "")
    norm = model.model.norm
    norm.register_forward_hook(lambda module, inputs, output: output * float(output.sum().isfinite()))
    outputs, num_graphs, is_on = run_batched(model, graphs=True)
    assert (outputs, num_graphs, is_on) == (expected, 0, False)


def test_graphs_come_back_after_a_shortage_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    capture, failures = DecodeGraphs._capture, [torch.OutOfMemoryError("CUDA out of memory")]

    def short_once(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return capture(*args)

    model = on_cuda("llama")
    expected = [generate_greedy(model, prompt) for prompt in PROMPTS]
    assert can_host(model) == (True, "")
    monkeypatch.setattr(DecodeGraphs, "_capture", short_once)
    outputs, num_graphs, is_on = run_batched(model, graphs=True)
    assert (outputs, is_on, failures) == (expected, True, [])
    assert num_graphs > 0


def test_a_long_input_to_a_model_that_shares_heads_makes_no_scores() -> None:
    sizes: dict[str, Any] = {
        "vocab_size": 64, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "pad_token_id": 0,
        "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 8192,
    }  # fmt: skip
    torch.manual_seed(0)
    model: Any = Qwen3Model(Qwen3Config(**sizes))
    model.eval()
    ids = torch.arange(8192).remainder(60)[None]
    with torch.inference_mode():
        expected = model(ids[:, :999]).last_hidden_state
        model.to("cuda")
        use_wide_attention(model, torch.device("cuda"))
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        states = model(ids.to("cuda")).last_hidden_state
    assert torch.cuda.max_memory_allocated() - before < 8192**2  # a byte for each pair, and scores have four a head
    torch.testing.assert_close(states[:, :999].cpu(), expected, rtol=1e-3, atol=1e-3)


def test_a_graph_that_computes_something_else_is_not_used() -> None:
    def halved(*args: Any, **options: Any) -> torch.Tensor:
        return flash_attn_with_kvcache(*args, **options) / 2

    model = on_cuda("llama")
    expected = [generate_greedy(model, prompt) for prompt in PROMPTS]
    assert can_host(model) == (True, "")
    inbox = Inbox()
    loop = make_loop(model, inbox, max_num_seqs=6, max_num_batched_tokens=64)
    runner = loop._model_runner
    wrong = FlashAttention(FlashKernels(halved, flash_attn_func))
    graphs = runner._graphs = DecodeGraphs(runner._forward_device_step, wrong, runner.device)
    sampling = SamplingParams(temperature=0.0, max_tokens=NUM_TOKENS)
    sequences = [make_sequence(i, prompt, sampling) for i, prompt in enumerate(PROMPTS)]
    for sequence in sequences:
        loop.submit(sequence)
    run_until(loop, inbox, len(sequences))
    assert (graphs.is_on, graphs.num_graphs) == (False, 0)
    assert [sequence.output_token_ids for sequence in sequences] == expected


def test_two_models_capture_and_decode_at_the_same_time() -> None:
    models = [on_cuda(name) for name in ("llama", "qwen3")]
    for model in models:
        assert can_host(model) == (True, "")
    alone = [run_batched(model, graphs=False)[0] for model in models]
    with ThreadPoolExecutor(max_workers=2) as threads:
        together = list(threads.map(lambda model: run_batched(model, graphs=True), models))
    assert [outputs for outputs, _, _ in together] == alone
    assert all(is_on and num_graphs > 0 for _, num_graphs, is_on in together)


def test_graphs_keep_no_slab_alive() -> None:
    model = on_cuda("llama")
    assert can_host(model) == (True, "")
    inbox = Inbox()
    loop = make_loop(model, inbox)
    loop._model_runner.use_graphs()
    sampling = SamplingParams(temperature=0.0, max_tokens=40)
    loop.submit(make_sequence(1, make_prompts(1, shortest=300, longest=300)[0], sampling, context_length=1024))
    loop.run_once()
    slabs = [weakref.ref(slab) for slabs in loop._kv_cache._slabs.values() for slab in slabs]
    run_until(loop, inbox, 1)
    graphs = loop._model_runner._graphs
    assert graphs is not None
    assert graphs.num_graphs == 1
    gc.collect()
    assert [slab() for slab in slabs] == [None]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_flash_attention_agrees_where_it_is_installed(dtype: torch.dtype) -> None:
    pytest.importorskip("flash_attn")
    assert find_flash_attention(torch.device("cuda"), dtype) is not None


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_quantised_weights_are_refused(quantization: str) -> None:
    with pytest.raises(ModelLoadError, match="for models on a CPU"):
        LinearPacker(torch.device("cuda"), "none").resolve(quantization)


LOSE_THE_DEVICE = """
import torch
from hugging_llama.engine.outbox import as_generation_error
rows = torch.zeros(4, device="cuda")
try:
    rows[torch.tensor([4], device="cuda")].tolist()
except Exception as error:
    as_generation_error(error)
raise SystemExit("the process went on")
"""


def test_a_lost_device_ends_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", LOSE_THE_DEVICE], capture_output=True, text=True, timeout=120)
    assert done.returncode == EXIT_STATUS, done.stderr
    assert "the device is lost" in done.stderr
