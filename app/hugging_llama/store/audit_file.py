"""A file that lines are added to by any number of processes, and that may be moved away at any time."""

import os
import stat


def append(path: str, line: bytes) -> None:
    """Add a line in one write, which no other process can break into; the file is made if it is not there, for this
    user alone. It is opened for each line, so that whoever rotates it needs to tell nobody.

    Raises OSError, also for anything but a regular file.
    """
    # O_NONBLOCK: a pipe that nobody reads would be waited for
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(0, "it is no regular file")
        if os.write(fd, line) != len(line):
            raise OSError(0, "there is no room for a whole line")
    finally:
        os.close(fd)
