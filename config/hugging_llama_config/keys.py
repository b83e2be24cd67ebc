"""The file of API keys: who may do what. It holds hashes; a key itself is shown once, when it is made.

The server reads the file anew whenever it has changed. While there is a file, every request needs a key, also if the
file holds none.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from hugging_llama_config.private_file import replace_private_file

ROLES = ("use", "manage", "metrics", "admin")
"""`use` models, `manage` them on disk, read `metrics`; `admin` may do all."""
_PREFIX = "hl-"
_FORMAT = 1


class KeyFileError(Exception):
    """The file can't be used; one line for operators."""


class KeyFileUnreadableError(KeyFileError):
    """There is something, and the system does not let us read it, at least not now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What is known of a key. `models` are patterns of names with `*` and `?`, none for all; limits of 0 are none; of
    those who wait, a higher `priority` comes first."""

    id: str
    name: str
    sha256: str
    roles: tuple[str, ...]
    models: tuple[str, ...] = ()
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    priority: int = 0
    created_at_s: float = 0.0


def hash_of(secret: str) -> str:
    """A key is long and random, so a fast hash will do: there is nothing to guess."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def new_key(name: str, **options: Any) -> tuple[Key, str]:
    """A key and its secret."""
    secret = _PREFIX + secrets.token_urlsafe(32)
    return Key(id=secrets.token_hex(4), name=name, sha256=hash_of(secret), created_at_s=time.time(), **options), secret


def read_keys(path: str) -> tuple[Key, ...]:
    """Raises FileNotFoundError if there is certainly none, or KeyFileError."""
    try:
        text = Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(path):
            raise KeyFileUnreadableError(f"{path} leads to nothing") from None
        raise FileNotFoundError(path) from None
    except OSError as error:
        raise KeyFileUnreadableError(f"{path} can't be read: {error.strerror}") from None
    try:
        table = json.loads(text)
        if table["format"] != _FORMAT:
            raise KeyFileError(f"{path} has format {table['format']}, and this version knows {_FORMAT}")
        return tuple(_key(row) for row in table["keys"])
    except (ValueError, TypeError, KeyError) as error:
        raise KeyFileError(f"{path} is damaged: {error}") from None


def add_key(path: str, key: Key) -> None:
    """Raises KeyFileError, also for a name that is taken."""
    with _changing(path) as keys:
        if any(other.name == key.name for other in keys):
            raise KeyFileError(f"there is a key {key.name!r} already; revoke it first, or choose another name")
        keys.append(key)


def revoke_key(path: str, wanted: str) -> Key:
    """Takes out the key of this name or id. Raises KeyFileError."""
    with _changing(path) as keys:
        found = [key for key in keys if wanted in (key.name, key.id)]
        if not found:
            raise KeyFileError(f"there is no key {wanted!r}")
        keys.remove(found[0])
        return found[0]


def _key(row: Any) -> Key:
    known = {field.name for field in fields(Key)}
    if unknown := row.keys() - known:
        raise ValueError(f"unknown field {min(unknown)!r}")
    key = Key(**row)
    if not set(key.roles) <= set(ROLES):
        raise ValueError(f"unknown role in {list(key.roles)}")
    return replace(key, roles=tuple(key.roles), models=tuple(key.models))


@contextlib.contextmanager
def _changing(path: str) -> Iterator[list[Key]]:
    """The keys, to be changed in place; written at the end, whole or not at all. Raises KeyFileError."""
    folder, name = os.path.split(os.path.abspath(path))
    try:
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f".{name}.lock"), "ab", opener=_open_private) as lock:
            # nobody else may be able to hold it, and so to keep a key from being revoked
            with contextlib.suppress(PermissionError):
                os.fchmod(lock.fileno(), 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                keys = list(read_keys(path))
            except FileNotFoundError:
                keys = []
            yield keys
            text = json.dumps({"format": _FORMAT, "keys": [asdict(key) for key in keys]}, indent=2) + "\n"
            replace_private_file(Path(path), text.encode())
    except OSError as error:
        raise KeyFileError(f"{path} can't be changed: {error.strerror}") from None


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
