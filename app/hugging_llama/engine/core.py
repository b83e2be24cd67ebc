"""The batched runner: schedule, run, update, step after step."""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from hugging_llama.engine.batch import Batch, ScheduledSequence
from hugging_llama.engine.device_loss import exit_if_device_lost
from hugging_llama.engine.kv_cache import KVCache
from hugging_llama.engine.layer_hooks import before_layers
from hugging_llama.engine.memory import empty_cache, is_out_of_memory
from hugging_llama.engine.model_runner import ModelRunner
from hugging_llama.engine.outbox import as_generation_error
from hugging_llama.engine.prompt_logprobs import told_prompt
from hugging_llama.engine.runner_thread import RunnerThread
from hugging_llama.engine.sampling import Sampled, sample
from hugging_llama.engine.scheduler import MAX_SCORED_TOKENS, Scheduler
from hugging_llama.engine.sequence import Emit, OnFinished, Sequence
from hugging_llama.engine.stats import RunnerStats
from hugging_llama.errors import HuggingLlamaError, InsufficientMemoryError, InvalidRequestError
from hugging_llama.neutral.events import FinishReason

_NO_LOGITS = torch.empty(0)
_LONG_STEP_TOKENS = 512

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Computed:
    """What a forward gave: logits `[sum of num_logits, vocab_size]`, or why there are none."""

    batch: Batch
    logits: Tensor
    error: HuggingLlamaError | None = None


