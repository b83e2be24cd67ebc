"""Several callers, one model: places, prompt tokens and batches in turn, whoever asks for how much."""

import time
from collections import Counter
from collections.abc import Iterator

import pytest
from transformers import PreTrainedModel

from hugging_llama.engine.core import StepLoop
from hugging_llama.engine.fallback import GenerateRunner
from hugging_llama.engine.sequence import Sequence, SequenceStatus
from hugging_llama.errors import EngineBusyError
from hugging_llama.neutral.callers import ANONYMOUS, Caller
from hugging_llama.neutral.events import Progress, Started, TextDelta
from hugging_llama.neutral.requests import SamplingParams
from tests.engine.harness import Inbox, make_loop, make_prompts, make_sequence, run_until
from tests.engine.tiny_models import make_mamba, make_model

BULK, OTHER = Caller("bulk"), Caller("other")
PLACES = 4


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return make_model("llama")


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def loop(model: PreTrainedModel, inbox: Inbox) -> Iterator[StepLoop]:
    loop = make_loop(model, inbox, max_num_seqs=PLACES, max_num_batched_tokens=32, max_prefixes=0)
    yield loop
    loop.close()


def submit(
    runner: StepLoop | GenerateRunner,
    caller: Caller,
    count: int,
    *,
    first: int = 0,
    num_prompt_tokens: int = 5,
    max_tokens: int = 8,
    tells_progress: bool = False,
) -> list[Sequence]:
    """Requests of one caller, each with a prompt of its own."""
    prompts = make_prompts(count, seed=first + 1, shortest=num_prompt_tokens, longest=num_prompt_tokens)
    sampling = SamplingParams(temperature=0.0, max_tokens=max_tokens)
    made = [
        make_sequence(first + number, prompt, sampling, caller=caller, tells_progress=tells_progress)
        for number, prompt in enumerate(prompts)
    ]
    for sequence in made:
        runner.submit(sequence)
    return made


def admissions(loop: StepLoop, sequences: list[Sequence]) -> list[Caller]:
    """Whose sequences were admitted, in order, until all have ended; of one step those of fewer requests first."""
    seen: set[int] = set()
    order: list[Caller] = []
    while not all(sequence.is_finished for sequence in sequences):
        loop.run_once()
        new = [s for s in sequences if s.admitted_ns and id(s) not in seen]
        seen |= {id(s) for s in new}
        order += [s.caller for s in sorted(new, key=lambda s: s.admitted_ns)]
    return order


def running(sequences: list[Sequence]) -> int:
    return sum(sequence.status is SequenceStatus.RUNNING for sequence in sequences)


def test_the_next_free_places_are_the_others(loop: StepLoop) -> None:
    bulk = submit(loop, BULK, 30)
    loop.run_once()
    assert running(bulk) == PLACES
    other = submit(loop, OTHER, 3, first=100)
    order = admissions(loop, bulk + other)
    # the first four end together, so that nobody holds a place
    assert order[PLACES : PLACES + 6] == [OTHER, BULK, OTHER, BULK, OTHER, BULK]
    assert OTHER not in order[PLACES + 6 :]


def test_both_get_as_many_tokens_while_both_want_them(loop: StepLoop) -> None:
    bulk = submit(loop, BULK, 40)
    loop.run_once()
    other = submit(loop, OTHER, 12, first=100)
    while not any(s.caller == OTHER and s.admitted_ns for s in other):
        loop.run_once()
    before = Counter({s.caller: 0 for s in (*bulk, *other)})
    before[BULK] = sum(len(s.output_token_ids) for s in bulk)
    while not all(s.admitted_ns for s in other):
        loop.run_once()
    gained = sum(len(s.output_token_ids) for s in bulk) - before[BULK]
    mine = sum(len(s.output_token_ids) for s in other)
    assert mine >= 0.8 * gained


def test_long_answers_of_one_do_not_slow_down_short_ones_of_another(loop: StepLoop) -> None:
    """In plain turns each short answer would pay for a long one with its place."""
    bulk = submit(loop, BULK, 20, max_tokens=200)
    loop.run_once()
    other = submit(loop, OTHER, 10, first=100, max_tokens=2)
    while not all(s.is_finished for s in other):
        loop.run_once()
    assert sum(s.admitted_ns > 0 for s in bulk) <= PLACES + 2


