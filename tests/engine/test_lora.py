"""Adapters in the batch: the tokens of a model with the same change merged in, whoever else is beside them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from hugging_llama.engine.fused_layer import FusedLayer
from hugging_llama.engine.linear.packer import LinearPacker
from hugging_llama.engine.lora.adapter import LoraAdapter
from hugging_llama.engine.lora.cache import AdapterCache
from hugging_llama.engine.native.probe import Family, native_families
from hugging_llama.engine.self_test import can_host
from hugging_llama.neutral.requests import SamplingParams
from tests.engine.adapters import ATTENTION, MLP, make_adapter, merged
from tests.engine.families import make_family
from tests.engine.harness import GREEDY, Inbox, make_loop, make_prompts, make_sequence, run_until
from tests.engine.tiny_models import generate_greedy, make_model

PROMPTS = make_prompts(8, seed=8, shortest=3, longest=60)
HAS_NATIVE = {Family.ATTENTION, Family.ELEMENTWISE, Family.LINEAR_BF16} <= native_families()
Adapters = list[LoraAdapter | None]

TARGETS = {
    "gpt2": ("c_attn", "c_proj", "c_fc", "lm_head"),
    "phi3": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    "qwen3_moe": ATTENTION,
    "gemma3_text": (*ATTENTION, *MLP, "lm_head"),
    "qwen3_next": ("q_proj", "o_proj", "in_proj_qkvz", "out_proj", "lm_head"),
    "mamba": ("in_proj", "x_proj", "out_proj"),
}


def targets_of(name: str) -> tuple[str, ...]:
    return TARGETS.get(name, (*ATTENTION, *MLP))


def packed(model: PreTrainedModel, quantization: str = "none") -> PreTrainedModel:
    LinearPacker(torch.device("cpu"), quantization).pack_writer(model, quantization, model.dtype)
    return model


def load(model: PreTrainedModel, *folders: Path) -> Adapters:
    """The adapters of these folders, and at the end None."""
    cache = AdapterCache(model, budget_bytes=2**30)
    return [*(cache.take(str(folder)) for folder in folders), None]


def answers(
    model: PreTrainedModel,
    prompts: list[list[int]],
    adapters: Adapters,
    sampling: SamplingParams = GREEDY,
    **options: Any,
) -> list[list[int]]:
    """Adapter i of those given has prompt i, and so on around; submitted a step apart."""
    inbox = Inbox()
    loop = make_loop(model, inbox, **options)
    sequences = [make_sequence(i, prompt, sampling) for i, prompt in enumerate(prompts)]
    for i, sequence in enumerate(sequences):
        sequence.adapter = adapters[i % len(adapters)]
        loop.submit(sequence)
        loop.run_once()
    run_until(loop, inbox, len(prompts))
    loop.close()
    return [sequence.output_token_ids for sequence in sequences]


@pytest.mark.parametrize("is_packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2", "qwen3_moe", "phi3", "gemma3_text", "qwen3_next", "mamba"])
def test_a_mixed_batch_says_what_merged_models_say(name: str, is_packed: bool, tmp_path: Path) -> None:
    plain = make_family(name)
    folders = [
        make_adapter(tmp_path / "a", plain, targets_of(name), seed=1),
        make_adapter(tmp_path / "b", plain, targets_of(name)[:2], seed=2, rank=3, alpha=5),
        make_adapter(tmp_path / "c", plain, targets_of(name), seed=3, rank=9, use_rslora=True),
    ]
    models = [*(merged(plain, folder) for folder in folders), plain]
    expected = [generate_greedy(models[i % 4], prompt, 8) for i, prompt in enumerate(PROMPTS)]
    assert len({tuple(generate_greedy(model, PROMPTS[0], 8)) for model in models}) == 4, "all four differ"
    model = packed(plain) if is_packed else plain
    assert can_host(model)[0]
    assert answers(model, PROMPTS, load(model, *folders), max_num_seqs=6) == expected


@pytest.mark.skipif(not HAS_NATIVE, reason="there are no native kernels here")
@pytest.mark.parametrize("quantization", ["none", "int8", "int4"])
@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_a_text_is_the_same_alone_and_in_any_batch_in_half_precision(
    name: str, quantization: str, tmp_path: Path
) -> None:
    plain = make_model(name, dtype=torch.bfloat16)
    folders = [make_adapter(tmp_path / str(i), plain, seed=i, rank=4 + i) for i in range(3)]
    model = packed(plain, quantization)
    assert can_host(model) == (True, "")
    assert any(isinstance(module, FusedLayer) for module in model.modules())
    without = answers(model, PROMPTS, [None])
    adapters = load(model, *folders)
    together = answers(model, PROMPTS, adapters, max_num_batched_tokens=48, max_num_seqs=8)
    for i, prompt in enumerate(PROMPTS):
        assert answers(model, [prompt], [adapters[i % 4]], max_num_batched_tokens=7)[0] == together[i]
    assert [together[3], together[7]] == [without[3], without[7]]
    assert together[:3] != without[:3]
