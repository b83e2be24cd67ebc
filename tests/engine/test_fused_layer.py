"""Fused layers: only where they compute what the layers compute, and then to the last bit in any batch."""

import random
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from hugging_llama.engine import self_test
from hugging_llama.engine.compute_lock import COMPUTE_LOCK
from hugging_llama.engine.fused_layer import FusedLayer, unfuse_layers
from hugging_llama.engine.linear.packer import LinearPacker
from hugging_llama.engine.native.probe import Family, native_families
from hugging_llama.engine.self_test import can_host
from hugging_llama.neutral.requests import SamplingParams
from tests.engine.harness import GREEDY, Inbox, make_loop, make_prompts, make_sequence, run_until
from tests.engine.tiny_models import generate_greedy, make_model

pytestmark = pytest.mark.skipif(
    not {Family.ATTENTION, Family.ELEMENTWISE} <= native_families(), reason="there are no native kernels here"
)

PROMPTS = make_prompts(6, seed=8, shortest=3, longest=60)
FUSED = ["llama", "qwen2", "qwen3", "mistral"]


def packed(name: str, dtype: torch.dtype = torch.float32, quantization: str = "none") -> PreTrainedModel:
    model = make_model(name, dtype=dtype)
    LinearPacker(torch.device("cpu"), quantization).pack_writer(model, quantization, dtype)
    return model


def is_fused(model: PreTrainedModel) -> bool:
    layers: nn.ModuleList = model.get_decoder().layers  # type: ignore[no-untyped-call]
    return all(isinstance(layer, FusedLayer) for layer in layers)


def answers(model: PreTrainedModel, prompts: list[list[int]], **options: Any) -> list[list[int]]:
    inbox = Inbox()
    loop = make_loop(model, inbox, **options)
    sequences = [make_sequence(i, prompt, GREEDY) for i, prompt in enumerate(prompts)]
    for sequence in sequences:
        loop.submit(sequence)
        loop.run_once()
    run_until(loop, inbox, len(prompts))
    loop.close()
    return [sequence.output_token_ids for sequence in sequences]


@pytest.mark.parametrize("name", FUSED)
def test_tokens_are_those_of_generate(name: str) -> None:
    original = make_model(name)
    expected = [generate_greedy(original, prompt, 8) for prompt in PROMPTS]
    model = packed(name)
    assert can_host(model) == (True, "")
    assert is_fused(model)
    assert answers(model, PROMPTS) == expected
    # beam search and whoever else calls the model without a step gets the layers' own computation
    assert [generate_greedy(model, prompt, 8) for prompt in PROMPTS] == expected


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "gpt_oss", "olmo2", "gpt2", "glm4"])
def test_layers_that_compute_something_else_stay(name: str) -> None:
    original = make_model(name)
    expected = [generate_greedy(original, prompt, 8) for prompt in PROMPTS[:3]]
    model = packed(name)
    assert can_host(model)[0]
    assert not any(isinstance(module, FusedLayer) for module in model.modules())
    assert answers(model, PROMPTS[:3]) == expected


def test_layers_that_only_look_alike_are_found_out() -> None:
    model = packed("granite")
    for layer in model.get_decoder().layers:  # type: ignore[no-untyped-call]
        layer.residual_multiplier = 0.5
    assert can_host(model) == (True, "")
    assert not any(isinstance(module, FusedLayer) for module in model.modules())


@pytest.mark.parametrize("quantization", ["none", "int8", "int4"])
def test_a_text_is_the_same_alone_and_in_any_batch_in_half_precision(quantization: str) -> None:
    model = packed("qwen3", torch.bfloat16, quantization)
    assert can_host(model) == (True, "")
    assert is_fused(model)
    together = answers(model, PROMPTS, max_num_batched_tokens=48, max_num_seqs=6)
    alone = [answers(model, [prompt], max_num_batched_tokens=7)[0] for prompt in PROMPTS]
    assert together == alone


@pytest.mark.parametrize("seed", range(3))
def test_a_seed_gives_the_same_text_under_load_whatever_happens_around_it(seed: int) -> None:
    model = packed("llama", torch.bfloat16)
    assert can_host(model) == (True, "")
    params = SamplingParams(temperature=1.0, max_tokens=30, seed=seed, num_draft_tokens=4)
    texts = []
    for num_others in (0, 5):
        rng, inbox = random.Random(seed), Inbox()
        # so little memory that sequences are preempted, prefixes that are shared, drafts that are tried
        loop = make_loop(model, inbox, max_num_seqs=6, max_num_batched_tokens=24, capacity_tokens=1024)
        watched = make_sequence(0, PROMPTS[0], params)
        loop.submit(watched)
        for i in range(num_others):
            prompt = PROMPTS[0][:20] + PROMPTS[rng.randrange(1, 6)]
            loop.submit(make_sequence(i + 1, prompt, SamplingParams(max_tokens=rng.randint(5, 60), seed=i)))
            loop.run_once()
        run_until(loop, inbox, num_others + 1)
        loop.close()
        texts.append(watched.output_token_ids)
    assert texts[0] == texts[1]


def test_unfused_layers_are_those_that_were_there() -> None:
    model = packed("llama")
    layers: nn.ModuleList = model.get_decoder().layers  # type: ignore[no-untyped-call]
    before = list(layers)
    assert can_host(model) == (True, "")
    unfuse_layers(model)
    assert list(layers) == before


def test_the_self_test_holds_no_lock_afterwards() -> None:
    assert self_test.can_host(packed("llama")) == (True, "")
    COMPUTE_LOCK.acquire()
    COMPUTE_LOCK.release()
