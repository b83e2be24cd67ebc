"""Which tokens are computed in the next step.

Running sequences decode first, one token each; what is left of the token budget goes to prompt chunks, oldest
first. So a long prompt never stalls the running streams for longer than one chunk takes.
"""

import time
from collections import deque
from dataclasses import dataclass

from hugging_llama.engine.kv_cache import KVCache
from hugging_llama.engine.sequence import Sequence, SequenceStatus
from hugging_llama.errors import EngineBusyError, HuggingLlamaError

_RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class ScheduledSequence:
    """`num_new_tokens` of `sequence`, from its `num_computed_tokens` on, are part of a step."""

    sequence: Sequence
    num_new_tokens: int

    @property
    def is_sampled(self) -> bool:
        """True if these are its last known tokens, so that the step yields its next one."""
        return self.sequence.num_computed_tokens + self.num_new_tokens == self.sequence.num_tokens

    @property
    def is_decode(self) -> bool:
        return self.num_new_tokens == 1


@dataclass(frozen=True, slots=True)
class Batch:
    """One step: decode tokens first, sorted by where their keys lie, then prompt chunks."""

    rows: list[ScheduledSequence]


class Scheduler:
    """Waiting and running sequences of one model. Not thread-safe: the step loop's lock guards it."""

    def __init__(self, kv_cache: KVCache, *, max_num_seqs: int, max_num_batched_tokens: int, max_queue: int) -> None:
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self._kv_cache = kv_cache
        self._max_num_seqs = max_num_seqs
        # decode must always fit, or a full batch would starve its own last rows
        self._max_num_batched_tokens = max(max_num_batched_tokens, max_num_seqs)
        self._max_queue = max_queue

    @property
    def has_work(self) -> bool:
        return bool(self.running or self.waiting)

    def add(self, sequence: Sequence) -> None:
        """Queues a sequence. Raises EngineBusyError if the queue is full beyond what could start at once."""
        free = self._max_num_seqs - len(self.running)
        if len(self.waiting) >= self._max_queue + max(free, 0):
            raise EngineBusyError(
                "the request queue is full", queue_depth=len(self.waiting), retry_after_s=_RETRY_AFTER_S
            )
        self.waiting.append(sequence)

    def schedule(self) -> tuple[Batch, list[tuple[Sequence, HuggingLlamaError]]]:
        """The next step, and the sequences for which the device turned out to have no memory."""
        failed = self._admit()
        rows: list[ScheduledSequence] = []
        partial: list[Sequence] = []
        for sequence in self.running:
            if sequence.num_tokens - sequence.num_computed_tokens > 1:
                partial.append(sequence)
            else:
                rows.append(ScheduledSequence(sequence, 1))
        budget = self._max_num_batched_tokens - len(rows)
        for sequence in partial:
            num_new_tokens = min(sequence.num_tokens - sequence.num_computed_tokens, budget)
            if num_new_tokens <= 0:
                break
            rows.append(ScheduledSequence(sequence, num_new_tokens))
            budget -= num_new_tokens
        fitting = [row for row in rows if self._fits(row, failed)]
        fitting.sort(key=_layout_order)
        return Batch(fitting), failed

    def _fits(self, row: ScheduledSequence, failed: list[tuple[Sequence, HuggingLlamaError]]) -> bool:
        """Makes room for the row's keys and values; if there is none, its sequence is added to `failed`."""
        sequence = row.sequence
        assert sequence.kv_slot is not None
        try:
            self._kv_cache.ensure(sequence.kv_slot, sequence.num_computed_tokens + row.num_new_tokens)
        except HuggingLlamaError as error:
            failed.append((sequence, error))
            return False
        return True

    def _admit(self) -> list[tuple[Sequence, HuggingLlamaError]]:
        """First come, first served: a long request at the head waits for room and is not overtaken for ever."""
        failed: list[tuple[Sequence, HuggingLlamaError]] = []
        while self.waiting and len(self.running) < self._max_num_seqs:
            sequence = self.waiting[0]
            if not self._kv_cache.can_admit(sequence.num_needed_tokens):
                break
            self.waiting.popleft()
            try:
                # the prompt's whole slot at once: growing through every size would copy it several times
                sequence.kv_slot = self._kv_cache.allocate(sequence.num_tokens, sequence.num_needed_tokens)
            except HuggingLlamaError as error:
                failed.append((sequence, error))
                continue
            sequence.num_computed_tokens = sequence.num_cached_tokens
            sequence.admitted_ns = time.monotonic_ns()
            sequence.status = SequenceStatus.RUNNING
            self.running.append(sequence)
        return failed

    def remove(self, sequence: Sequence, *, wipe: bool = False) -> None:
        """Takes a sequence out, wherever it is, and frees its keys and values; `wipe` clears them."""
        if sequence.kv_slot is not None:
            self.running.remove(sequence)
            self._kv_cache.free(sequence.kv_slot, wipe=wipe)
            sequence.kv_slot = None
        elif sequence in self.waiting:
            self.waiting.remove(sequence)


def _layout_order(row: ScheduledSequence) -> tuple[bool, int, int]:
    slot = row.sequence.kv_slot
    assert slot is not None
    return (not row.is_decode, slot.slab.serial, slot.row)
