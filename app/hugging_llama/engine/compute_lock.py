"""Whose turn it is to compute."""

import math
import threading
import time
from collections import deque
from types import TracebackType
from typing import Final


class ComputeLock:
    """A lock that is granted in the order of asking, so that two models' step threads take turns.

    A plain `threading.Lock` may be taken again at once by the thread that has just released it, and a second
    model would stand still while the first one has work.

    A turn lasts `patience_s` if somebody waits for it. Then the next one has it and computes beside the thread that
    had it before, whose own release has no effect any more: nobody waits longer than that for one stranger's forward.
    """

    def __init__(self, patience_s: float = math.inf) -> None:
        self._patience_s = patience_s
        self._mutex = threading.Lock()
        self._holder: int | None = None
        self._ends_at = math.inf
        self._queue: deque[tuple[int, threading.Lock]] = deque()

    @property
    def num_waiting(self) -> int:
        """How many threads wait for their turn."""
        return len(self._queue)

    def acquire(self) -> None:
        """Blocks until it is this thread's turn. Not reentrant."""
        thread = threading.get_ident()
        with self._mutex:
            if self._holder is None:
                self._give(thread)
                return
            turn = threading.Lock()
            turn.acquire()
            self._queue.append((thread, turn))
        while not turn.acquire(timeout=self._left_s()):
            with self._mutex:
                if time.monotonic() >= self._ends_at:
                    self._pass_on()

    def release(self) -> None:
        """Hands the lock to whoever has waited longest, unless this thread's turn was over before."""
        with self._mutex:
            if self._holder == threading.get_ident():
                self._pass_on()

    def yield_turn(self) -> None:
        """Lets those who wait go first. Returns holding the lock."""
        self.release()
        self.acquire()

    def _left_s(self) -> float:
        """So long the present turn may last; -1 for any time."""
        ends_at = self._ends_at
        return -1 if ends_at == math.inf else max(ends_at - time.monotonic(), 0.0)

    def _pass_on(self) -> None:
        """Called with the mutex held."""
        if not self._queue:
            self._holder = None
            return
        thread, turn = self._queue.popleft()
        self._give(thread)
        turn.release()

    def _give(self, thread: int) -> None:
        """Called with the mutex held."""
        self._holder, self._ends_at = thread, time.monotonic() + self._patience_s

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


COMPUTE_LOCK: Final = ComputeLock(patience_s=1.0)
"""For every forward on the CPU in this process. It guards no data: the OpenMP thread pools of two forwards at once
fight for the same cores and both get slower than one after the other, which is still better than to wait for a long
one."""

MPS_LOCK: Final = ComputeLock()
"""For every forward on MPS: torch's streams there don't bear two threads at once."""
