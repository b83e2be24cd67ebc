"""The threads in which requests become work for a runner, callers in turn: rendering is quick, but not for nothing."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from hugging_llama.engine.turns import CallerQueue
from hugging_llama.neutral.callers import Caller


@dataclass(eq=False, frozen=True, slots=True)
class _Job:
    caller: Caller
    run: Callable[[], None]


class Intake:
    """Runs what it is given, of one caller in order of arrival. `after` is called in the same thread after each."""

    def __init__(self, num_threads: int, name: str, *, after: Callable[[], None] | None = None) -> None:
        self._after = after
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._waiting: CallerQueue[_Job] = CallerQueue(lambda job: job.caller)

    def submit(self, caller: Caller, run: Callable[[], None]) -> None:
        """Raises RuntimeError after `close`."""
        job = _Job(caller, run)
        with self._lock:
            self._waiting.append(job)
            try:
                self._pool.submit(self._run_next)
            except RuntimeError:
                self._waiting.remove(job)
                raise

    def close(self) -> None:
        """Takes nothing any more and forgets what waits; what runs goes on."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run_next(self) -> None:
        if self._run_first() and self._after is not None:
            self._after()

    def _run_first(self) -> bool:
        """Whether there was one; it is forgotten then."""
        with self._lock:
            job = self._waiting.first()
            if job is None:
                return False
            self._waiting.take(job)
        job.run()
        return True
