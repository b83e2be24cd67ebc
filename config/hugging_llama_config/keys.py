"""The API keys: who may do what. Their file holds hashes; a key itself is shown once, when it is made.

The server reads the file anew whenever it has changed. While there is a file, every request needs a key, also if the
file holds none.
"""

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from hugging_llama_config import keys_file
from hugging_llama_config.keys_file import DamagedError, KeyFileError, KeyFileUnreadableError
from hugging_llama_config.redaction import redacted

__all__ = ["KeyFileError", "KeyFileUnreadableError"]

ROLES = ("use", "manage", "metrics", "admin")
"""`use` models, `manage` them on disk, read `metrics`; `admin` may do all."""
MOST_A_MINUTE = 10**9
HIGHEST_PRIORITY = 10**9
"""The lowest one is its opposite."""
_PREFIX = "hl-"
_LATEST_S = 253402300799.0
"""The end of the year 9999."""


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
        return _keys(keys_file.read_rows(path))
    except DamagedError as error:
        raise KeyFileError(f"{path} is damaged: {error}") from None


def add_key(path: str, key: Key) -> None:
    """Raises KeyFileError, also for a name that is taken, and for what the file could not be read with."""
    try:
        _key(asdict(key))
    except DamagedError as error:
        raise KeyFileError(f"the key can't be kept: {error}") from None
    with keys_file.changing(path) as rows:
        keys = _read(path, rows)
        if any(other.name == key.name for other in keys):
            raise KeyFileError(f"there is a key {key.name!r} already; revoke it first, or choose another name")
        if any(key.name == other.id for other in keys):
            raise KeyFileError(f"{key.name!r} is the id of another key; choose another name")
        if any(key.id in (other.id, other.name) for other in keys):
            raise KeyFileError("the new key has got the id or the name of another one by chance; try again")
        rows.append(asdict(key))


def revoke_key(path: str, wanted: str) -> Key:
    """Takes out the key of this name or id. Raises KeyFileError."""
    with keys_file.changing(path) as rows:
        keys = _read(path, rows)
        found = [number for number, key in enumerate(keys) if wanted in (key.name, key.id)]
        if not found:
            raise KeyFileError(f"there is no key {redacted(wanted)!r}")
        if len(found) > 1:
            ids = ", ".join(keys[number].id for number in found)
            raise KeyFileError(f"{wanted!r} is the name or the id of {len(found)} keys (their ids: {ids}); edit {path}")
        del rows[found[0]]
        return keys[found[0]]


def _read(path: str, rows: list[Any]) -> tuple[Key, ...]:
    try:
        return _keys(rows)
    except DamagedError as error:
        raise KeyFileError(f"{path} is damaged: {error}") from None


def _keys(rows: list[Any]) -> tuple[Key, ...]:
    found = []
    for number, row in enumerate(rows, start=1):
        try:
            found.append(_key(row))
        except DamagedError as error:
            name = row.get("name") if isinstance(row, dict) else None
            which = f"key {number} ({name[:64]!r})" if isinstance(name, str) else f"key {number}"
            raise DamagedError(f"{which}: {error}") from None
    return tuple(found)


def _key(row: Any) -> Key:
    """Raises DamagedError."""
    if not isinstance(row, dict):
        raise DamagedError('it must be an object, such as {"id": …, "name": …}')
    if unknown := row.keys() - {field.name for field in fields(Key)}:
        raise DamagedError(f"nobody knows its field {min(unknown)!r}")
    if missing := [name for name in ("id", "name", "sha256", "roles") if name not in row]:
        raise DamagedError(f"it has no {missing[0]!r}")
    for name, value in row.items():
        is_good, words = _FIELDS[name]
        if not is_good(value):
            raise DamagedError(f"its {name!r} must be {words}")
    key = Key(**row)
    return replace(key, roles=tuple(key.roles), models=tuple(key.models))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_id(value: Any) -> bool:
    """Files are named after it."""
    return isinstance(value, str) and value.isprintable() and 0 < len(value) <= 64 and "/" not in value


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_text, value))


def _are_roles(value: Any) -> bool:
    return _are_texts(value) and set(value) <= set(ROLES)


def _is_from(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LATEST_S


_LIMIT = (_is_from(0, MOST_A_MINUTE), f"a whole number from 0 to {MOST_A_MINUTE}")
_FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "id": (_is_id, "a text of 1 to 64 characters without '/'"),
    "name": (_is_text, "a text"),
    "sha256": (_is_text, "a text"),
    "roles": (_are_roles, f"a list of roles: {', '.join(ROLES)}"),
    "models": (_are_texts, "a list of texts"),
    "requests_per_minute": _LIMIT,
    "tokens_per_minute": _LIMIT,
    "priority": (
        _is_from(-HIGHEST_PRIORITY, HIGHEST_PRIORITY),
        f"a whole number from -{HIGHEST_PRIORITY} to {HIGHEST_PRIORITY}",
    ),
    "created_at_s": (_is_time, "a time in seconds since 1970"),
}
