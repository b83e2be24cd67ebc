"""The batched engine says what transformers' `generate` says, for every family, whatever else runs beside it."""

import dataclasses
import functools
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AttentionInterface, PreTrainedModel

from hugging_llama.engine import attention, model_runner, padded_attention, self_test
from hugging_llama.engine.attention import ATTENTION_NAME
from hugging_llama.engine.runner import make_runner
from hugging_llama.engine.self_test import can_host
from hugging_llama.neutral.requests import SamplingParams
from hugging_llama_config.settings import Settings
from tests.engine.families import make_family
from tests.engine.harness import GREEDY, Inbox, make_loop, make_prompts, make_sequence
from tests.engine.tiny_models import CONFIGS, generate_greedy, make_model

MAX_TOKENS = 10
PROMPTS = make_prompts(6)

pytestmark = pytest.mark.usefixtures("kernels")


@functools.cache
def reference(name: str) -> list[list[int]]:
    """What `generate` answers to each of PROMPTS."""
    model = make_model(name)
    return [generate_greedy(model, prompt, MAX_TOKENS) for prompt in PROMPTS]


def run_batched(model: PreTrainedModel, prompts: list[list[int]]) -> list[list[int]]:
    """All prompts, two more joining after each of the first steps."""
    inbox = Inbox()
    loop = make_loop(model, inbox)
    sampling = dataclasses.replace(GREEDY, max_tokens=MAX_TOKENS)
    sequences = [make_sequence(i, prompt, sampling) for i, prompt in enumerate(prompts)]
    waiting = list(sequences)
    while waiting or len(inbox.finished) < len(sequences):
        for sequence in waiting[:2]:
            loop.submit(sequence)
        del waiting[:2]
        loop.run_once()
    stats = loop.stats()
    assert (stats.kv_used_tokens, stats.prompt_tokens_total) == (0, sum(map(len, prompts)))
    return [sequence.output_token_ids for sequence in sequences]


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_tokens_are_those_of_generate(name: str) -> None:
    model = make_model(name)
    expected = reference(name)
    assert len({token for tokens in expected for token in tokens}) > 20, "a model that repeats itself proves little"
    assert can_host(model) == (True, "")
    assert model.config._attn_implementation == ATTENTION_NAME
    assert run_batched(model, PROMPTS) == expected


