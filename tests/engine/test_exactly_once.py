"""Every accepted sequence ends exactly once, in random schedules and with many threads."""

import dataclasses
import random
import threading

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from hugging_llama.engine.batch import Batch, ScheduledSequence
from hugging_llama.engine.core import StepLoop
from hugging_llama.engine.kv_cache import KVCache
from hugging_llama.engine.logit_bias import LogitBias
from hugging_llama.engine.model_runner import ModelRunner
from hugging_llama.engine.sequence import Sequence
from hugging_llama.errors import EngineBusyError, HuggingLlamaError
from hugging_llama.neutral.events import Finished, PromptLogprobs, Started, TextDelta
from hugging_llama.neutral.requests import SamplingParams
from tests.engine.families import make_family
from tests.engine.harness import Echo, Inbox, make_loop, make_prompts, make_sequence, run_until
from tests.engine.tiny_models import VOCAB_SIZE, make_model


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return make_model("llama")


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.mark.parametrize("seed", range(2, 5))
@pytest.mark.parametrize("name", ["llama", "phi3_longrope", "falcon_h1"])
@pytest.mark.usefixtures("kernels")
def test_every_accepted_sequence_ends_exactly_once(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Good and bad requests, shared beginnings, guesses, shifts, cancels, little memory, and a device that fails."""
    rng, inbox = random.Random(f"{name} {seed}"), Inbox()
    model = make_family(name) if name == "falcon_h1" else make_model(name)
    loop = make_loop(
        model,
        inbox,
        max_num_seqs=rng.choice([3, 6]),
        max_queue=10,
        max_num_batched_tokens=60,
        max_prefixes=rng.choice([1, 4]),
        capacity_tokens=rng.choice([512, 768, 1024]),
    )
    roots = make_prompts(3, seed=seed, shortest=225, longest=250)
    accepted: list[Sequence] = []
    with monkeypatch.context() as patch:
        _make_unreliable(patch, rng)
        for number in range(40):
            sequence = _random_sequence(rng, number, rng.choice(roots))
            try:
                loop.submit(sequence)
                accepted.append(sequence)
            except HuggingLlamaError:
                assert inbox.events(sequence.key) == []
            if rng.random() < 0.2 and accepted:
                loop.cancel(rng.choice(accepted).key)
            if rng.random() < 0.03:
                loop.cancel_connection(rng.randrange(3))
            for _ in range(rng.randrange(12)):
                loop.run_once()
                _check_memory(loop)
        if rng.random() < 0.7:
            run_until(loop, inbox, len(accepted))
            assert loop.stats().kv_used_tokens == 0
    loop.close()
    _check_ends(inbox, accepted)
    assert loop.stats().kv_used_tokens == 0
    _check_memory(loop)
    if name != "falcon_h1":  # states are rounded otherwise in a whole prompt than token by token
        _check_tokens(model, accepted)


def _make_unreliable(patch: pytest.MonkeyPatch, rng: random.Random) -> None:
    """Now and then a forward fails, its logits are no numbers, or there is no memory."""
    run, has_memory = ModelRunner.run, KVCache.has_memory

    def run_perhaps(runner: ModelRunner, batch: Batch) -> tuple[list[ScheduledSequence], Tensor]:
        if rng.random() < 0.01:
            raise rng.choice([RuntimeError("a kernel fails"), torch.OutOfMemoryError("out of memory")])
        rows, logits = run(runner, batch)
        if len(logits) and rng.random() < 0.01:
            logits = logits.clone()
            logits[rng.randrange(len(logits)), 3] = torch.nan
        return rows, logits

    patch.setattr(ModelRunner, "run", run_perhaps)
    patch.setattr(KVCache, "has_memory", lambda cache, n: rng.random() > 0.02 and has_memory(cache, n))


def _random_sequence(rng: random.Random, number: int, root: list[int]) -> Sequence:
    output = Echo(
        fail_at=rng.choice([None] * 8 + [0, 3]),
        stop_ids=frozenset(rng.sample(range(VOCAB_SIZE), rng.choice([0, 0, 0, 10]))),
    )
    shift = rng.random() < 0.5
    sampling = SamplingParams(
        temperature=rng.choice([0.0, 0.0, 1.0]),
        max_tokens=rng.choice([0, 1, 5, 30, 60, 60 if shift else None]),
        seed=number,
        repetition_penalty=rng.choice([1.0, 1.2]),
        num_keep=rng.choice([0, 4, 30, -1]),
        num_draft_tokens=rng.choice([0, 4]),
    )
    tail = [rng.randrange(VOCAB_SIZE + (rng.random() < 0.02)) for _ in range(rng.choice([0, 1, 14]))]
    prompt = root[: rng.choice([0, 15, 36, 36, 90, 245, 245])] + tail
    return make_sequence(
        number,
        prompt,
        sampling,
        connection=rng.randrange(3),
        context_length=max(rng.choice([46, 90, 300]), rng.choice([len(prompt), len(prompt) + 20])),
        output=output,
        shift=shift,
        bias=_few_words() if rng.random() < 0.5 else None,
        prompt_logprobs=rng.choice([None, None, None, 1]),
        token_bytes=lambda token_id: b"%d" % token_id,
    )


def _few_words() -> LogitBias:
    """With so few words an answer repeats itself, and guesses are right now and then."""
    return LogitBias(dict.fromkeys(range(20, 26), 100.0), {}, {})


def _check_memory(loop: StepLoop) -> None:
    """Whatever slots and prefixes hold is counted, and what nobody holds is free and has numbers."""
    cache, scheduler = loop._kv_cache, loop._scheduler
    slots = [sequence.kv_slot for sequence in scheduler.running if sequence.kv_slot is not None]
    assert len(slots) == len(scheduler.running)
    assert cache.used_tokens == sum(slot.capacity for slot in slots) + scheduler.prefixes.num_tokens
    slabs = [slab for slabs in cache._slabs.values() for slab in slabs]
    assert cache.allocated_tokens == sum(slab.num_slots * slab.capacity for slab in slabs)
    for slab in slabs:
        taken = [slot.row for slot in slots if slot.slab is slab]
        assert sorted(taken + slab.free_rows) == list(range(slab.num_slots))
        for buffer in (*slab.keys.values(), *slab.values.values()):
            assert torch.isfinite(buffer[slab.free_rows]).all()


def _check_tokens(model: PreTrainedModel, sequences: list[Sequence]) -> None:
    """Each greedy one has said what it says alone, as far as it came: a draw may meet a border that rounding moves."""
    inbox = Inbox()
    loop = make_loop(model, inbox, max_num_seqs=1, max_prefixes=0, max_num_batched_tokens=256)
    for sequence in sequences:
        if sequence.output_token_ids and sequence.sampling.temperature == 0:
            alone = make_sequence(
                sequence.key[1],
                sequence.prompt_token_ids,
                dataclasses.replace(sequence.sampling, num_draft_tokens=0, max_tokens=len(sequence.output_token_ids)),
                context_length=sequence.context_length,
                shift=sequence.shift,
                bias=sequence.sampling_state.bias,
            )
            loop.submit(alone)
            run_until(loop, inbox, len(inbox.finished) + 1)
            assert alone.output_token_ids == sequence.output_token_ids
    loop.close()


def _check_ends(inbox: Inbox, accepted: list[Sequence]) -> None:
    assert sorted(s.key for s in inbox.finished) == sorted(s.key for s in accepted)
    for sequence in accepted:
        events = inbox.events(sequence.key)
        assert len(inbox.ends(sequence.key)) == 1
        assert all(isinstance(event, TextDelta | Started | PromptLogprobs) for event in events[:-1])
        told = [event for event in events if isinstance(event, PromptLogprobs)]
        ids = [token for event in told for token in (event.first, *(entry.token for entry in event.entries)) if token]
        prompt = [b"%d" % token_id for token_id in sequence.prompt_token_ids]
        is_whole = sequence.prompt_logprobs is not None and bool(sequence.output_token_ids)
        assert ids == prompt[: len(prompt) if is_whole else len(ids)]
        assert isinstance(events[-1], Finished | HuggingLlamaError)


def test_many_threads_at_once(model: PreTrainedModel, inbox: Inbox) -> None:
    loop = make_loop(model, inbox, max_num_seqs=4, max_queue=10)
    loop.start()
    accepted: list[Sequence] = []

    def client(connection: int) -> None:
        rng = random.Random(connection)
        for number in range(12):
            sequence = make_sequence(number, [5] * rng.randint(1, 20), connection=connection)
            try:
                loop.submit(sequence)
                accepted.append(sequence)
            except EngineBusyError:
                continue
            if rng.random() < 0.5:
                loop.cancel(sequence.key)

    threads = [threading.Thread(target=client, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    loop.close()
    _check_ends(inbox, accepted)
