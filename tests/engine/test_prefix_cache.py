"""Prompts that begin like others: nothing common is computed twice, and no token changes."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedModel

from hugging_llama.engine import prefix_cache
from hugging_llama.engine.core import StepLoop
from hugging_llama.engine.prefix_cache import Prefix, PrefixCache, common_prefix
from hugging_llama.engine.sequence import Sequence
from hugging_llama.errors import GenerationError
from hugging_llama.neutral.events import Finished
from hugging_llama.neutral.requests import SamplingParams
from tests.engine.harness import GREEDY, Inbox, make_loop, make_prompts, make_sequence, run_until
from tests.engine.tiny_models import LONGROPE_SWITCH, generate_greedy, make_model

SYSTEM, QUESTION, ANSWER = (make_prompts(1, seed=seed, shortest=60, longest=60)[0] for seed in (1, 2, 3))

pytestmark = pytest.mark.usefixtures("kernels")


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return make_model("llama")


def run_one(loop: StepLoop, inbox: Inbox, number: int, prompt: list[int], max_tokens: int = 8) -> Sequence:
    sequence = make_sequence(number, prompt, SamplingParams(temperature=0.0, max_tokens=max_tokens))
    loop.submit(sequence)
    run_until(loop, inbox, len(inbox.finished) + 1)
    return sequence


def num_cached(inbox: Inbox, sequence: Sequence) -> int:
    (end,) = inbox.ends(sequence.key)
    assert isinstance(end, Finished)
    assert end.usage.num_prompt_tokens == sequence.num_prompt_tokens, "cached tokens count as prompt, too"
    return end.usage.num_cached_tokens


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt_oss", "gpt2", "mistral"])
def test_the_next_turn_of_a_chat_computes_what_is_new_only(name: str) -> None:
    inbox, model = Inbox(), make_model(name)
    loop = make_loop(model, inbox, max_num_batched_tokens=32)
    first = run_one(loop, inbox, 1, SYSTEM)
    history = [*SYSTEM, *first.output_token_ids, *QUESTION]
    computed = loop.stats().prompt_tokens_total
    second = run_one(loop, inbox, 2, history)
    # the last token of an answer was never fed to the model
    assert num_cached(inbox, second) == len(SYSTEM) + len(first.output_token_ids) - 1
    assert second.output_token_ids == run_alone(model, history)
    stats = loop.stats()
    assert stats.cached_tokens_total == num_cached(inbox, second)
    assert stats.prompt_tokens_total - computed == len(history)
    loop.close()


def run_alone(model: PreTrainedModel, prompt: list[int]) -> list[int]:
    inbox = Inbox()
    loop = make_loop(model, inbox, max_prefixes=0)
    sequence = run_one(loop, inbox, 1, prompt)
    loop.close()
    return sequence.output_token_ids


def test_tokens_are_those_of_generate(model: PreTrainedModel) -> None:
    prompts = [SYSTEM + tail for tail in ([7, 8], QUESTION, [], ANSWER, QUESTION[:30])]
    original = make_model("llama")
    expected = [generate_greedy(original, prompt, 8) for prompt in prompts]
    inbox = Inbox()
    loop = make_loop(model, inbox)
    sequences = [run_one(loop, inbox, number, prompt) for number, prompt in enumerate(prompts)]
    assert [sequence.output_token_ids for sequence in sequences] == expected
    assert num_cached(inbox, sequences[0]) == 0
    assert all(num_cached(inbox, sequence) >= len(SYSTEM) - 1 for sequence in sequences[1:])
    loop.close()


def test_the_same_prompt_again_computes_one_token(model: PreTrainedModel) -> None:
    inbox = Inbox()
    loop = make_loop(model, inbox)
    first, second = (run_one(loop, inbox, number, SYSTEM) for number in range(2))
    assert num_cached(inbox, second) == len(SYSTEM) - 1
    assert first.output_token_ids == second.output_token_ids
    loop.close()


def test_prompts_that_come_together_share_what_the_first_one_computes(model: PreTrainedModel) -> None:
    inbox = Inbox()
    long_system = [*SYSTEM, *ANSWER]
    loop = make_loop(model, inbox, max_num_batched_tokens=64)
    sequences = [make_sequence(i, [*long_system, 10 + i, 20 + i], GREEDY) for i in range(4)]
    for sequence in sequences:
        loop.submit(sequence)
    run_until(loop, inbox, 4)
    assert num_cached(inbox, sequences[0]) == 0
    # a few tokens are not worth a step's wait
    assert min(num_cached(inbox, sequence) for sequence in sequences[1:]) > len(long_system) - 64
    assert num_cached(inbox, sequences[-1]) == len(long_system)
    for sequence in sequences:
        assert sequence.output_token_ids == run_alone(model, sequence.prompt_token_ids)
    loop.close()


def test_a_prompt_is_not_held_up_for_a_prefix_that_never_comes(model: PreTrainedModel) -> None:
    inbox = Inbox()
    long_system = [*SYSTEM, *ANSWER]
    loop = make_loop(model, inbox, max_num_batched_tokens=32)
    first, second = (make_sequence(i, [*long_system, 10 + i], GREEDY) for i in range(2))
    loop.submit(first)
    loop.run_once()
    loop.submit(second)
    loop.run_once()
    assert second.kv_slot is None, "it waits"
    loop.cancel(first.key)
    run_until(loop, inbox, 2)
    assert second.output_token_ids == run_alone(model, second.prompt_token_ids)
    loop.close()


def test_entries_are_bounded_and_the_oldest_leaves(model: PreTrainedModel) -> None:
    inbox = Inbox()
    loop = make_loop(model, inbox, max_prefixes=2)
    prompts = make_prompts(3, seed=9, shortest=40, longest=40)
    for number in (0, 1, 0, 2):
        run_one(loop, inbox, len(inbox.finished), prompts[number])
    assert loop.stats().kv_retained_tokens == 2 * 47
    assert num_cached(inbox, run_one(loop, inbox, 10, prompts[0])) == 39
    assert num_cached(inbox, run_one(loop, inbox, 11, prompts[1])) == 0
    loop.close()


def test_a_longer_entry_takes_the_place_of_its_beginning(model: PreTrainedModel) -> None:
    inbox = Inbox()
    loop = make_loop(model, inbox)
    first = run_one(loop, inbox, 1, SYSTEM)
    run_one(loop, inbox, 2, [*SYSTEM, *first.output_token_ids, *QUESTION])
    assert loop.stats().kv_retained_tokens == 60 + 8 + 60 + 7
    run_one(loop, inbox, 3, SYSTEM, max_tokens=2)
    assert loop.stats().kv_retained_tokens == 60 + 8 + 60 + 7, "what is shorter is in there already"
    loop.close()


def test_failed_and_unstarted_sequences_leave_nothing_behind(model: PreTrainedModel) -> None:
    inbox = Inbox()
    loop = make_loop(model, inbox, max_num_batched_tokens=32)
    cancelled = make_sequence(1, SYSTEM)
    loop.submit(cancelled)
    loop.run_once()
    loop.cancel(cancelled.key)
    loop.run_once()
    assert loop.stats().kv_retained_tokens == 0
    loop.close()


def test_longrope_prefixes_are_of_use_to_their_own_kind_only() -> None:
    model, inbox = make_model("phi3_longrope"), Inbox()
    loop = make_loop(model, inbox, max_num_batched_tokens=64)
    short = SYSTEM[: LONGROPE_SWITCH - 15]
    first = run_one(loop, inbox, 1, short, max_tokens=4)
    long = run_one(loop, inbox, 2, [*short, *QUESTION], max_tokens=4)
    assert num_cached(inbox, long) == 0
    again = run_one(loop, inbox, 3, [*short, *QUESTION], max_tokens=4)
    assert num_cached(inbox, again) == len(short) + len(QUESTION) - 1
    assert again.output_token_ids == long.output_token_ids
    assert num_cached(inbox, run_one(loop, inbox, 4, short, max_tokens=4)) == len(short) - 1
    assert first.output_token_ids == inbox.finished[-1].output_token_ids
    loop.close()


def test_without_the_cache_nothing_is_kept(model: PreTrainedModel) -> None:
    inbox = Inbox()
    loop = make_loop(model, inbox, max_prefixes=0)
    run_one(loop, inbox, 1, SYSTEM)
    assert num_cached(inbox, run_one(loop, inbox, 2, SYSTEM)) == 0
    assert loop.stats().kv_retained_tokens == 0
    loop.close()


@given(st.lists(st.integers(0, 2), max_size=40), st.lists(st.integers(0, 2), max_size=40))
def test_common_prefix(a: list[int], b: list[int]) -> None:
    n = common_prefix(a, b)
    assert a[:n] == b[:n]
    assert n == min(len(a), len(b)) or a[n] != b[n]


def test_random_chats_on_little_memory(model: PreTrainedModel) -> None:
    rng, inbox = random.Random(4), Inbox()
    loop = make_loop(model, inbox, max_num_seqs=3, max_num_batched_tokens=24, capacity_tokens=1024)
    roots = make_prompts(3, seed=5, shortest=20, longest=90)
    sequences = []
    for number in range(30):
        root = rng.choice(roots)
        prompt = root[: rng.randint(5, len(root))] + make_prompts(1, seed=number, longest=20)[0]
        sequences.append(make_sequence(number, prompt, GREEDY))
        loop.submit(sequences[-1])
        for _ in range(rng.randrange(6)):
            loop.run_once()
    run_until(loop, inbox, 30)
    assert sum(num_cached(inbox, sequence) > 0 for sequence in sequences) > 10
    for sequence in sequences:
        assert sequence.output_token_ids == run_alone(model, sequence.prompt_token_ids)
    loop.close()


def test_what_ended_while_it_crossed_the_longrope_line_is_no_prefix_of_longer_ones() -> None:
    model, inbox = make_model("phi3_longrope"), Inbox()
    loop = make_loop(model, inbox, max_num_batched_tokens=64)
    prompt = SYSTEM[: LONGROPE_SWITCH - 7]
    # its last token is the first beyond the line, and all its keys are those of a short one
    first = run_one(loop, inbox, 1, prompt, max_tokens=8)
    long = [*prompt, *first.output_token_ids, *QUESTION]
    second = run_one(loop, inbox, 2, long)
    assert second.output_token_ids == run_alone(model, long)
    loop.close()


def test_a_prefix_that_finds_no_memory_is_not_kept_and_nothing_else_happens(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Inbox()
    loop = make_loop(model, inbox, max_num_batched_tokens=64)

    def full(*_: object) -> Prefix:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(prefix_cache, "Prefix", full)
    sequences = [make_sequence(1, SYSTEM, SamplingParams(max_tokens=2)), make_sequence(2, QUESTION, GREEDY)]
    for sequence in sequences:
        loop.submit(sequence)
    run_until(loop, inbox, 2)
    assert all(isinstance(inbox.ends(sequence.key)[0], Finished) for sequence in sequences)
    assert (loop.stats().kv_used_tokens, loop.stats().kv_retained_tokens) == (0, 0)
    loop.close()


def test_a_sequence_ends_when_its_prefix_can_not_be_copied(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Inbox()
    loop = make_loop(model, inbox)
    run_one(loop, inbox, 1, SYSTEM)

    def broken(*_: object) -> None:
        raise RuntimeError("the device is broken")

    with monkeypatch.context() as patch:
        patch.setattr(PrefixCache, "fill", broken)
        sequence = make_sequence(2, SYSTEM)
        loop.submit(sequence)
        run_until(loop, inbox, 2)
    assert isinstance(inbox.ends(sequence.key)[0], GenerationError)
    assert loop.stats().kv_used_tokens == 0
    assert isinstance(inbox.ends(run_one(loop, inbox, 3, SYSTEM).key)[0], Finished)
    loop.close()
