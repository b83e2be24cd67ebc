"""Memory runs short while sequences run: whoever gives way goes on later, and nobody can tell."""

import pytest
import torch
from transformers import PreTrainedModel

from hugging_llama.engine.batch import Batch, ScheduledSequence
from hugging_llama.engine.kv_cache import KVCache
from hugging_llama.engine.model_runner import ModelRunner
from hugging_llama.errors import InsufficientMemoryError
from hugging_llama.neutral.events import Finished
from hugging_llama.neutral.requests import SamplingParams
from tests.engine.harness import Inbox, make_loop, make_prompts, make_sequence, run_until
from tests.engine.tiny_models import CONFIGS, from_config, make_model

SAMPLED = SamplingParams(temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=1.1, max_tokens=200, seed=7)

pytestmark = pytest.mark.usefixtures("kernels")


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return make_model("llama")


def texts(model: PreTrainedModel, *, capacity_tokens: int, max_prefixes: int) -> tuple[list[str], int]:
    inbox = Inbox()
    loop = make_loop(
        model, inbox, capacity_tokens=capacity_tokens, max_prefixes=max_prefixes, max_num_batched_tokens=64
    )
    sequences = [
        make_sequence(i, prompt, SAMPLED) for i, prompt in enumerate(make_prompts(5, shortest=100, longest=180))
    ]
    for sequence in sequences:
        loop.submit(sequence)
    run_until(loop, inbox, 5)
    loop.close()
    preempted = loop.stats().preempted_total
    assert loop.stats().kv_used_tokens == 0
    return [inbox.text(sequence.key) for sequence in sequences], preempted


@pytest.mark.parametrize("max_prefixes", [0, 8])
def test_a_preempted_sequence_says_the_same(model: PreTrainedModel, max_prefixes: int) -> None:
    plenty, none = texts(model, capacity_tokens=1 << 14, max_prefixes=max_prefixes)
    scarce, some = texts(model, capacity_tokens=1024, max_prefixes=max_prefixes)
    assert none == 0
    assert some > 0
    assert scarce == plenty


@pytest.mark.parametrize(("most_rows", "most_tokens", "is_whole"), [(4, 512, True), (512, 5, False)])
def test_where_memory_is_short_fails_only_what_fails_alone(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch, most_rows: int, most_tokens: int, is_whole: bool
) -> None:
    real, inbox = ModelRunner.run, Inbox()
    loop = make_loop(model, inbox)
    large, *small = (make_sequence(i, prompt) for i, prompt in enumerate([[5] * 300, *make_prompts(4, longest=3)]))
    for sequence in (large, *small):
        loop.submit(sequence)
    while not all(sequence.output_token_ids for sequence in small):
        loop.run_once()
    assert not large.output_token_ids
    num_short = 0

    def with_little_memory(runner: ModelRunner, batch: Batch) -> tuple[list[ScheduledSequence], torch.Tensor]:
        nonlocal num_short
        if len(batch.rows) > most_rows or sum(row.num_new_tokens for row in batch.rows) > most_tokens:
            num_short += 1
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return real(runner, batch)

    monkeypatch.setattr(ModelRunner, "run", with_little_memory)
    run_until(loop, inbox, 5)
    assert num_short
    assert [type(inbox.ends(sequence.key)[0]) for sequence in small] == [Finished] * 4
    assert isinstance(inbox.ends(large.key)[0], Finished if is_whole else InsufficientMemoryError)
    late = make_sequence(9, [5])
    loop.submit(late)
    run_until(loop, inbox, 6)
    assert isinstance(inbox.ends(late.key)[0], Finished)
    loop.close()


def test_retained_prefixes_go_first_when_a_step_finds_no_memory(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, inbox = ModelRunner.run, Inbox()
    loop = make_loop(model, inbox)
    loop.submit(make_sequence(1, [5] * 30))
    run_until(loop, inbox, 1)
    assert loop.stats().kv_retained_tokens > 0

    def full_until_cleared(runner: ModelRunner, batch: Batch) -> tuple[list[ScheduledSequence], torch.Tensor]:
        if loop.stats().kv_retained_tokens:
            raise torch.OutOfMemoryError("out of memory")
        return real(runner, batch)

    monkeypatch.setattr(ModelRunner, "run", full_until_cleared)
    second = make_sequence(2, [9] * 30)
    loop.submit(second)
    loop.run_once()
    assert loop.stats().kv_retained_tokens == 0
    run_until(loop, inbox, 2)
    assert isinstance(inbox.ends(second.key)[0], Finished)
    loop.close()


def test_a_prompt_that_is_preempted_half_way_leaves_no_trace(model: PreTrainedModel) -> None:
    inbox = Inbox()
    loop = make_loop(model, inbox, capacity_tokens=512, max_prefixes=0)
    old, new = (make_sequence(i, prompt) for i, prompt in enumerate(make_prompts(2, shortest=250, longest=250)))
    loop.submit(old)
    while len(old.output_token_ids) < 2:
        loop.run_once()
    loop.submit(new)
    loop.run_once()
    assert new.kv_slot is not None
    slab, row = new.kv_slot.slab, new.kv_slot.row
    # what nobody has seen to be numbers may be none
    slab.keys[0][row, :, 5] = torch.nan
    while not loop.stats().preempted_total:
        loop.run_once()
    assert torch.isfinite(slab.keys[0]).all()
    run_until(loop, inbox, 2)
    assert [type(inbox.ends(s.key)[0]) for s in (old, new)] == [Finished, Finished]
    assert loop.stats().prompt_tokens_total == 500, "a prompt counts once, however often it is computed"
    loop.close()


def test_guesses_take_no_memory_from_others(model: PreTrainedModel) -> None:
    inbox = Inbox()
    loop = make_loop(model, inbox, capacity_tokens=512, max_prefixes=0, max_num_batched_tokens=512)
    params = SamplingParams(temperature=0.0, max_tokens=50, num_draft_tokens=8)
    old = make_sequence(0, list(range(1, 13)) * 21, params)
    new = make_sequence(1, make_prompts(1, shortest=100, longest=100)[0])
    for sequence in (old, new):
        loop.submit(sequence)
    while not (old.output_token_ids and new.output_token_ids):
        loop.run_once()
    # as if it had gone on repeating itself
    old.token_ids = (list(range(1, 13)) * 22)[: old.num_tokens]
    loop.run_once()
    stats = loop.stats()
    assert stats.drafted_tokens_total > 0
    assert stats.preempted_total == 0
    loop.close()


def test_a_sequence_that_can_not_be_computed_anew_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    switch = 256  # where its slot has to grow as well
    config = CONFIGS["phi3_longrope"]()
    config.original_max_position_embeddings = switch
    config.rope_parameters = {**config.rope_parameters, "original_max_position_embeddings": switch}
    inbox = Inbox()
    loop = make_loop(from_config(config), inbox, max_num_batched_tokens=60)
    sequence = make_sequence(1, make_prompts(1, shortest=250, longest=250)[0], SamplingParams(max_tokens=50))
    loop.submit(sequence)
    loop.run_once()
    monkeypatch.setattr(KVCache, "has_memory", lambda *_: False)
    run_until(loop, inbox, 1)
    assert isinstance(inbox.ends(sequence.key)[0], InsufficientMemoryError)
    loop.close()