def test_prompts_of_two_callers_share_the_budget(loop: StepLoop) -> None:
    bulk = submit(loop, BULK, PLACES - 1, num_prompt_tokens=300)
    loop.run_once()
    (other,) = submit(loop, OTHER, 1, first=100, num_prompt_tokens=120)
    computed = sum(s.num_computed_tokens for s in bulk)
    for step in range(1, 8):
        loop.run_once()
        assert other.num_computed_tokens == 16 * step
    # a quarter of the first chunk is left for who comes behind it, as ever
    assert sum(s.num_computed_tokens for s in bulk) - computed == 16 * 7


def test_a_short_prompt_takes_no_more_than_it_needs(loop: StepLoop) -> None:
    submit(loop, BULK, 1, num_prompt_tokens=300)
    loop.run_once()
    short = submit(loop, OTHER, 1, first=100, num_prompt_tokens=6)
    third = submit(loop, Caller("third"), 1, first=200, num_prompt_tokens=300)
    loop.run_once()
    assert [s.num_computed_tokens for s in (*short, *third)] == [6, 13]


def test_what_a_caller_can_not_use_is_not_lost(model: PreTrainedModel, inbox: Inbox) -> None:
    """The other one waits for the keys of the same prompt, so it takes nothing from it."""
    loop = make_loop(model, inbox, max_num_seqs=PLACES, max_num_batched_tokens=32)
    (prompt,) = make_prompts(1, shortest=300, longest=300)
    first, second = (make_sequence(n, prompt, caller=caller) for n, caller in enumerate((BULK, OTHER)))
    loop.submit(first)
    loop.run_once()
    loop.submit(second)
    computed = first.num_computed_tokens
    for step in range(1, 5):
        loop.run_once()
        assert first.num_computed_tokens == computed + 32 * step
    assert not second.admitted_ns
    run_until(loop, inbox, 2)
    assert second.num_cached_tokens >= 200
    loop.close()


def test_priorities_go_first_but_not_for_ever(loop: StepLoop) -> None:
    low = submit(loop, Caller("low"), 10)
    high = submit(loop, Caller("high", priority=5), 60, first=100)
    order = [caller.id for caller in admissions(loop, low + high)]
    assert order[:9] == ["high"] * 8 + ["low"]
    assert order[:54].count("low") == 6


@pytest.mark.parametrize("capacity_tokens", [1 << 14, 1024])
def test_no_text_depends_on_who_asks(model: PreTrainedModel, capacity_tokens: int) -> None:
    def texts(callers: list[Caller]) -> list[str]:
        inbox = Inbox()
        loop = make_loop(model, inbox, max_num_seqs=3, capacity_tokens=capacity_tokens, max_num_batched_tokens=64)
        for number, caller in enumerate(callers):
            (prompt,) = make_prompts(1, seed=number, shortest=150, longest=180)
            sampling = SamplingParams(temperature=1.0, seed=number, max_tokens=120)
            loop.submit(make_sequence(number, prompt, sampling, caller=caller))
        run_until(loop, inbox, len(callers))
        loop.close()
        assert capacity_tokens > 1024 or loop.stats().preempted_total > 0
        return ["".join(e.text for e in inbox.events((1, n)) if isinstance(e, TextDelta)) for n in range(len(callers))]

    assert texts([BULK, BULK, OTHER, BULK, OTHER]) == texts([ANONYMOUS] * 5)


def test_a_large_request_is_not_overtaken_by_other_callers(model: PreTrainedModel, inbox: Inbox) -> None:
    loop = make_loop(model, inbox, max_num_seqs=PLACES, capacity_tokens=1024, max_num_batched_tokens=1000)
    submit(loop, BULK, 1, num_prompt_tokens=400, max_tokens=20)
    loop.run_once()
    (large,) = submit(loop, BULK, 1, first=10, num_prompt_tokens=600, max_tokens=2)
    loop.run_once()
    small = [submit(loop, Caller(str(n)), 1, first=20 + n, max_tokens=2)[0] for n in range(6)]
    while not large.admitted_ns:
        loop.run_once()
    assert not any(s.admitted_ns and s.admitted_ns < large.admitted_ns for s in small)
    run_until(loop, inbox, 8)
    loop.close()


