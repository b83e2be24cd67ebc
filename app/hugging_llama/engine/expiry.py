"""The thread that lets idle models go when their time is up."""

import math
import threading
from collections.abc import Callable

_LONGEST_WAIT_S = 3600.0


class ExpiryTimer:
    """Calls `expire` when it has asked to be called: it returns the seconds until then, infinite for never.

    `wake` makes it ask again; `close` ends the thread. The thread sleeps in between; it never polls.
    """

    def __init__(self, expire: Callable[[], float]) -> None:
        self._expire = expire
        self._condition = threading.Condition()
        self._is_due = False
        self._closing = False
        self._thread = threading.Thread(target=self._main, name="engine-expiry", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Something has become idle. Callable from any thread; never blocks for long."""
        with self._condition:
            self._is_due = True
            self._condition.notify()

    def close(self) -> None:
        """Ends the thread and waits for it."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        if self._thread.ident is not None and threading.current_thread() is not self._thread:
            self._thread.join()

    def _main(self) -> None:
        while True:
            wait_s = self._expire()
            timeout_s = None if math.isinf(wait_s) else min(wait_s, _LONGEST_WAIT_S)
            with self._condition:
                self._condition.wait_for(lambda: self._is_due or self._closing, timeout_s)
                self._is_due = False
                if self._closing:
                    return
