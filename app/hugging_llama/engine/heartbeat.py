"""Signs of life for the supervisor: a byte into a pipe, now and then, from the thread that moves frames."""

import contextlib
import math
import os
import time

from hugging_llama_config.launch import BEATS


class Heartbeat:
    """Used by one thread. Without a `pipe` it does nothing; `timeout_s` is how long the supervisor waits for a sign."""

    def __init__(self, pipe: int | None, timeout_s: float) -> None:
        self._pipe = pipe
        self._interval_s = math.inf if pipe is None else timeout_s / BEATS
        self._due_at = -math.inf if pipe is not None else math.inf
        if pipe is not None:
            os.set_blocking(pipe, False)
            # what this process starts must not hold the pipe open
            os.set_inheritable(pipe, False)

    @property
    def wait_s(self) -> float:
        """Until the next one is due; infinite if none ever is."""
        return max(0.0, self._due_at - time.monotonic())

    def beat(self) -> None:
        """If one is due."""
        if self._pipe is None or time.monotonic() < self._due_at:
            return
        self._due_at = time.monotonic() + self._interval_s
        # full: nobody listens at the moment; broken: nobody will, and the kernel ends this process
        with contextlib.suppress(OSError):
            os.write(self._pipe, b"\0")
