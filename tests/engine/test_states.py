"""Sequences with states: whatever happens to their neighbours, each goes on from where it was."""

from typing import Any

import pytest

from hugging_llama.engine.state_cache import StateSlot, StateVersion
from hugging_llama.errors import GenerationError, InsufficientMemoryError
from hugging_llama.neutral.events import FinishReason
from tests.engine.families import make_family
from tests.engine.harness import GREEDY, Inbox, make_loop, make_prompts, make_sequence, run_until
from tests.engine.tiny_models import generate_greedy

PROMPTS = make_prompts(4, seed=3, shortest=20)
NAMES = ("mamba", "qwen3_next", "falcon_h1")


@pytest.mark.parametrize("name", NAMES)
def test_a_cancelled_neighbour_and_a_step_that_is_run_again_change_nothing(name: str) -> None:
    model = make_family(name)
    expected = [generate_greedy(model, prompt, 8) for prompt in PROMPTS]
    inbox = Inbox()
    loop = make_loop(model, inbox)
    sequences = [make_sequence(i, prompt) for i, prompt in enumerate(PROMPTS)]
    for sequence in sequences:
        loop.submit(sequence)
    runner: Any = loop._model_runner
    forward, num_calls = runner._forward_rows, 0

    def sometimes(*arguments: Any) -> Any:
        nonlocal num_calls
        num_calls += 1
        logits = forward(*arguments)
        if num_calls % 5 == 0 and len(arguments[0]) > 1:
            raise RuntimeError("after the states were worked on")
        return logits

    runner._forward_rows = sometimes
    while not sequences[1].output_token_ids:
        loop.run_once()
    loop.cancel(sequences[1].key)
    run_until(loop, inbox, len(sequences))
    assert inbox.ends(sequences[1].key)[0].reason is FinishReason.ABORT
    others = [i for i in range(len(sequences)) if i != 1]
    assert [sequences[i].output_token_ids for i in others] == [expected[i] for i in others]
    assert num_calls > 5
    assert loop.stats().kv_allocated_bytes == loop._kv_cache.size_bytes(loop._kv_cache.allocated_tokens)


def test_a_preempted_sequence_is_computed_anew() -> None:
    model = make_family("qwen3_next")
    prompts = [prompt[:1] * 200 for prompt in PROMPTS[:2]]
    expected = [generate_greedy(model, prompt, 80) for prompt in prompts]
    inbox = Inbox()
    loop = make_loop(model, inbox, capacity_tokens=768)
    sampling = GREEDY.__class__(temperature=0.0, max_tokens=80)
    sequences = [make_sequence(i, prompt, sampling) for i, prompt in enumerate(prompts)]
    for sequence in sequences:
        loop.submit(sequence)
    run_until(loop, inbox, 2)
    assert loop.stats().preempted_total == 1
    assert [sequence.output_token_ids for sequence in sequences] == expected


def test_a_context_that_shifts_begins_anew() -> None:
    inbox = Inbox()
    loop = make_loop(make_family("mamba"), inbox)
    sampling = GREEDY.__class__(temperature=0.0, max_tokens=60)
    sequence = make_sequence(1, PROMPTS[0], sampling, context_length=len(PROMPTS[0]) + 10, shift=True)
    loop.submit(sequence)
    run_until(loop, inbox, 1)
    assert sequence.num_truncated_tokens
    assert len(sequence.output_token_ids) == 60


def test_sequences_wait_for_a_place_for_their_states() -> None:
    model = make_family("mamba")
    loop = make_loop(model, Inbox(), max_num_seqs=2)
    slots = [loop._kv_cache.allocate(10) for _ in range(3)]
    assert [slot is not None for slot in slots] == [True, True, False]
    assert loop._kv_cache.state_bytes > 0
    with pytest.raises(InsufficientMemoryError):
        loop._model_runner.new_cache_from_memory(budget_bytes=1000, max_sequences=4, most_tokens=100)


def test_a_slot_keeps_the_states_of_its_last_two_steps() -> None:
    slot = StateSlot(None, 0)  # type: ignore[arg-type]
    slot.remember({}, 0, 0, 5)
    slot.remember({}, 1, 5, 6)
    slot.remember({}, 2, 5, 6)
    assert [slot.version(5), slot.version(6)] == [StateVersion({}, 0, 5), StateVersion({}, 2, 6)]
    slot.remember({}, 3, 6, 7)
    with pytest.raises(GenerationError, match="5 tokens"):
        slot.version(5)
