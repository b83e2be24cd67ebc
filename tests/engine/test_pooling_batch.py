"""Which texts share a batch: similar lengths, a bounded number of tokens, and everybody has a turn."""

from array import array
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.engine.pooling_batch import PoolingItem, PoolingJob, PoolingQueue
from hugging_llama.engine.pooling_tokens import TokenRow
from hugging_llama.errors import EngineBusyError
from hugging_llama.neutral.callers import ANONYMOUS, Caller
from hugging_llama.neutral.models import ModelRef
from hugging_llama.neutral.requests import EmbedRequest

BUDGET = 64
BULK, OTHER = Caller("bulk"), Caller("other")
REQUEST = EmbedRequest(model=ModelRef(name="m", path="p"), inputs=())
lengths = st.lists(st.integers(1, 100), min_size=1, max_size=20)


def make_job(number: int, text_lengths: list[int], caller: Caller = ANONYMOUS) -> PoolingJob:
    job = PoolingJob((1, number), replace(REQUEST, caller=caller), 0)
    job.add([TokenRow({"input_ids": array("i", [number] * length)}) for length in text_lengths])
    return job


def make_queue(*jobs: PoolingJob) -> PoolingQueue:
    queue = PoolingQueue(BUDGET, 1000)
    queue.jobs += jobs
    return queue


def take(queue: PoolingQueue) -> list[PoolingItem]:
    """One batch; requests of which nothing is left go, as in the runner."""
    batch = queue.take()
    queue.jobs = [job for job in queue.jobs if job.waiting]
    return batch


@given(st.lists(lengths, min_size=1, max_size=8))
def test_every_text_once_within_the_budget_and_with_its_like(requests: list[list[int]]) -> None:
    queue = make_queue(*(make_job(number, text_lengths) for number, text_lengths in enumerate(requests)))
    texts = [text for job in queue.jobs for text in job.items]
    seen: list[PoolingItem] = []
    while queue.jobs:
        batch = take(queue)
        sizes = [text.length for text in batch]
        assert len(batch) == 1 or len(batch) * max(sizes) <= BUDGET
        assert max(sizes) <= 2 * min(sizes)
        seen += batch
    assert len(seen) == len(texts)
    assert {id(text) for text in seen} == {id(text) for text in texts}


def test_only_so_many_may_be_there_and_a_caller_who_has_none_finds_a_place() -> None:
    queue = PoolingQueue(BUDGET, 2)
    for number in range(2):
        queue.append(make_job(number, [8], BULK))
    with pytest.raises(EngineBusyError) as caught:
        queue.append(make_job(2, [8], BULK))
    assert caught.value.facts["queue_depth"] == 2
    queue.append(make_job(3, [8], OTHER))
    with pytest.raises(EngineBusyError):
        queue.append(make_job(4, [8], OTHER))
    queue.append(make_job(5, [8], Caller("third")))
    with pytest.raises(EngineBusyError):
        queue.append(make_job(6, [8], Caller("fourth")))
    take(queue)
    queue.append(make_job(7, [8], BULK))


def test_lengths_of_all_requests_are_mixed() -> None:
    queue = make_queue(make_job(0, [8, 30]), make_job(1, [30, 8]), make_job(2, [8]))
    assert [text.length for text in take(queue)] == [30, 30]
    assert [text.length for text in take(queue)] == [8, 8, 8]
    assert not queue.jobs


def test_a_small_request_does_not_wait_for_a_large_one() -> None:
    large, small = make_job(0, [60] * 100), make_job(1, [3])
    queue = make_queue(large, small)
    take(queue)
    take(queue)
    assert not small.waiting
    assert len(large.waiting) == 99


@given(lengths, st.integers(0, 5), st.integers(1, 100))
def test_nobody_starves(text_lengths: list[int], num_ahead: int, other: int) -> None:
    """However many come in later, a request needs at most two batches a text of its own and of those before it."""
    ahead = [make_job(number, [other] * 3) for number in range(num_ahead)]
    target = make_job(100, text_lengths)
    queue = make_queue(*ahead, target)
    turns = 0
    while target.waiting:
        take(queue)
        turns += 1
        queue.jobs.append(make_job(100 + turns, [other] * 5))
    assert turns <= 2 * (3 * num_ahead + len(text_lengths))


def test_callers_take_turns_and_their_own_texts_come_first() -> None:
    bulk = [make_job(number, [20] * 50, Caller("bulk")) for number in range(3)]
    other = make_job(100, [30, 20, 16, 8], Caller("other"))
    queue = make_queue(*bulk, other)
    batches = [[item.job.key[1] for item in take(queue)] for _ in range(4)]
    # 64 tokens: two of 30 with their padding, then three of 20, and as many of 8 as there are
    assert batches[0] == [0, 0, 0]
    assert batches[1] == [100, 100]
    assert 100 not in batches[2]
    assert batches[3][:1] == [100]


def test_a_caller_with_many_requests_has_no_more_turns_than_one_with_one() -> None:
    bulk = [make_job(number, [60] * 10, Caller("bulk")) for number in range(20)]
    other = make_job(100, [60] * 10, Caller("other"))
    queue = make_queue(*bulk, other)
    begun = [take(queue)[0].job.request.caller.id for _ in range(20)]
    assert begun == ["bulk", "other"] * 10


def test_who_comes_while_a_batch_is_computed_is_told_the_pace_of_those_before() -> None:
    queue = PoolingQueue(BUDGET, 1000)

    def compute() -> None:
        for item in take(queue):
            item.values = (1.0,)

    for number in range(2):
        queue.append(make_job(number, [8]))
        compute()
        late = make_job(number + 10, [8])
        queue.append(late)
        assert late.queued is not None
        assert late.queued.position == 1
        assert bool(late.queued.expected_s) == bool(number), "nobody knows it of the first batch"
        queue.done()
        compute()
        assert late.queued.waited_ns > 0
        queue.done()
    alone = make_job(20, [8])
    queue.append(alone)
    assert alone.queued is None


def test_the_pace_is_that_of_requests_of_which_many_share_a_batch() -> None:
    queue = PoolingQueue(BUDGET, 1000)
    for number in range(4):
        queue.append(make_job(number, [8]))
    for item in take(queue):
        item.values = (1.0,)
    queue._taken_ns -= 4_000_000_000  # as if it had been computed for four seconds
    queue.done()
    queue.append(make_job(4, [8]))
    take(queue)
    queue.done()  # it was cancelled: that is no pace
    queue.append(make_job(5, [8]))
    take(queue)
    late = [make_job(number, [8]) for number in (6, 7)]
    for job in late:
        queue.append(job)
    assert [job.queued and (job.queued.position, job.queued.expected_s) for job in late] == [(1, 1.0), (2, 2.0)]
