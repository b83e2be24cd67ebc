"""The threads in which models are loaded and unloaded."""

import threading
import time
from collections.abc import Callable

from hugging_llama.engine.memory import LOAD_SHORTAGE, shortage_told


class LoadThreads:
    """One for each call. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[threading.Thread] = set()

    def start(self, call: Callable[[], None]) -> None:
        """Run it. Raises InsufficientMemoryError if the system has no thread left."""

        def run() -> None:
            try:
                call()
            finally:
                with self._lock:
                    self._running.discard(threading.current_thread())

        thread = threading.Thread(target=run, name="engine-load", daemon=True)
        with self._lock, shortage_told(LOAD_SHORTAGE):
            thread.start()
            self._running.add(thread)

    def join(self, timeout_s: float) -> None:
        """Wait until none runs, or for so long; those that they start meanwhile count, too."""
        end = time.monotonic() + timeout_s
        while (thread := self._first()) is not None and time.monotonic() < end:
            thread.join(max(end - time.monotonic(), 0.0))

    def _first(self) -> threading.Thread | None:
        with self._lock:
            return next(iter(self._running), None)
