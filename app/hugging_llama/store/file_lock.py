"""A lock that processes and threads share, and that ends with its holder."""

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from types import TracebackType

from hugging_llama.store.new_folders import make_folders

_POLL_S = 0.02
_PRIVATE = 0o600
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK})


class FileLock:
    """A lock on a file, which is made if it is not there; a `shared` one goes beside others like it.

    A `private` one is its owner's alone: whoever may open a file for reading may lock it, for ever. `acquire` never
    waits. The same files and calls as huggingface_hub's, so that we and it see each other.
    """

    def __init__(self, path: str, *, shared: bool = False, private: bool = False) -> None:
        self._path = path
        self._is_private = private
        self._kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._fd = -1

    def acquire(self) -> bool:
        """Take the lock unless somebody has it. Raises OSError."""
        make_folders(os.path.dirname(self._path))
        try:
            flags = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(self._path, flags, _PRIVATE if self._is_private else 0o666)
        except FileNotFoundError:  # somebody has just removed the folder
            return False
        try:
            if self._is_private:
                _make_private(fd)
            fcntl.flock(fd, self._kind | fcntl.LOCK_NB)
            is_ours = os.path.samestat(os.fstat(fd), os.stat(self._path))  # else its last holder removed it
        except (BlockingIOError, FileNotFoundError, PermissionError):
            is_ours = False
        except OSError as error:  # a file system without locks
            is_ours = error.errno in _NO_LOCKS
        if is_ours:
            self._fd = fd
        else:
            os.close(fd)
        return is_ours

    def release(self) -> None:
        """Let go; without effect if it is not held."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> "FileLock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _make_private(fd: int) -> None:
    """Also one that an earlier version made; another user's stays as it is."""
    status = os.fstat(fd)
    if stat.S_IMODE(status.st_mode) != _PRIVATE and status.st_uid == os.geteuid():
        os.fchmod(fd, _PRIVATE)


@contextlib.contextmanager
def locked(path: str, timeout_s: float, *, shared: bool = False, private: bool = False) -> Iterator[None]:
    """Hold the lock in the block; waits by polling, which lets other greenlets run. Raises TimeoutError, OSError."""
    lock = FileLock(path, shared=shared, private=private)
    deadline = time.monotonic() + timeout_s
    while not lock.acquire():
        if time.monotonic() > deadline:
            raise TimeoutError(errno.ETIMEDOUT, "somebody else has the lock")
        time.sleep(_POLL_S)
    with lock:
        yield
