"""Tells a long step from one that never ends.

The thread that steps notes when its piece of work began; another one looks at the notes. It takes no lock: what it is
there for may be a thread that waits for one for ever.
"""

import faulthandler
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

EXIT_STATUS = 71
_LONGEST_POLL_S = 5.0


class StepClock:
    """When the piece of work began that one thread is at."""

    def __init__(self) -> None:
        self._began_at = math.inf

    @contextmanager
    def running(self) -> Iterator[None]:
        """Around a step."""
        self._began_at = time.monotonic()
        try:
            yield
        finally:
            self._began_at = math.inf

    def restart(self) -> None:
        """Within a step of many pieces: another one begins."""
        self._began_at = time.monotonic()

    @property
    def age_s(self) -> float:
        """So long it has been at it; 0 between two steps. From any thread."""
        return max(0.0, time.monotonic() - self._began_at)


class StepWatch:
    """Ends the process when one of `ages_s` is above `timeout_s`, with the stacks of all threads in the log.

    Every open stream then gets an error, by the end of its connection, and an engine that stands by takes over. A
    thread that hangs in native code, or waits for another one that does, can be ended in no other way.
    """

    def __init__(self, timeout_s: float, ages_s: Callable[[], Iterable[float]]) -> None:
        self._timeout_s = timeout_s
        self._ages_s = ages_s
        self._closing = threading.Event()

    def start(self) -> None:
        """0 or infinite seconds are no limit, and need no thread."""
        if 0 < self._timeout_s < math.inf:
            threading.Thread(target=self._main, name="engine-watch", daemon=True).start()

    def close(self) -> None:
        self._closing.set()

    def _main(self) -> None:
        poll_s = min(_LONGEST_POLL_S, self._timeout_s / 4)
        looked_at = awake_since = time.monotonic()
        while not self._closing.wait(poll_s):
            now = time.monotonic()
            if now - looked_at > 3 * poll_s:
                # the whole process was stopped, or the machine asleep: no step could go on
                awake_since = now
            looked_at = now
            age_s = min(max(self._ages_s(), default=0.0), now - awake_since)
            if age_s > self._timeout_s:
                self._end(age_s)

    def _end(self, age_s: float) -> None:
        # before the logger: the thread that hangs may hold its lock
        faulthandler.dump_traceback()
        logger.critical("a step has been running for %.0f s, more than step_timeout_s: the engine ends", age_s)
        logging.shutdown()
        os._exit(EXIT_STATUS)
