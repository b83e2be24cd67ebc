"""Which inputs go into the next batch of a model that makes vectors or scores of them."""

import heapq
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, takewhile

from hugging_llama.engine.pooling_tokens import TokenRow
from hugging_llama.engine.queue_pace import QueuePace
from hugging_llama.engine.turns import Turns
from hugging_llama.ipc.facade import Key
from hugging_llama.neutral.callers import Caller
from hugging_llama.neutral.events import Queued
from hugging_llama.neutral.requests import ClassifyRequest, EmbedRequest

PoolingRequest = EmbedRequest | ClassifyRequest
"""What one forward over its whole inputs answers."""


@dataclass(eq=False, slots=True)
class PoolingItem:
    """One input on its way to a vector, or to its scores: `values`."""

    job: "PoolingJob"
    row: TokenRow
    values: Sequence[float] = ()

    @property
    def length(self) -> int:
        """In tokens."""
        return self.row.length


@dataclass(eq=False, slots=True)
class PoolingJob:
    """One request. `waiting` holds its inputs that no batch has taken, the longest first.

    `queued` is as in Embeddings; `queued_before` is how it had waited for its model.
    """

    key: Key
    request: PoolingRequest
    load_ns: int
    items: list[PoolingItem] = field(default_factory=list)
    waiting: list[PoolingItem] = field(default_factory=list)
    num_turns: int = 0
    num_done: int = 0
    is_over: bool = False
    arrival_ns: int = 0
    num_batches_before: int = 0
    queued: Queued | None = None
    queued_before: Queued | None = None

    def add(self, rows: Sequence[TokenRow]) -> None:
        """Sets the inputs."""
        self.items = [PoolingItem(self, row) for row in rows]
        self.waiting = sorted(self.items, key=_longest_first)

    @property
    def num_prompt_tokens(self) -> int:
        """Of all inputs."""
        return sum(item.length for item in self.items)

    @property
    def num_truncated_tokens(self) -> int:
        """Of the input that lost the most."""
        return max(item.row.num_truncated for item in self.items)

    @property
    def is_untouched(self) -> bool:
        """Whether no batch has taken anything yet."""
        return len(self.waiting) == len(self.items)

    def no_longer_than(self, length: int) -> Iterator[PoolingItem]:
        """What waits and is not longer, the longest first."""
        return map(self.waiting.__getitem__, range(self._start(length), len(self.waiting)))

    def drop(self, length: int, count: int) -> None:
        """Takes the first `count` of `no_longer_than(length)` out of `waiting`."""
        start = self._start(length)
        del self.waiting[start : start + count]

    def _start(self, length: int) -> int:
        return bisect_left(self.waiting, -length, key=_longest_first)


class PoolingQueue:
    """The requests of a runner in the order of their arrival: `max_jobs`, or twice as many where each of the rest is of
    another caller who had none. A batch has at most `max_tokens` with its padding, or one input. Not thread-safe.

    Batches are for callers in turn. Of one caller's every second one begins with the oldest request, so that each one
    ends however many come after it; the others begin with the request that had the fewest turns, so that a small one
    does not wait for a large one's end.
    """

    def __init__(self, max_tokens: int, max_jobs: int) -> None:
        self.jobs: list[PoolingJob] = []
        self._max_tokens = max_tokens
        self._max_jobs = max_jobs
        self._turns = Turns()
        self._last_by_age: set[Caller] = set()
        self._num_batches = 0
        self._batch: list[PoolingItem] = []
        self._taken_ns = self._num_begun = 0
        self._pace = QueuePace(1)

    def append(self, job: PoolingJob) -> None:
        """It waits, behind all of its caller, and for the end of a batch that is being computed in any case. Raises
        EngineBusyError if there are too many."""
        if not self._has_room(job.request.caller):
            num_waiting = sum(waiting.is_untouched for waiting in self.jobs)
            raise self._pace.busy("the request queue is full", num_waiting, num_waiting)
        is_computing = bool(self._batch)
        self.jobs.append(job)
        if is_computing or len(self.jobs) > 1:
            job.queued = self._pace.at(self._place(job.request.caller))
        job.num_batches_before = self._num_batches - (1 if is_computing else 0)
        job.arrival_ns = time.monotonic_ns()

    def _has_room(self, caller: Caller) -> bool:
        if len(self.jobs) < self._max_jobs:
            return True
        return len(self.jobs) < 2 * self._max_jobs and all(job.request.caller != caller for job in self.jobs)

    def done(self) -> None:
        """The batch that was taken last, if any was, is computed, or all of it was cancelled."""
        if any(item.values for item in self._batch):
            # a place in the queue is that of a request, and many begin with one batch
            self._pace.observe((time.monotonic_ns() - self._taken_ns) / 1e9 / max(self._num_begun, 1))
        self._batch = []

    def take(self) -> list[PoolingItem]:
        """Takes the next batch out of the requests, for computing; there must be one, and all must have inputs that
        wait.

        It begins with the longest input of the request whose turn it is and goes on with the next shorter ones of its
        caller, then of all others, while they are at least half as long: to pad shorter ones costs more than a batch of
        their own.
        """
        callers = Counter(job.request.caller for job in self.jobs)
        caller = next(self._turns.order(callers))
        self._turns.took(caller, callers)
        own = [job for job in self.jobs if job.request.caller == caller]
        first = self._first_of(own, caller)
        first.num_turns += 1
        longest = first.waiting[0].length
        room = max(self._max_tokens // longest, 1)
        own = [first, *(job for job in own if job is not first)]
        others = [job for job in self.jobs if job.request.caller != caller]
        batch = list(islice(chain(_alike(own, longest), _alike(others, longest)), room))
        self._num_batches += 1
        self._batch, self._taken_ns, self._num_begun = batch, time.monotonic_ns(), 0
        for job, count in Counter(item.job for item in batch).items():
            if job.is_untouched:
                self._begin(job)
                self._num_begun += 1
            job.drop(longest, count)
        return batch

    def _begin(self, job: PoolingJob) -> None:
        """Its first batch: if there has been none since it came, it had not to wait."""
        if job.num_batches_before == self._num_batches - 1:
            job.queued = None
        queued, waited_ns = job.queued_before or job.queued, time.monotonic_ns() - job.arrival_ns
        job.queued = queued and queued.waiting(waited_ns if job.queued else 0)

    def _place(self, caller: Caller) -> int:
        """Of the last one of `caller` among those who have had no batch, the next one's is 1."""
        waiting = Counter(job.request.caller for job in self.jobs if job.is_untouched)
        turns = (place for place, other in enumerate(self._turns.order(waiting), 1) if other == caller)
        return next(islice(turns, waiting[caller] - 1, None))

    def _first_of(self, own: list[PoolingJob], caller: Caller) -> PoolingJob:
        self._last_by_age &= {job.request.caller for job in self.jobs}
        if caller in self._last_by_age:
            self._last_by_age.remove(caller)
            return min(own, key=lambda job: job.num_turns)
        self._last_by_age.add(caller)
        return own[0]


def _alike(jobs: list[PoolingJob], longest: int) -> Iterator[PoolingItem]:
    """What waits of these and is about as long, the longest first."""
    candidates = heapq.merge(*(job.no_longer_than(longest) for job in jobs), key=_longest_first)
    return takewhile(lambda item: 2 * item.length >= longest, candidates)


def _longest_first(item: PoolingItem) -> int:
    return -item.length
