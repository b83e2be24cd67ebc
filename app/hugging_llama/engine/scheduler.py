"""Which tokens are computed in the next step.

Running sequences decode first, one token each, with drafts where guesses are wanted; what is left of the token
budget goes to prompt chunks, in equal shares to the callers, of one caller oldest first. So a long prompt never stalls
the running streams for longer than one chunk takes. Where the KV cache is full, retained prefixes leave first; then the
newest sequence is preempted: it gives its keys and values back, waits at the head of the queue, and is computed anew
when there is room. Places are for callers in turn (`turns.py`).
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from hugging_llama.engine.batch import Batch, ScheduledSequence, layout_order, num_missing
from hugging_llama.engine.kv_cache import KVCache, KVSlot
from hugging_llama.engine.prefix_cache import MIN_PREFIX_TOKENS, KeyKind, Prefix, PrefixCache, common_prefix
from hugging_llama.engine.queue_pace import QueuePace
from hugging_llama.engine.sequence import Sequence, SequenceStatus
from hugging_llama.engine.step_budget import StepBudget
from hugging_llama.engine.turns import CallerQueue, fair_shares
from hugging_llama.errors import HuggingLlamaError, InsufficientMemoryError
from hugging_llama.neutral.callers import Caller

# a prompt waits for another one that is being computed if it can have so many of its tokens then
_WORTH_WAITING_TOKENS = 64

# of a step's prompt tokens, if others wait
_SHARE_OF_THE_OLDEST = 0.75

# rows of one step, beyond which reading the weights is no longer what a step costs: no drafts then
_MAX_DECODE_ROWS_WITH_DRAFTS = 16
# tokens of one sequence that its grammar forces are nearly certain, and cost what prompt tokens cost
_MAX_FORCED_TOKENS = 16
MAX_SCORED_TOKENS = 128
"""Prompt tokens of a step whose log-probabilities are told: each takes a row of logits as wide as the vocabulary."""


class Scheduler:
    """Waiting and running sequences of one model, the oldest first. Not thread-safe: the step loop's lock guards it.

    `is_long` tells by its length which of two kinds of positions a sequence has, see `ModelRunner.rope_switch`:
    prefixes are shared within a kind only (`KeyKind`). `has_drafts` False: nothing is guessed. `whole_prompts`: a
    prompt is never cut, and the last one of a step may go beyond the budget.
    """

    def __init__(
        self,
        kv_cache: KVCache,
        prefixes: PrefixCache,
        budget: StepBudget,
        *,
        max_num_seqs: int,
        max_queue: int,
        is_long: Callable[[int], bool] = lambda num_tokens: False,
        has_drafts: bool = True,
        whole_prompts: bool = False,
    ) -> None:
        self.waiting: CallerQueue[Sequence] = CallerQueue(lambda sequence: sequence.caller)
        self.running: list[Sequence] = []
        self.num_preempted = 0
        self.prefixes = prefixes
        self.budget = budget
        self._kv_cache = kv_cache
        self._max_num_seqs = max_num_seqs
        self._max_queue = max_queue
        self.pace = QueuePace(max_num_seqs)
        self._has_newcomers = False
        self._is_long = is_long
        self._has_drafts = has_drafts
        self._whole_prompts = whole_prompts

    @property
    def has_work(self) -> bool:
        return bool(self.running or self.waiting)

    def add(self, sequence: Sequence) -> None:
        """Queues a sequence. Raises EngineBusyError if the queue is full beyond what could start at once."""
        num_waiting = len(self.waiting)
        if not self.waiting.has_room(sequence.caller, self._max_queue + self._num_free):
            raise self.pace.busy("the request queue is full", num_waiting, num_waiting)
        self.waiting.append(sequence)
        self._has_newcomers = True

    def schedule(self) -> tuple[Batch, list[tuple[Sequence, HuggingLlamaError]]]:
        """The next step, and the sequences that can't go on because memory does not even hold one of them."""
        failed: list[tuple[Sequence, HuggingLlamaError]] = []
        num_preempted = self.num_preempted
        rows = self._decode_rows(failed)
        rows += self._prefill_rows(rows, num_preempted)
        # a sequence may have been preempted for one that came before it
        rows = [row for row in rows if row.sequence.kv_slot is not None]
        rows.sort(key=layout_order)
        if not rows and not failed and self.has_work:
            stuck = self.running[-1] if self.running else self.waiting.first()
            assert stuck is not None
            failed.append((stuck, self._no_memory(stuck)))
        self._tell_newcomers()
        return Batch(rows), failed

    @property
    def is_full(self) -> bool:
        """Whether there is no place, or no memory, for the next one; else all wait for tokens of a step alone."""
        return not self._num_free or self.waiting.has_ahead

    def queue(self) -> Iterator[Sequence]:
        """Who waits, the next one first."""
        return self.waiting.in_turn(self._held())

    def remove(self, sequence: Sequence, *, has_failed: bool = False) -> None:
        """Takes a sequence out, wherever it is, and frees its keys and values.

        They are cleared if it has failed, or has no token yet: then nobody has seen that they are numbers.
        """
        slot, sequence.kv_slot = sequence.kv_slot, None
        if slot is not None:
            self.running.remove(sequence)
            self._kv_cache.free(slot, wipe=has_failed or not sequence.output_token_ids)
            if sequence.is_finished:
                self.pace.observe((time.monotonic_ns() - sequence.admitted_ns) / 1e9)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def retain(self, sequence: Sequence) -> None:
        """Keeps what a running sequence has computed for the prompts that begin like it."""
        if sequence.kv_slot is not None:
            computed = sequence.token_ids[: sequence.num_computed_tokens]
            self.prefixes.retain(sequence.kv_slot, computed, self._kind(sequence))

    def _decode_rows(self, failed: list[tuple[Sequence, HuggingLlamaError]]) -> list[ScheduledSequence]:
        rows: list[ScheduledSequence] = []
        decoding = [s for s in self.running if s.num_tokens - s.num_computed_tokens == 1]
        num_drafting = sum(sequence.drafts is not None for sequence in decoding)
        room = (_MAX_DECODE_ROWS_WITH_DRAFTS - len(decoding)) // num_drafting if num_drafting else 0
        for sequence in decoding:
            if sequence.kv_slot is None:
                continue  # preempted for an older one
            draft = self._draft(sequence, sequence.kv_slot, room)
            if self._has_room(sequence, sequence.num_tokens + len(draft)):
                rows.append(ScheduledSequence(sequence, 1, draft))
            elif sequence.kv_slot is not None:
                failed.append((sequence, self._no_memory(sequence)))
        return rows

    def _draft(self, sequence: Sequence, slot: KVSlot, room: int) -> list[int]:
        """What may follow: tokens that a grammar leaves no choice about, else guesses, if they are wanted."""
        if not self._has_drafts:
            return []
        forced = sequence.grammar.forced() if sequence.grammar is not None else []
        if forced:
            room = _MAX_FORCED_TOKENS
        elif sequence.drafts is None:
            return []
        n = sequence.num_tokens
        # nobody has to give up memory for a guess
        room = min(room, sequence.context_length - n - 1, slot.capacity - n)
        if sequence.max_tokens is not None:
            room = min(room, sequence.max_tokens - len(sequence.output_token_ids) - 1)
        # guesses whose keys would have to be rotated otherwise are not made
        if self._is_long(n + room) != self._is_long(n):
            return []
        if forced or sequence.drafts is None:
            return forced[: max(room, 0)]
        return sequence.drafts.find(sequence.token_ids, room)

    def _prefill_rows(self, decode: list[ScheduledSequence], num_preempted: int) -> list[ScheduledSequence]:
        """Prompt chunks. Nobody is admitted in a step that preempts: whoever had to leave would come back at once."""
        rows: list[ScheduledSequence] = []
        left = self.budget.tokens(num_decode=len(decode))
        prompts = [sequence for sequence in self.running if num_missing(sequence) > 1]
        shares = self._shares(left, prompts)
        for sequence in prompts:
            if left > 0 and sequence.kv_slot is not None:
                left -= self._chunk(sequence, left, shares, rows)
        while left > 0 and self.waiting and self._num_free:
            following = self.waiting.first(self._held())
            if self.num_preempted != num_preempted or following is None or not self._admit(following):
                break
            left -= self._chunk(following, left, shares, rows)
        return self._lengthened(rows, left) if len(shares) > 1 else rows

    def _lengthened(self, rows: list[ScheduledSequence], left: int) -> list[ScheduledSequence]:
        """What was kept for callers who could not use it goes to the prompts that were cut for them."""
        longer: list[ScheduledSequence] = []
        for row in rows:
            slot, size = row.sequence.kv_slot, row.num_new_tokens
            if left > 0 and slot is not None and not row.num_told_places:
                more = min(left, num_missing(row.sequence) - size)
                if self._kv_cache.ensure(slot, row.sequence.num_computed_tokens + size + more):
                    row, left = replace(row, num_new_tokens=size + more), left - more
            longer.append(row)
        return longer

    def _shares(self, budget: int, prompts: list[Sequence]) -> dict[Caller, int]:
        """The prompt tokens of each caller in this step, of those who can be admitted as well."""
        wanted = Counter[Caller]()
        for sequence in (*prompts, *islice(self.queue(), self._num_free)):
            wanted[sequence.caller] += num_missing(sequence)
        return fair_shares(budget, wanted)

    def _chunk(self, sequence: Sequence, budget: int, shares: dict[Caller, int], rows: list[ScheduledSequence]) -> int:
        """Adds the next chunk of a prompt to `rows` and takes it from its caller's share; returns its size."""
        if not rows and (self.waiting or len(self.running) > 1):
            # a part is left for those behind it: a short question does not wait for all of a long document
            budget = max(int(budget * _SHARE_OF_THE_OLDEST), 1)
        share = shares.get(sequence.caller, 0)
        if share <= 0:
            return 0
        size = num_missing(sequence)
        if not self._whole_prompts:
            size = min(size, budget, share)
            if sequence.first_untold_position < sequence.num_prompt_tokens:
                size = min(size, MAX_SCORED_TOKENS - sum(row.num_told_places for row in rows))
        if size <= 0:
            return 0
        if not self._has_room(sequence, sequence.num_computed_tokens + size):
            return 0
        rows.append(ScheduledSequence(sequence, size))
        shares[sequence.caller] = share - size
        return size

    def _admit(self, sequence: Sequence) -> bool:
        """Starts the waiting sequence whose turn it is if there is room for its prompt. Its turn is kept for it: it is
        not overtaken by smaller ones for ever."""
        source = self._longest_prefix(sequence)
        if source.is_promised:
            return False
        slot = self._slot(sequence)
        if slot is None:
            self.waiting.keep_first(sequence)
            return False
        self.waiting.take(sequence)
        self.running.append(sequence)
        sequence.kv_slot = slot
        sequence.status = SequenceStatus.RUNNING
        self._copy(source, slot)
        sequence.num_computed_tokens = source.num_tokens
        if not sequence.admitted_ns:
            sequence.admitted_ns = time.monotonic_ns()
            sequence.num_cached_tokens = source.num_tokens
        return True

    def _slot(self, sequence: Sequence) -> KVSlot | None:
        """A slot for all that the sequence has now: growing through every size would copy it several times."""
        slot = self._kv_cache.allocate(sequence.num_tokens)
        while slot is None and self.prefixes.evict():
            slot = self._kv_cache.allocate(sequence.num_tokens)
        return slot

    def _longest_prefix(self, sequence: Sequence) -> "_Source":
        """Where the beginning of a prompt can be copied from."""
        if not self.prefixes.is_on:
            return _Source()
        tokens, kind = sequence.token_ids, self._kind(sequence)
        # one token at least is computed, for its logits; all from which logits are told
        most = min(sequence.num_tokens - 1, sequence.first_untold_position)
        entry, common = self.prefixes.longest(tokens, kind)
        best, promised = _Source(min(common, most), entry=entry), 0
        for other in self.running:
            if other.kv_slot is None or self._kind(other) != kind:
                continue
            common = min(common_prefix(other.token_ids, tokens), most)
            promised = max(promised, common)
            if (computed := min(common, other.num_computed_tokens)) > best.num_tokens:
                best = _Source(computed, slot=other.kv_slot)
        if promised >= best.num_tokens + _WORTH_WAITING_TOKENS:
            return _Source(is_promised=True)
        return best if best.num_tokens >= MIN_PREFIX_TOKENS else _Source()

    def _kind(self, sequence: Sequence) -> KeyKind:
        adapter = sequence.adapter.key if sequence.adapter is not None else ""
        return KeyKind(self._is_long(sequence.num_tokens), adapter)

    def _copy(self, source: "_Source", slot: KVSlot) -> None:
        if source.entry is not None:
            self.prefixes.fill(slot, source.entry, source.num_tokens)
        elif source.slot is not None:
            self._kv_cache.copy(source.slot, slot, source.num_tokens)

    def _has_room(self, sequence: Sequence, num_tokens: int) -> bool:
        """Makes room for the keys and values of `num_tokens`, at the cost of prefixes and newer sequences.

        False if there is none: then `sequence` is the newest and has been preempted, or it is alone.
        """
        while sequence.kv_slot is not None:
            if self._kv_cache.ensure(sequence.kv_slot, num_tokens):
                return True
            if self.prefixes.evict():
                continue
            if len(self.running) == 1:
                return False
            self._preempt(self.running[-1])
        return False

    def _preempt(self, sequence: Sequence) -> None:
        self.remove(sequence)
        sequence.num_computed_tokens = 0
        sequence.status = SequenceStatus.WAITING
        self.waiting.put_back(sequence)
        self.num_preempted += 1

    @property
    def _num_free(self) -> int:
        return max(self._max_num_seqs - len(self.running), 0)

    def _held(self) -> Counter[Caller]:
        return Counter(sequence.caller for sequence in self.running)

    def _tell_newcomers(self) -> None:
        """Who came and has to wait gets to know how many go first."""
        if self._has_newcomers and self.is_full:
            for position, sequence in enumerate(self.queue(), 1):
                sequence.queued = sequence.queued or self.pace.at(position)
            self._has_newcomers = False

    def _no_memory(self, sequence: Sequence) -> InsufficientMemoryError:
        need = self._kv_cache.size_bytes(sequence.num_tokens + 1)
        free = self._kv_cache.size_bytes(max(self._kv_cache.capacity_tokens - self._kv_cache.used_tokens, 0))
        return InsufficientMemoryError("no memory for the KV cache", need_bytes=need, free_bytes=free)


@dataclass(frozen=True, slots=True)
class _Source:
    """The first `num_tokens` of a prompt lie in `entry` or `slot`, if in either. `is_promised`: more of them are
    being computed right now."""

    num_tokens: int = 0
    entry: Prefix | None = None
    slot: KVSlot | None = None
    is_promised: bool = False
