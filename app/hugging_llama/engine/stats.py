"""Figures of one runner, for /metrics and the engine's status."""

import dataclasses
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

_NUM_SIZES = 13
"""Classes of batches: up to 1, 2, 4, ... 4096 sequences; one more counts the larger ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerStats:
    """A snapshot. The `_total` fields count since the runner began; KV figures are in tokens.

    `batch_size_counts` counts steps by their sequences: up to 1, 2, 4, ..., and at last the larger ones.
    `kv_used_tokens` is what the slots of running sequences hold, filled or not, `kv_retained_tokens` what is kept of
    ended ones; `kv_allocated_bytes` is what the cache takes of the device's memory at this moment.
    """

    num_running: int = 0
    num_waiting: int = 0
    kv_used_tokens: int = 0
    kv_retained_tokens: int = 0
    kv_capacity_tokens: int = 0
    kv_allocated_bytes: int = 0
    steps_total: int = 0
    step_sequences_total: int = 0
    max_batch_size: int = 0
    prompt_tokens_total: int = 0
    output_tokens_total: int = 0
    cached_tokens_total: int = 0
    cancelled_total: int = 0
    preempted_total: int = 0
    drafted_tokens_total: int = 0
    accepted_tokens_total: int = 0
    batch_size_counts: tuple[int, ...] = ()

    def without_gauges(self) -> "RunnerStats":
        """The counters alone: of a runner that has ended nothing else is left."""
        return dataclasses.replace(
            self,
            num_running=0,
            num_waiting=0,
            kv_used_tokens=0,
            kv_retained_tokens=0,
            kv_capacity_tokens=0,
            kv_allocated_bytes=0,
        )


@dataclass(slots=True)
class StepCounters:
    """What a runner's thread counts as it goes; only that thread writes here."""

    steps: int = 0
    step_sequences: int = 0
    max_batch_size: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cancelled: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    batch_sizes: list[int] = field(default_factory=lambda: [0] * (_NUM_SIZES + 1))

    def count_step(self, num_sequences: int) -> None:
        """One step over `num_sequences` sequences has been run."""
        self.steps += 1
        self.step_sequences += num_sequences
        self.max_batch_size = max(self.max_batch_size, num_sequences)
        self.batch_sizes[min((num_sequences - 1).bit_length(), _NUM_SIZES)] += 1

    def snapshot(
        self,
        *,
        num_running: int,
        num_waiting: int,
        kv_used_tokens: int = 0,
        kv_retained_tokens: int = 0,
        kv_capacity_tokens: int = 0,
        kv_allocated_bytes: int = 0,
        preempted_total: int = 0,
    ) -> RunnerStats:
        """The counters so far, with the figures of this moment."""
        return RunnerStats(
            num_running=num_running,
            num_waiting=num_waiting,
            kv_used_tokens=kv_used_tokens,
            kv_retained_tokens=kv_retained_tokens,
            kv_capacity_tokens=kv_capacity_tokens,
            kv_allocated_bytes=kv_allocated_bytes,
            steps_total=self.steps,
            step_sequences_total=self.step_sequences,
            max_batch_size=self.max_batch_size,
            prompt_tokens_total=self.prompt_tokens,
            output_tokens_total=self.output_tokens,
            cached_tokens_total=self.cached_tokens,
            cancelled_total=self.cancelled,
            preempted_total=preempted_total,
            drafted_tokens_total=self.drafted_tokens,
            accepted_tokens_total=self.accepted_tokens,
            batch_size_counts=tuple(self.batch_sizes),
        )


def added_stats(a: RunnerStats, b: RunnerStats) -> RunnerStats:
    """Figures of two runners together; of batch sizes the larger one."""
    names = [named.name for named in dataclasses.fields(RunnerStats)]
    values = {name: _sum(getattr(a, name), getattr(b, name)) for name in names}
    values["max_batch_size"] = max(a.max_batch_size, b.max_batch_size)
    return RunnerStats(**values)


def _sum(a: Any, b: Any) -> Any:
    return tuple(map(sum, zip_longest(a, b, fillvalue=0))) if isinstance(a, tuple) else a + b
