"""Files that belong to one user and are there whole or not at all, whatever happens while they are written."""

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Ownership:
    """Whose a file is, and who may do what with it."""

    uid: int
    gid: int
    mode: int


class OwnerLostError(PermissionError):
    """The file could not be given to whom it is to belong."""

    def __init__(self, ownership: Ownership) -> None:
        super().__init__(errno.EPERM, os.strerror(errno.EPERM))
        self.ownership = ownership


def replace_private_file(path: Path, content: bytes, ownership: Ownership | None = None) -> None:
    """Write `content` beside `path`, then rename it there: by default a file of ours that nobody else can read.

    Raises OSError, of which OwnerLostError, and then nothing has changed.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    # in a folder of somebody else a link could lie here, which must not lead us away
    flags = os.O_CREAT | os.O_WRONLY | os.O_EXCL | os.O_CLOEXEC
    try:
        part.unlink(missing_ok=True)
        with open(os.open(part, flags, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            if ownership:
                _give(file.fileno(), ownership)
            os.fsync(file.fileno())
        os.replace(part, path)
        _sync_folder(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def _sync_folder(folder: Path) -> None:
    """What was renamed in it stays so when the power fails."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _give(fd: int, ownership: Ownership) -> None:
    status = os.fstat(fd)
    if (status.st_uid, status.st_gid) != (ownership.uid, ownership.gid):
        try:
            os.fchown(fd, ownership.uid, ownership.gid)
        except PermissionError:
            raise OwnerLostError(ownership) from None
    os.fchmod(fd, ownership.mode)
