"""What the engine says of itself: the figures of its runners and of its loads."""

import bisect
import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from hugging_llama.engine.stats import RunnerStats
from hugging_llama.neutral.events import LOAD_SECONDS, EngineStatus


class LoadFigures:
    """Counts loads, how long they took, and models that have left. `num_unloaded` is for one thread at a time."""

    def __init__(self) -> None:
        self.started_ns, self.started_at_s = time.monotonic_ns(), time.time()
        self.num_unloaded = 0
        self.num_failed = 0
        self.seconds = 0.0
        self._counts = [0] * (len(LOAD_SECONDS) + 1)
        self._lock = threading.Lock()

    @property
    def counts(self) -> tuple[int, ...]:
        """Loads up to each of LOAD_SECONDS, and longer ones."""
        return tuple(self._counts)

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """One load."""
        start = time.monotonic()
        try:
            yield
        except BaseException:
            with self._lock:
                self.num_failed += 1
            raise
        took_s = time.monotonic() - start
        with self._lock:
            self._counts[bisect.bisect_left(LOAD_SECONDS, took_s)] += 1
            self.seconds += took_s


def summed_status(total: RunnerStats, loads: LoadFigures, **facts: Any) -> EngineStatus:
    """The status of an engine whose runners have these figures together; `facts` are its other fields."""
    known = {field.name for field in fields(EngineStatus)}
    sums = {field.name: getattr(total, field.name) for field in fields(RunnerStats) if field.name in known}
    figures = {
        "load_counts": loads.counts,
        "load_seconds_total": loads.seconds,
        "failed_loads_total": loads.num_failed,
        "unloaded_total": loads.num_unloaded,
        "started_ns": loads.started_ns,
        "started_at_s": loads.started_at_s,
    }
    return EngineStatus(**(sums | figures | facts))
