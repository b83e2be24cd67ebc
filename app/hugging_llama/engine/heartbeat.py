"""Signs of life for the supervisor: a byte into a pipe, now and then, from the thread that moves frames."""

import contextlib
import math
import os
import time

from hugging_llama_config.launch import BEATS, IMPORTED


class Heartbeat:
    """Used by one thread. Without a `pipe` it does nothing.

    The supervisor is more patient with an engine that has yet to import what it needs; that it has is the first sign.
    """

    def __init__(self, pipe: int | None = None) -> None:
        self._pipe = pipe
        self._interval_s = self._due_at = math.inf
        if pipe is not None:
            os.set_blocking(pipe, False)
            # what this process starts must not hold the pipe open
            os.set_inheritable(pipe, False)
            self._sign(pipe, IMPORTED)

    def start(self, timeout_s: float) -> None:
        """From now on one is due every so often; `timeout_s` is how long the supervisor waits for one."""
        self._interval_s, self._due_at = timeout_s / BEATS, -math.inf

    @property
    def wait_s(self) -> float:
        """Until the next one is due; infinite if none ever is."""
        return math.inf if self._pipe is None else max(0.0, self._due_at - time.monotonic())

    def beat(self) -> None:
        """If one is due."""
        if self._pipe is None or time.monotonic() < self._due_at:
            return
        self._due_at = time.monotonic() + self._interval_s
        self._sign(self._pipe, b"\0")

    @staticmethod
    def _sign(pipe: int, sign: bytes) -> None:
        # full: nobody listens at the moment; broken: nobody will, and the kernel ends this process
        with contextlib.suppress(OSError):
            os.write(pipe, sign)
