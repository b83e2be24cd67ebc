"""A file that lines are added to by any number of processes, and that may be moved away at any time."""

import contextlib
import fcntl
import os
import time

from hugging_llama_config.audit_file import open_audit_file

_LONGEST_LOCK_S = 1.0
_LOCK_POLL_S = 0.001


def append(path: str, line: bytes) -> None:
    """Add a line, which no other process can break into; the file is made if it is not there, for this user alone. It
    is opened for each line, so that whoever rotates it needs to tell nobody.

    Of a line that has no room nothing stays, and one that somebody else has left without its end is ended first.

    Raises OSError, also for anything but a regular file.
    """
    fd = open_audit_file(path, is_made=True)
    try:
        if line:
            _add(fd, line)
    finally:
        os.close(fd)


def _add(fd: int, line: bytes) -> None:
    is_locked = _locked(fd)
    size = os.fstat(fd).st_size
    whole = line if _ends_a_line(fd, size) else b"\n" + line
    if os.write(fd, whole) == len(whole):
        return
    if is_locked:
        with contextlib.suppress(OSError):  # a file that may only grow: the next line ends it
            os.ftruncate(fd, size)
    raise OSError(0, "there is no room for a whole line")


def _locked(fd: int) -> bool:
    """Whether the file is ours until it is closed. Whoever keeps it, or a disk without locks, must not keep an action
    from being written down: each line is one write in any case."""
    ends_at = time.monotonic() + _LONGEST_LOCK_S
    while time.monotonic() < ends_at:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_POLL_S)
        except OSError:
            return False
        else:
            return True
    return False


def _ends_a_line(fd: int, size: int) -> bool:
    try:
        return size == 0 or os.pread(fd, 1, size - 1) == b"\n"
    except OSError:  # one that may only be written to
        return True
