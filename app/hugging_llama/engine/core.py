"""The batched runner: schedule, run, update, step after step."""

import logging
import time
from collections.abc import Iterable
from itertools import chain

import torch

from hugging_llama.engine.kv_cache import KVCache
from hugging_llama.engine.model_runner import ModelRunner
from hugging_llama.engine.outbox import as_generation_error
from hugging_llama.engine.runner_thread import RunnerThread
from hugging_llama.engine.sampling import Sampled, sample
from hugging_llama.engine.scheduler import Batch, ScheduledSequence, Scheduler
from hugging_llama.engine.sequence import Emit, OnFinished, Sequence
from hugging_llama.engine.stats import RunnerStats
from hugging_llama.errors import HuggingLlamaError, InsufficientMemoryError

logger = logging.getLogger(__name__)


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
            return self._counters.snapshot(
                num_running=len(self._scheduler.running),
                num_waiting=len(self._scheduler.waiting),
                kv_used_tokens=self._kv_cache.used_tokens,
                kv_capacity_tokens=self._kv_cache.capacity_tokens,
                kv_allocated_bytes=self._kv_cache.size_bytes(self._kv_cache.allocated_tokens),
            )

    def _check(self, sequence: Sequence) -> None:
        super()._check(sequence)
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
        self._scheduler.remove(sequence, wipe=not sequence.output_token_ids)

    def _step(self) -> None:
        with self._lock:
            batch, failed = self._scheduler.schedule()
        for sequence, error in failed:
            self._fail(sequence, error)
        if batch.rows:
            results = self._run(batch)
            self._counters.count_step(len(batch.rows))
            self._update(batch, results)

    def _run(self, batch: Batch) -> list[tuple[ScheduledSequence, Sampled]]:
        """The tokens of the rows that sample now, and the errors of those that fail.

        If the forward fails, the batch is run again in halves, down to the rows that cause it. Less memory is
        needed then, too. What a failed run has written to the cache is written again.
        """
        try:
            rows, logits = self._model_runner.run(batch)
            return list(zip(rows, sample(logits, [row.sequence for row in rows]), strict=True))
        except Exception as error:
            if len(batch.rows) == 1:
                return [(batch.rows[0], as_generation_error(error))]
            logger.warning("a step over %d sequences failed: %s", len(batch.rows), error)
        if self._model_runner.device.type == "cuda":
            torch.cuda.empty_cache()
        middle = len(batch.rows) // 2
        return self._run(Batch(batch.rows[:middle])) + self._run(Batch(batch.rows[middle:]))

    def _update(self, batch: Batch, results: list[tuple[ScheduledSequence, Sampled]]) -> None:
        now_ns = time.monotonic_ns()
        for row in batch.rows:
            self._count_computed(row)
        for row, result in results:
            sequence = row.sequence
            if isinstance(result, HuggingLlamaError):
                self._fail(sequence, result)
                continue
            self._counters.output_tokens += 1
            try:
                self._outbox.add(sequence, sequence.append_token(result, now_ns))
            except Exception as error:
                self._fail(sequence, as_generation_error(error))
                continue
            if sequence.num_tokens - 1 == self._model_runner.rope_switch:
                # all its keys were rotated by the frequencies of short sequences
                sequence.num_computed_tokens = 0
            if sequence.finish_reason is not None:
                self._outbox.end(sequence, sequence.finish_reason)
                with self._lock:
                    self._release(sequence)

    def _count_computed(self, row: ScheduledSequence) -> None:
        sequence = row.sequence
        if not sequence.output_token_ids:  # else it is a decode step, or all is computed anew
            self._counters.prompt_tokens += row.num_new_tokens
        sequence.num_computed_tokens += row.num_new_tokens

    def _fail(self, sequence: Sequence, error: HuggingLlamaError) -> None:
        self._outbox.fail(sequence, error)
        with self._lock:
            # numbers that are not numbers may lie in its cache
            self._scheduler.remove(sequence, wipe=True)