def test_a_full_queue_keeps_nobody_else_out(model: PreTrainedModel, inbox: Inbox) -> None:
    loop = make_loop(model, inbox, max_num_seqs=1, max_queue=3)
    bulk = submit(loop, BULK, 4)
    with pytest.raises(EngineBusyError) as caught:
        submit(loop, BULK, 1, first=50)
    assert caught.value.facts == {"queue_depth": 4, "retry_after_s": 5.0}
    (other,) = submit(loop, OTHER, 1, first=100)
    loop.run_once()
    bulk[0].admitted_ns = time.monotonic_ns() - 7 * 10**9  # as if it had run for seven seconds
    while not bulk[0].is_finished:
        loop.run_once()
    with pytest.raises(EngineBusyError) as caught:
        submit(loop, BULK, 1, first=60)
    assert 4 * 7 <= caught.value.facts["retry_after_s"] <= 60
    loop.run_once()
    assert other.admitted_ns
    loop.close()


def test_who_waits_is_told_its_place(loop: StepLoop, inbox: Inbox) -> None:
    first = submit(loop, BULK, PLACES)
    loop.run_once()
    later = submit(loop, BULK, 3, first=10)
    other = submit(loop, OTHER, 1, first=100)
    run_until(loop, inbox, PLACES + 4)
    starts = {s.key[1]: inbox.events(s.key)[0] for s in (*first, *later, *other)}
    assert not any(isinstance(starts[s.key[1]], Started) for s in first)
    told = [starts[s.key[1]].queued for s in (*other, *later)]
    assert [queued.position for queued in told] == [1, 2, 3, 4]
    assert all(queued.waited_ns > 0 for queued in told)


def test_progress_is_told_to_those_who_ask(loop: StepLoop, inbox: Inbox) -> None:
    submit(loop, BULK, PLACES)
    loop.run_once()
    asking = submit(loop, BULK, 2, first=10, num_prompt_tokens=90, tells_progress=True)
    silent = submit(loop, BULK, 1, first=20, num_prompt_tokens=90)
    for sequence in asking:  # tell every change, as if each step took long
        assert sequence.progress is not None
        sequence.progress._interval_ns = 0
    run_until(loop, inbox, PLACES + 3)
    for number, sequence in enumerate(asking, 1):
        events = inbox.events(sequence.key)
        told = [event for event in events if isinstance(event, Progress)]
        assert events[: len(told)] == told, "it comes before everything else"
        assert told[0] == Progress(phase="queue", position=number)
        in_prompt = [event for event in told if event.phase == "prompt"]
        assert {event.total for event in in_prompt} == {90}
        assert [event.completed for event in in_prompt] == sorted({event.completed for event in in_prompt})
        assert in_prompt[0].completed == 0
        assert len(in_prompt) > 2
    assert not any(isinstance(event, Progress) for event in inbox.events(silent[0].key))


def test_one_at_a_time_callers_take_turns(inbox: Inbox) -> None:
    runner = GenerateRunner(make_mamba(), max_queue=100, emit=inbox.emit, on_finished=inbox.on_finished, name="test")
    bulk = submit(runner, BULK, 4, tells_progress=True)
    other = submit(runner, OTHER, 2, first=100)
    for _ in range(6):
        runner.run_once()
    assert [s.caller for s in inbox.finished] == [BULK, OTHER, BULK, OTHER, BULK, BULK]
    assert [s.queued.position if s.queued else 0 for s in (*bulk, *other)] == [0, 2, 3, 4, 2, 4]
    told = [event for event in inbox.events(bulk[2].key) if isinstance(event, Progress)]
    assert told[0].phase == "queue"
    assert told[-1] == Progress(phase="prompt", completed=0, total=5)
    started = next(event for event in inbox.events(other[0].key) if isinstance(event, Started))
    assert started.queued is not None
    assert started.queued.position == 2
    assert started.queued.waited_ns > 0
    runner.close()


def test_who_waits_for_the_prompt_of_another_while_there_are_places_is_in_no_queue(
    model: PreTrainedModel, inbox: Inbox
) -> None:
    loop = make_loop(model, inbox, max_num_seqs=PLACES, max_num_batched_tokens=32)
    (prompt,) = make_prompts(1, seed=1, shortest=90, longest=90)
    sampling = SamplingParams(temperature=0.0, max_tokens=8)
    first, second = (make_sequence(number, prompt, sampling, tells_progress=True) for number in range(2))
    for sequence in (first, second):
        loop.submit(sequence)
    loop.run_once()
    assert first.admitted_ns
    assert not second.admitted_ns, "it will copy what the first one computes"
    assert inbox.events(second.key) == [Progress(phase="prompt", completed=0, total=90)]
    run_until(loop, inbox, 2)
    for sequence in (first, second):
        told = [event for event in inbox.events(sequence.key) if isinstance(event, Progress)]
        assert {event.phase for event in told} == {"prompt"}
        assert sequence.queued is None
    loop.close()
