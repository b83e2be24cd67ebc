"""What runs on a CUDA device, as far as a CPU can prove it: FlashAttention's arguments, steps on a device."""

import functools

import pytest
import torch
from transformers import PreTrainedModel

from hugging_llama.engine import model_runner
from hugging_llama.engine.attention import ATTENTION_NAME
from hugging_llama.engine.cuda_graphs import _inputs, _row_class
from hugging_llama.engine.device_loss import is_device_lost
from hugging_llama.engine.device_step import DeviceRows, DeviceStep, device_rows
from hugging_llama.engine.flash_attention import FlashAttention, FlashKernels, agrees_with_torch, find_flash_attention
from hugging_llama.engine.kv_cache import KVSlot, LayerShape, Slab
from hugging_llama.engine.kv_step import KVStep, decode_groups
from hugging_llama.engine.model_runner import Chunk, ModelRunner
from hugging_llama.engine.padded_attention import AttentionKind, padded_attention
from hugging_llama.engine.self_test import can_host
from hugging_llama.engine.slab_attention import slab_attention
from tests.engine import flash_reference
from tests.engine.flash_reference import REFERENCE
from tests.engine.harness import make_prompts
from tests.engine.test_parity import MAX_TOKENS, PROMPTS, reference, run_batched
from tests.engine.tiny_models import make_model

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_probe_accepts_what_computes_as_the_package_says(dtype: torch.dtype) -> None:
    assert agrees_with_torch(REFERENCE, CPU, dtype)


@pytest.mark.parametrize("change", [{"softmax_scale": 0.2}, {"softcap": 0.0}, {"window_size": (-1, -1)}])
@pytest.mark.parametrize("kernel", ["with_kvcache", "plain"])
def test_the_probe_refuses_what_ignores_an_argument(kernel: str, change: dict[str, object]) -> None:
    right = FlashKernels(flash_reference.flash_attn_with_kvcache, flash_reference.flash_attn_func)
    wrong = functools.partial(getattr(right, kernel))

    def deaf(*args: torch.Tensor, **options: object) -> torch.Tensor:
        result: torch.Tensor = wrong(*args, **options | change)
        return result

    kernels = FlashKernels(deaf, right.plain) if kernel == "with_kvcache" else FlashKernels(right.with_kvcache, deaf)
    assert not agrees_with_torch(FlashAttention(kernels), CPU, torch.float32)


def test_it_is_not_looked_for_on_a_cpu() -> None:
    assert find_flash_attention(CPU, torch.bfloat16) is None


@pytest.mark.parametrize(
    ("key_dim", "value_dim", "sinks", "taken"),
    [
        (64, 64, None, True),
        (256, 256, None, True),
        (320, 320, None, False),
        (192, 128, None, False),
        (20, 20, None, False),
        (64, 64, torch.zeros(4), False),
    ],
)
def test_layers_that_the_kernels_take(key_dim: int, value_dim: int, sinks: torch.Tensor | None, taken: bool) -> None:
    assert REFERENCE.takes(key_dim, value_dim, AttentionKind(1.0, sinks=sinks)) is taken


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "gpt_oss"])
def test_models_say_the_same_with_flash_attention(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_runner, "native_families", frozenset)
    monkeypatch.setattr(model_runner, "find_flash_attention", lambda device, dtype: REFERENCE)
    model = make_model(name)
    assert can_host(model) == (True, "")
    assert run_batched(model, PROMPTS) == reference(name)
    assert MAX_TOKENS > 1, "else nothing decodes"


KINDS = {
    "plain": AttentionKind(0.3),
    "window": AttentionKind(0.3, window=9),
    "softcap": AttentionKind(0.3, softcap=1.0),
    "sinks": AttentionKind(0.3, window=9, sinks=torch.tensor([1.0, -1.0, 2.0, 0.5])),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_whole_slab_attends_as_its_rows_do(kind: AttentionKind) -> None:
    random = torch.Generator().manual_seed(0)
    slab = Slab(0, 256, 6, {0: LayerShape(2, 16, 24)}, dtype=torch.float32, device=CPU)
    for buffer in (slab.keys[0], slab.values[0]):
        buffer.copy_(torch.randn(buffer.shape, generator=random))
    rows, positions = [0, 3, 5], [0, 77, 255]
    query = torch.randn(3, 4, 16, generator=random)
    step = KVStep(decode_groups([KVSlot(slab, row) for row in rows], positions), [], is_native=False)
    expected = torch.cat(padded_attention(step, 0, query, kind))
    # as a graph has it: filled up by the last row
    filled = device_rows(slab, 0, [*rows, 5], [*positions, 255])
    found = slab_attention(filled, 0, torch.cat((query, query[-1:])), kind)
    torch.testing.assert_close(found[:3], expected)
    torch.testing.assert_close(found[3], found[2])


def test_rows_are_filled_up_to_a_power_of_two_within_the_slab() -> None:
    slab = Slab(0, 256, 6, {}, dtype=torch.float32, device=CPU)
    classes = []
    for n in range(1, 7):
        (group,) = decode_groups([KVSlot(slab, row) for row in range(n)], [10] * n)
        classes.append(_row_class(group))
    assert classes == [1, 2, 4, 4, 6, 6]


@pytest.mark.parametrize("flash", [None, REFERENCE], ids=["torch", "flash"])
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt_oss"])
def test_a_step_on_the_device_computes_what_a_step_does(name: str, flash: FlashAttention | None) -> None:
    runner = ModelRunner(make_runnable(name))
    # slots in two slabs, the first with three rows of a class of four
    cache = runner.new_cache(capacity_tokens=1 << 14, max_sequences=8)
    prompts = [make_prompts(1, seed=n, shortest=n, longest=n)[0] for n in (5, 30, 17, 260)]
    slots = [slot for prompt in prompts if (slot := cache.allocate(len(prompt) + 1)) is not None]
    for slot, prompt in zip(slots, prompts, strict=True):
        runner.compute([Chunk(slot, 0, prompt, num_logits=1)])
    token_ids = [7, 8, 9, 10]
    positions = list(map(len, prompts))
    expected = runner.compute(
        [Chunk(slot, at, [token], num_logits=1) for slot, at, token in zip(slots, positions, token_ids, strict=True)]
    )
    step = KVStep(decode_groups(slots, positions), [], is_native=False)
    inputs = _inputs(step, token_ids)
    assert inputs.tolist()[0] == [7, 8, 9, 9, 10]
    groups, start = [], 0
    for group in step.decode:
        stop = start + _row_class(group)
        groups.append(DeviceRows(group.slab, start, stop, inputs[2, start:stop], inputs[1, start:stop]))
        start = stop
    with torch.inference_mode():
        logits = runner._forward_device_step(inputs[0], inputs[1], DeviceStep(groups, flash))
    torch.testing.assert_close(logits[[0, 1, 2, 4]], expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(logits[3], logits[2])


def make_runnable(name: str) -> PreTrainedModel:
    model = make_model(name)
    model.set_attn_implementation(ATTENTION_NAME)
    return model


@pytest.mark.parametrize("error", [RuntimeError("CUDA error"), ValueError(), MemoryError()])
def test_other_errors_leave_the_device_where_it_is(error: Exception) -> None:
    assert not is_device_lost(error)
