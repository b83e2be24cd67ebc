"""The threads in which requests become work for a runner, callers in turn: rendering is quick, but not for nothing."""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from hugging_llama.engine.turns import CallerQueue
from hugging_llama.errors import EngineShutdownError, InsufficientMemoryError
from hugging_llama.neutral.callers import Caller

logger = logging.getLogger(__name__)


@dataclass(eq=False, frozen=True, slots=True)
class _Job:
    caller: Caller
    model: object
    run: Callable[[], None]


class Intake:
    """Runs what it is given, of one caller in order of arrival. `after` is called in the same thread after each.

    Of one model at most `most_of_model` run at once. Its template, or an expression in its tokenizer, may take minutes
    in which nothing can end it, even when its callers have left and it is loaded anew: others go on meanwhile.
    """

    def __init__(
        self, num_threads: int, name: str, *, most_of_model: int = 1, after: Callable[[], None] | None = None
    ) -> None:
        self._after = after
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._most = most_of_model
        self._models: Counter[object] = Counter()  # of what waits or runs
        self._running: Counter[object] = Counter()
        self._num_active = 0  # threads that look for work
        self._is_closed = False
        self._waiting: CallerQueue[_Job] = CallerQueue(lambda job: job.caller)

    def submit(self, caller: Caller, model: object, run: Callable[[], None]) -> None:
        """Raises EngineShutdownError after `close`, InsufficientMemoryError where no thread can be started."""
        with self._lock:
            if self._is_closed:
                raise EngineShutdownError("the engine is shutting down")
            if self._num_active < self._most * (len(self._models) + (model not in self._models)):
                self._look_for_work()
            self._waiting.append(_Job(caller, model, run))
            self._models[model] += 1

    def _look_for_work(self) -> None:
        """In a further thread, or in the next one that is free."""
        try:
            self._pool.submit(self._run_next)
        except RuntimeError:  # the call is kept nevertheless, for the threads that there are
            if not self._num_active:
                raise InsufficientMemoryError("there is not enough memory for a thread") from None
        self._num_active += 1

    def close(self) -> None:
        """Takes nothing any more and forgets what waits; what runs goes on."""
        with self._lock:
            self._is_closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run_next(self) -> None:
        """What has to wait for a thread of its model is run by that one when it is done."""
        while (job := self._take()) is not None:
            try:
                job.run()
                if self._after is not None:
                    self._after()
            except Exception:
                logger.exception("a request could not be prepared")
            finally:
                with self._lock:
                    _take_one(self._running, job.model)
                    _take_one(self._models, job.model)

    def _take(self) -> _Job | None:
        with self._lock:
            jobs = self._waiting.in_turn() if not self._is_closed else ()
            job = next((job for job in jobs if self._running[job.model] < self._most), None)
            if job is None:
                self._num_active = max(self._num_active - 1, 0)  # a call that was refused may be left in the pool
                return None
            self._waiting.take(job)
            self._running[job.model] += 1
            return job


def _take_one(counts: Counter[object], model: object) -> None:
    counts[model] -= 1
    if not counts[model]:
        del counts[model]
