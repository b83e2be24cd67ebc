"""Whose turn it is to compute."""

import threading
from collections import deque
from types import TracebackType
from typing import Final


class ComputeLock:
    """A lock that is granted in the order of asking, so that two models' step threads take turns.

    A plain `threading.Lock` may be taken again at once by the thread that has just released it, and a second
    model would stand still while the first one has work.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._taken = False
        self._queue: deque[threading.Lock] = deque()

    @property
    def num_waiting(self) -> int:
        """How many threads wait for their turn."""
        return len(self._queue)

    def acquire(self) -> None:
        """Blocks until it is this thread's turn. Not reentrant."""
        with self._mutex:
            if not self._taken:
                self._taken = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._queue.append(turn)
        turn.acquire()

    def release(self) -> None:
        """Hands the lock to whoever has waited longest."""
        with self._mutex:
            if self._queue:
                self._queue.popleft().release()
            else:
                self._taken = False

    def yield_turn(self) -> None:
        """Lets those who wait go first. Returns holding the lock."""
        self.release()
        self.acquire()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


COMPUTE_LOCK: Final = ComputeLock()
"""For every forward on the CPU or on MPS in this process. Process-wide because what it guards is: the OpenMP thread
pools of two forwards at once fight for the same cores and both get slower than one after the other."""