@pytest.mark.parametrize("name", ["qwen2", "mistral", "gpt_oss"])
def test_sequences_that_outgrow_their_slots_beside_short_ones(name: str) -> None:
    model = make_model(name)
    prompts = [make_prompts(1, seed=n, shortest=n, longest=n)[0] for n in (251, 3, 508, 253, 60)]
    expected = [generate_greedy(model, prompt, MAX_TOKENS) for prompt in prompts]
    assert run_batched(model, prompts) == expected


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes our attention ignore one keyword."""

    def ignore(keyword: str) -> None:
        def deaf(*args: Any, **options: Any) -> tuple[torch.Tensor, None]:
            return attention.batched_attention(*args, **options | {keyword: None})

        mapping = AttentionInterface._global_mapping
        monkeypatch.setitem(mapping, ATTENTION_NAME, deaf)

    return ignore


TRICKS = [
    ("mistral", "sliding_window"),
    ("gemma2", "sliding_window"),
    ("gemma2", "softcap"),
    ("gemma3", "sliding_window"),
    ("gemma3", "scaling"),
    ("gpt_oss", "sliding_window"),
    ("gpt_oss", "s_aux"),
]


@pytest.mark.parametrize(("name", "keyword"), TRICKS)
def test_every_trick_decides_tokens_and_the_self_test_notices_its_loss(
    name: str, keyword: str, without: Callable[[str], None]
) -> None:
    model = make_model(name)
    expected = reference(name)
    original = model.config._attn_implementation
    without(keyword)
    hosted, reason = can_host(model)
    assert not hosted
    assert reason
    assert model.config._attn_implementation == original
    assert run_batched(model, PROMPTS) != expected


@pytest.mark.parametrize("name", ["gemma2", "gpt_oss"])
def test_the_self_test_measures_even_where_the_structure_looks_right(
    name: str, without: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_test, "_probe_reason", lambda model, probe, num_layers: "")
    without("sliding_window")
    hosted, reason = can_host(make_model(name))
    assert not hosted
    assert "logits differ" in reason


@pytest.mark.parametrize("name", ["llama", "qwen3_moe", "gemma2", "gpt_oss"])
def test_half_precision_passes_the_self_test(name: str) -> None:
    assert can_host(make_model(name, dtype=torch.bfloat16)) == (True, "")


def test_a_model_without_a_place_for_our_attention_is_not_hosted() -> None:
    assert can_host(make_family("gptj")) == (False, "its attention can't be replaced")


@pytest.mark.parametrize(("name", "kind"), [("qwen3", "batched"), ("mamba", "batched"), ("gptj", "generate")])
def test_make_runner_chooses_the_runner_and_both_agree_with_generate(name: str, kind: str) -> None:
    model = make_family(name)
    prompts = PROMPTS[:3]
    expected = [generate_greedy(model, prompt, MAX_TOKENS) for prompt in prompts]
    inbox = Inbox()
    runner = make_runner(
        model,
        settings=Settings(kv_cache_bytes=64 * 2**20),
        emit=inbox.emit,
        on_finished=inbox.on_finished,
        name=name,
    )
    assert runner.kind == kind
    assert runner.reason
    sampling = SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS)
    sequences = [make_sequence(i, prompt, sampling) for i, prompt in enumerate(prompts)]
    for sequence in sequences:
        runner.submit(sequence)
    inbox.wait_finished(len(sequences))
    runner.close()
    assert [sequence.output_token_ids for sequence in sequences] == expected
    assert runner.stats().output_tokens_total == 3 * MAX_TOKENS


def test_longrope_sequences_switch_each_for_itself() -> None:
    """Some prompts begin beyond the switch, some cross it in the middle of their answer, some stay below."""
    model = make_model("phi3_longrope")
    prompts = [[7 + (i * 31 + j * 17) % 400 for j in range(n)] for i, n in enumerate((30, 39, 40, 41, 42, 70, 5))]
    expected = [generate_greedy(model, prompt, MAX_TOKENS) for prompt in prompts]
    assert can_host(model) == (True, "")
    assert run_batched(model, prompts) == expected
    unscaled = make_model("phi3")
    assert [generate_greedy(unscaled, prompt, MAX_TOKENS) for prompt in prompts] != expected


@pytest.mark.parametrize("name", ["gemma2", "gpt_oss"])
def test_explicit_scores_made_in_pieces_are_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(name)
    expected = reference(name)
    monkeypatch.setattr(padded_attention, "_MAX_SCORE_ELEMENTS", 500)
    monkeypatch.setattr(model_runner, "native_families", frozenset)
    assert run_batched(model, PROMPTS) == expected


def test_a_closed_runner_lets_go_of_its_model() -> None:
    model = make_model("qwen2")
    inbox = Inbox()
    runner = make_runner(
        model,
        settings=Settings(kv_cache_bytes=64 * 2**20),
        emit=inbox.emit,
        on_finished=inbox.on_finished,
        name="test",
    )
    runner.submit(make_sequence(1, [5, 6, 7]))
    inbox.wait_finished(1)
    runner.close()
    alive = weakref.ref(model)
    del runner, model
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize(("own_noise", "hosted"), [((0.4, 0.1), True), ((0.1, 0.01), False)])
def test_a_model_that_does_not_agree_with_itself_is_given_more_room(
    own_noise: tuple[float, float], hosted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = iter([(0.9, 0.2), own_noise, (0.1, 0.01), (0.1, 0.01)])
    monkeypatch.setattr(self_test, "worst_and_most", lambda ours, plain: next(figures))
    assert can_host(make_model("llama", dtype=torch.bfloat16))[0] is hosted
