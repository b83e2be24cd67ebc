"""The thread that lets idle models go when their time is up."""

import logging
import math
import threading
from collections.abc import Callable

_LONGEST_WAIT_S = 3600.0
_AFTER_ERROR_S = 1.0

_log = logging.getLogger(__name__)


class ExpiryTimer:
    """Calls `expire` when it has asked to be called: it returns the seconds until then, infinite for never.

    `wake` makes it ask again; `close` ends the thread. The thread sleeps in between. What `expire` raises is logged,
    and it is called again after a second: without it no model would ever leave.
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
        """It is to ask at once. Callable from any thread; never blocks for long."""
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
            try:
                wait_s = self._expire()
            except Exception:
                _log.exception("idle models could not be looked at")
                wait_s = _AFTER_ERROR_S
            timeout_s = None if math.isinf(wait_s) else min(wait_s, _LONGEST_WAIT_S)
            with self._condition:
                self._condition.wait_for(lambda: self._is_due or self._closing, timeout_s)
                self._is_due = False
                if self._closing:
                    return
