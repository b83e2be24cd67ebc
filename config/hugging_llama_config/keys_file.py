"""The file of API keys on the disk: what is read of it, and how it is changed by one at a time."""

import contextlib
import fcntl
import grp
import json
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hugging_llama_config.private_file import OwnerLostError, Ownership, replace_private_file

_FORMAT = 1
_MOST_BYTES = 64 * 2**20
_SHARED = 0o660
"""What an operator may have allowed the owner and a group; others get nothing."""


class KeyFileError(Exception):
    """The file can't be used; one line for operators."""


class KeyFileUnreadableError(KeyFileError):
    """There is something, and the system does not let us read it, at least not now."""


class DamagedError(Exception):
    """What is wrong with what the file holds."""


def read_rows(path: str) -> list[Any]:
    """Raises FileNotFoundError if there is certainly no file, KeyFileError if it can't be read, or DamagedError."""
    try:
        with open(path, "rb", opener=_open_regular) as file:
            content = file.read(_MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        _check_link(path)
        raise FileNotFoundError(path) from None
    except OSError as error:
        raise KeyFileUnreadableError(f"{path} can't be read: {error.strerror}") from None
    table = _table(content)
    if table["format"] != _FORMAT:
        raise KeyFileError(f"{path} has format {json.dumps(table['format'])[:40]}, and this version knows {_FORMAT}")
    if not isinstance(table.get("keys"), list):
        raise DamagedError("it has no list of 'keys'")
    return list(table["keys"])


@contextlib.contextmanager
def changing(path: str) -> Iterator[list[Any]]:
    """The rows, to be changed in place; written at the end, whole or not at all, to where a link leads. The file stays
    whose it was. Raises KeyFileError."""
    try:
        _check_kind(path)
        real = os.path.realpath(path)
        os.makedirs(os.path.dirname(real), exist_ok=True)
        ownership = _ownership(real)
        with _lock(real, ownership):
            rows = _rows(real)
            yield rows
            text = json.dumps({"format": _FORMAT, "keys": rows}, indent=2) + "\n"
            replace_private_file(Path(real), text.encode(), ownership)
    except OwnerLostError as error:
        whose = _names(error.ownership)
        raise KeyFileError(f"{path} belongs to {whose}, who would lose it: change it as them, or as root") from None
    except OSError as error:
        raise KeyFileError(f"{path} can't be changed: {error.strerror}") from None


def _rows(path: str) -> list[Any]:
    try:
        return read_rows(path)
    except FileNotFoundError:
        return []
    except DamagedError as error:
        raise KeyFileError(f"{path} is damaged: {error}") from None


def _table(content: bytes) -> dict[str, Any]:
    """Raises DamagedError."""
    if not content.strip():
        raise DamagedError("it is empty")
    if len(content) > _MOST_BYTES:
        raise DamagedError(f"it has more than {_MOST_BYTES} bytes")
    try:
        table = json.loads(content)
    except json.JSONDecodeError as error:
        raise DamagedError(f"it is no JSON from line {error.lineno}, column {error.colno} on") from None
    except (ValueError, RecursionError):
        raise DamagedError("it is no JSON") from None
    if not isinstance(table, dict) or "format" not in table:
        raise DamagedError(f'it must be an object, such as {{"format": {_FORMAT}, "keys": []}}')
    return table


def _check_kind(path: str) -> None:
    """Raises KeyFileUnreadableError unless this is a file or may become one, OSError."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise KeyFileUnreadableError(f"{path} is no regular file")
    except (FileNotFoundError, NotADirectoryError):
        _check_link(path)


def _check_link(path: str) -> None:
    """Raises KeyFileUnreadableError for a link, which is something also where nothing is behind it."""
    if os.path.islink(path):
        raise KeyFileUnreadableError(f"{path} leads to nothing") from None


def _open_regular(path: str, flags: int) -> int:
    """Nobody must wait for what may come out of a pipe."""
    _check_kind(path)
    fd = os.open(path, flags | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise KeyFileUnreadableError(f"{path} is no regular file")


def _ownership(path: str) -> Ownership | None:
    """The file's; for a new one that of its folder where we are root, who may make it for a server's user."""
    try:
        status = os.stat(path)
        return Ownership(status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode) & _SHARED | 0o600)
    except FileNotFoundError:
        if os.geteuid() != 0:
            return None
        folder = os.stat(os.path.dirname(path))
        return Ownership(folder.st_uid, folder.st_gid, 0o600)


@contextlib.contextmanager
def _lock(path: str, ownership: Ownership | None) -> Iterator[None]:
    """Nobody else may be able to hold it, and so to keep a key from being revoked; whose the keys are may."""
    folder, name = os.path.split(path)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with open(os.open(os.path.join(folder, f".{name}.lock"), flags, 0o600), "r+b", buffering=0) as lock:
        status = os.fstat(lock.fileno())
        if status.st_uid == os.geteuid() and stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            os.fchmod(lock.fileno(), 0o600)
            if ownership and status.st_uid == 0 != ownership.uid:
                os.fchown(lock.fileno(), ownership.uid, ownership.gid)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _names(ownership: Ownership) -> str:
    user, group = str(ownership.uid), str(ownership.gid)
    with contextlib.suppress(KeyError):
        user = pwd.getpwuid(ownership.uid).pw_name
    with contextlib.suppress(KeyError):
        group = grp.getgrgid(ownership.gid).gr_name
    return f"{user}:{group}"
