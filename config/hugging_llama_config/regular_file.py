"""Opens a model's files, which come from strangers: a pipe would be waited for, and a device may have no end."""

import errno
import os
import stat
from typing import BinaryIO

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """A regular file, or the one that a link leads to, for reading. Raises OSError, also for anything else."""
    _check(os.stat(path), path)  # to some devices opening is a command
    fd = os.open(path, _FLAGS)
    try:
        _check(os.fstat(fd), path)
        return open(fd, "rb")
    except OSError:
        os.close(fd)
        raise


def _check(status: os.stat_result, path: str | os.PathLike[str]) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "no regular file", os.fspath(path))
