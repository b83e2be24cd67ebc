"""Every accepted sequence ends exactly once, in random schedules and with many threads."""

import random
import threading

import pytest
from transformers import PreTrainedModel

from hugging_llama.engine.sequence import Sequence
from hugging_llama.errors import EngineBusyError, HuggingLlamaError
from hugging_llama.neutral.events import Finished, TextDelta
from hugging_llama.neutral.requests import SamplingParams
from tests.engine.harness import Echo, Inbox, make_loop, make_sequence, run_until
from tests.engine.tiny_models import VOCAB_SIZE, make_model


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return make_model("llama")


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.mark.parametrize("seed", range(12))
def test_every_accepted_sequence_ends_exactly_once(model: PreTrainedModel, seed: int) -> None:
    rng = random.Random(seed)
    inbox = Inbox()
    loop = make_loop(model, inbox, max_num_seqs=3, max_queue=4, capacity_tokens=1024)
    accepted: list[Sequence] = []
    closed = False
    for number in range(40):
        sequence = _random_sequence(rng, number)
        try:
            loop.submit(sequence)
            accepted.append(sequence)
        except HuggingLlamaError:
            assert inbox.events(sequence.key) == []
        if rng.random() < 0.3 and accepted:
            loop.cancel(rng.choice(accepted).key)
        if rng.random() < 0.05:
            loop.cancel_connection(rng.randrange(3))
        if rng.random() < 0.02:
            loop.close()
            closed = True
        for _ in range(rng.randrange(4)):
            loop.run_once()
    if not closed and rng.random() < 0.5:
        run_until(loop, inbox, len(accepted))
    loop.close()
    _check_ends(inbox, accepted)
    assert loop.stats().kv_used_tokens == 0


def _random_sequence(rng: random.Random, number: int) -> Sequence:
    output = Echo(
        fail_at=rng.choice([None, None, 0, 3]),
        stop_ids=frozenset(rng.sample(range(VOCAB_SIZE), rng.choice([0, 50]))),
    )
    sampling = SamplingParams(max_tokens=rng.choice([0, 1, 5, None]), seed=number)
    prompt = [rng.randrange(VOCAB_SIZE + (rng.random() < 0.1)) for _ in range(rng.randrange(25))]
    return make_sequence(
        number, prompt, sampling, connection=rng.randrange(3), context_length=rng.choice([20, 40, 70]), output=output
    )


def _check_ends(inbox: Inbox, accepted: list[Sequence]) -> None:
    assert sorted(s.key for s in inbox.finished) == sorted(s.key for s in accepted)
    for sequence in accepted:
        events = inbox.events(sequence.key)
        assert len(inbox.ends(sequence.key)) == 1
        assert all(isinstance(event, TextDelta) for event in events[:-1])
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