class StepLoop(RunnerThread):
    """Runs all sequences of one model together. The thread must be started with `start`."""

    kind = "batched"

    def __init__(
        self,
        model_runner: ModelRunner,
        scheduler: Scheduler,
        kv_cache: KVCache,
        *,
        emit: Emit,
        on_finished: OnFinished,
        name: str,
    ) -> None:
        super().__init__(
            vocab_size=model_runner.vocab_size,
            max_positions=model_runner.max_positions,
            emit=emit,
            on_finished=on_finished,
            name=name,
        )
        self._model_runner = model_runner
        self._scheduler = scheduler
        self._kv_cache = kv_cache

    def stats(self) -> RunnerStats:
        """A snapshot of the runner's figures."""
        with self._lock:
            scheduler, cache = self._scheduler, self._kv_cache
            retained = scheduler.prefixes.num_tokens
            return self._counters.snapshot(
                num_running=len(scheduler.running),
                num_waiting=len(scheduler.waiting),
                kv_used_tokens=cache.used_tokens - retained,
                kv_retained_tokens=retained,
                kv_capacity_tokens=cache.capacity_tokens,
                kv_allocated_bytes=cache.size_bytes(cache.allocated_tokens + retained) + cache.state_bytes,
                preempted_total=scheduler.num_preempted,
            )

    def _check(self, sequence: Sequence) -> None:
        super()._check(sequence)
        is_scored = sequence.prompt_logprobs is not None
        if is_scored and self._model_runner.whole_prompts and sequence.num_prompt_tokens > MAX_SCORED_TOKENS:
            raise InvalidRequestError(
                f"this model computes a prompt in one piece: one of more than {MAX_SCORED_TOKENS} tokens has no "
                "log-probabilities",
                param="prompt_logprobs",
            )
        limit = self._kv_cache.max_tokens
        if sequence.num_needed_tokens <= limit:
            return
        if sequence.num_prompt_tokens >= limit:
            raise InsufficientMemoryError(
                f"the prompt has {sequence.num_prompt_tokens} tokens, memory holds {limit}",
                need_bytes=self._kv_cache.size_bytes(sequence.num_prompt_tokens),
                free_bytes=self._kv_cache.size_bytes(limit),
            )
        # better an answer that may end early for length than none
        sequence.context_length = limit

    def _accept(self, sequence: Sequence) -> None:
        self._scheduler.add(sequence)

    def _live(self) -> Iterable[Sequence]:
        return chain(self._scheduler.running, self._scheduler.waiting)

    def _release(self, sequence: Sequence) -> None:
        # until a first token nobody has seen that its keys and values are numbers
        if sequence.output_token_ids and not self._closing:
            self._scheduler.retain(sequence)
        self._scheduler.remove(sequence)

    def _step(self) -> None:
        with self._lock:
            batch, failed = self._scheduler.schedule()
            at_prompt = [row.sequence for row in batch.rows]
            if self._scheduler.is_full:
                self._tell_queue(self._scheduler.waiting, self._scheduler.queue, self._scheduler.pace)
            else:
                at_prompt += self._scheduler.waiting  # in one of the next steps
        for sequence, error in failed:
            self._fail(sequence, error)
        self._tell_prompts(at_prompt)
        self._outbox.flush()
        if not batch.rows:
            return
        started = time.monotonic()
        for computed in self._run(batch):
            self._update(computed)
        self._scheduler.budget.observe(
            time.monotonic() - started, num_prefill=batch.num_prefill_tokens, num_decode=batch.num_decode_rows
        )
        self._counters.count_step(len(batch.rows))

    def _run(self, batch: Batch, *, has_made_room: bool = False) -> list[_Computed]:
        """The batch's logits, in one piece if all goes well.

        If the forward fails, the batch is run again in halves, down to the rows that fail alone. What a failed run has
        written to the cache is written again. If memory was short, retained prefixes and CUDA graphs go first.
        """
        # a prompt that can't be cut may take many times as long as a step
        watched = self._model_runner.layers if batch.num_prefill_tokens > _LONG_STEP_TOKENS else ()
        try:
            with before_layers(watched, self._clock.restart):
                _, logits = self._model_runner.run(batch)
            return [_Computed(batch, logits)]
        except Exception as error:
            exit_if_device_lost(error)
            is_short = is_out_of_memory(error)
            failure = as_generation_error(error)
        logger.warning("a step over %d sequences failed: %s", len(batch.rows), failure)
        if is_short:
            has_more_room = not has_made_room and self._make_room()
            empty_cache(self._model_runner.device)
            has_made_room = True
            if has_more_room:
                return self._run(batch, has_made_room=True)
        if len(batch.rows) == 1:
            return [_Computed(batch, _NO_LOGITS, failure)]
        return [computed for half in batch.halves() for computed in self._run(half, has_made_room=has_made_room)]

    def _make_room(self) -> bool:
        """Gives up what sequences can do without. False if there was nothing."""
        with self._lock:
            has_prefixes = self._scheduler.prefixes.num_tokens > 0
            self._scheduler.prefixes.clear()
        return self._model_runner.drop_graphs() or has_prefixes

    def _update(self, computed: _Computed) -> None:
        if computed.error is not None:
            for row in computed.batch.rows:
                self._fail(row.sequence, computed.error)
            return
        pending: list[tuple[ScheduledSequence, int]] = []
        place = 0
        for row in computed.batch.rows:
            first, place = place, place + row.num_logits
            is_well = self._tell_prompt(row, computed.logits[first : first + row.num_told_places])
            is_sampled = row.is_sampled
            self._count_computed(row)
            if is_well and is_sampled and row.sequence.wants_no_token:
                self._end(row.sequence, FinishReason.LENGTH)
            elif is_well and is_sampled:
                pending.append((row, place - 1 - len(row.draft)))
        # all rows take their next token together; those whose guess was right go on to the one after it
        level = 0
        while pending:
            results = self._sampled(
                computed.logits, [at + level for _, at in pending], [r.sequence for r, _ in pending]
            )
            pending = [
                (row, at) for (row, at), result in zip(pending, results, strict=True) if self._take(row, result, level)
            ]
            level += 1

    def _tell_prompts(self, sequences: Iterable[Sequence]) -> None:
        """How far the prompts of those are who ask for it."""
        now_ns = time.monotonic_ns()
        for sequence in sequences:
            if sequence.progress is not None and not sequence.output_token_ids:
                done, total = sequence.num_computed_tokens, sequence.num_prompt_tokens
                self._outbox.add(sequence, sequence.progress.in_prompt(done, total, now_ns))

    def _tell_prompt(self, row: ScheduledSequence, logits: Tensor) -> bool:
        """Tells what the logits of a row's `num_told_places` say of its prompt. False if that failed."""
        if not len(logits):
            return True
        try:
            self._outbox.add(row.sequence, row.sequence.tell_prompt(told_prompt(row.sequence, logits)))
        except Exception as error:
            self._fail(row.sequence, as_generation_error(error))
            return False
        return True

    def _sampled(self, logits: Tensor, places: list[int], sequences: list[Sequence]) -> list[Sampled]:
        """One result for each sequence, from the row of `logits` at its place."""
        try:
            # a gather of all rows would be a copy for nothing
            return sample(logits if len(places) == len(logits) else logits[places], sequences)
        except Exception as error:
            exit_if_device_lost(error)
            if len(places) == 1:
                return [as_generation_error(error)]
        pairs = zip(places, sequences, strict=True)
        return [self._sampled(logits, [place], [sequence])[0] for place, sequence in pairs]

    def _take(self, row: ScheduledSequence, result: Sampled, level: int) -> bool:
        """Gives a sequence its next token. True if this was the guess at `level`, so that the one after it counts."""
        sequence = row.sequence
        if isinstance(result, HuggingLlamaError):
            self._fail(sequence, result)
            return False
        self._counters.output_tokens += 1
        try:
            self._outbox.add(sequence, sequence.append_token(result, time.monotonic_ns()))
        except Exception as error:
            self._fail(sequence, as_generation_error(error))
            return False
        is_right = level < len(row.draft) and result == row.draft[level]
        if is_right:
            sequence.num_computed_tokens += 1
            if sequence.finish_reason is None:
                return True
        self._count_draft(row, level + is_right)
        self._forget_if_switched(sequence, sequence.num_tokens - 1)
        if sequence.finish_reason is None:
            self._shift_if_full(sequence)
            return False
        self._end(sequence, sequence.finish_reason)
        return False

    def _end(self, sequence: Sequence, reason: FinishReason) -> None:
        self._outbox.end(sequence, reason)
        with self._lock:
            self._release(sequence)

    def _shift_if_full(self, sequence: Sequence) -> None:
        num_tokens, num_computed = sequence.num_tokens, sequence.num_computed_tokens
        sequence.shift_if_full()
        if sequence.num_computed_tokens < num_computed and not self._model_runner.can_rewind:
            sequence.num_computed_tokens = 0
        self._forget_if_switched(sequence, num_tokens)

    def _forget_if_switched(self, sequence: Sequence, num_tokens: int) -> None:
        """A sequence that had `num_tokens` may be across `rope_switch` now: its keys are of the wrong kind then."""
        if self._model_runner.is_long(sequence.num_tokens) != self._model_runner.is_long(num_tokens):
            sequence.num_computed_tokens = 0

    def _count_draft(self, row: ScheduledSequence, num_right: int) -> None:
        if row.draft and row.sequence.drafts is not None:
            row.sequence.drafts.count(len(row.draft), num_right, row.sequence.num_tokens)
            self._counters.drafted_tokens += len(row.draft)
            self._counters.accepted_tokens += num_right

    def _count_computed(self, row: ScheduledSequence) -> None:
        sequence = row.sequence
        if row.is_sampled and not sequence.output_token_ids:  # once, however often its prompt was begun
            self._counters.prompt_tokens += sequence.num_prompt_tokens
            self._counters.cached_tokens += sequence.num_cached_tokens
        sequence.num_computed_tokens += row.num_new_tokens

    def _fail(self, sequence: Sequence, error: HuggingLlamaError) -> None:
        self._outbox.fail(sequence, error)
        with self._lock:
            # numbers that are not numbers may lie in its cache
            self._scheduler.remove(sequence, has_failed=True)
