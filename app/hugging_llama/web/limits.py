"""Limits a minute, kept by all workers of a server together: buckets that fill evenly, in a file each.

A bucket holds a minute's worth at most. Requests take one before they begin; tokens are taken when it is known how many
they were, so the bucket may be overdrawn, and then nothing begins until it is filled again.

A full bucket needs no file. Once a minute at most, whoever makes a file takes away those that are surely full: callers
come and go without end.
"""

import contextlib
import fcntl
import math
import os
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_LEVEL = struct.Struct("<dd")
"""The level, and `time.monotonic()` when it was so: on Linux a clock that all processes have in common."""
_MINUTE_S = 60.0
_TIDIED = "tidied"


@dataclass(frozen=True, slots=True)
class Bucket:
    """`per_minute` of 0 or less is no limit, and needs no file."""

    path: str
    per_minute: int
    clock: Callable[[], float] = time.monotonic

    def take(self, amount: float, *, at_least: float) -> float:
        """Take `amount` if `at_least` so much is there; the seconds until that is so, 0 if it was.

        A disk that fails limits nobody: it is the operator's trouble, not the caller's.
        """
        if self.per_minute <= 0:
            return 0.0
        try:
            folder = os.path.dirname(self.path)
            # each by itself: `makedirs` gives its mode to the last one only, and sockets come into the other one
            for made in (os.path.dirname(folder), folder):
                os.makedirs(made, mode=0o700, exist_ok=True)
            with _locked(self.path) as fd:
                is_new = not os.fstat(fd).st_size
                wait_s = self._taken(fd, amount, at_least)
        except OSError:
            return 0.0
        if is_new and os.path.basename(self.path) != _TIDIED:
            self._tidy_at_times(folder)
        return wait_s

    def _tidy_at_times(self, folder: str) -> None:
        """By one of all workers and threads: what says so is a bucket itself, of one a minute."""
        if not Bucket(os.path.join(folder, _TIDIED), 1, self.clock).take(1, at_least=1):
            _tidy(folder, self.clock())

    def spend(self, amount: int) -> None:
        """Take what has been used, be it more than there is."""
        self.take(amount, at_least=-math.inf)

    def _taken(self, fd: int, amount: float, at_least: float) -> float:
        now, data = self.clock(), os.pread(fd, _LEVEL.size, 0)
        known: tuple[float, float] = (float(self.per_minute), now)
        level, then = _LEVEL.unpack(data) if len(data) == _LEVEL.size else known
        # after a restart of the machine its clock begins anew: that fills nothing, and takes nothing away
        level = min(float(self.per_minute), level + max(0.0, now - then) * self.per_minute / _MINUTE_S)
        missing = at_least - level
        if missing <= 0:
            level -= amount
        os.pwrite(fd, _LEVEL.pack(level, now), 0)
        return max(0.0, float(missing) * _MINUTE_S / self.per_minute)


@contextlib.contextmanager
def _locked(path: str) -> Iterator[int]:
    """The file, made if there is none: nobody else takes from it, or takes it away. Raises OSError."""
    while True:
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:  # it may have been taken away before it was locked
                yield file.fileno()
                return


def _tidy(folder: str, now: float) -> None:
    """Take away the files of the buckets that are full, whatever they hold a minute; none that is in use."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            with contextlib.suppress(OSError), open(entry.path, "rb", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_full(file.read(), now):
                    os.unlink(entry.path)


def _is_full(data: bytes, now: float) -> bool:
    """The least that fills a bucket is one a minute, and what was not overdrawn is full after one."""
    if len(data) != _LEVEL.size:
        return True
    level, then = _LEVEL.unpack(data)
    return bool(now - then >= _MINUTE_S * (1 + max(0.0, -level)))


def bucket_path(run_dir: str, key_id: str, kind: str) -> str:
    """A file beside the sockets of the server."""
    return os.path.join(run_dir, "limits", f"{key_id}-{kind}")
