"""Whom an application that mounts us lets in: what its hook says of the caller of each request."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from hugging_llama_config.keys import HIGHEST_PRIORITY, ROLES


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """One whom the application lets in, and what for; everything but `id` is as in our own keys.

    `id` is a name that the application chooses: the engine takes turns between ids, limits are theirs, and it stands in
    the audit log. Those without one are one caller together. `roles` are of `use`, `manage`, `metrics` and `admin`;
    `models` are patterns of names with `*` and `?`, none for all; limits of 0 are none; of those who wait, a higher
    `priority` comes first. Raises ValueError or TypeError for what is none of these.
    """

    id: str = ""
    roles: tuple[str, ...] = ("use",)
    models: tuple[str, ...] = ()
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    priority: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.id, str):
            raise TypeError(f"a visitor's id must be a text, not {type(self.id).__name__}: str() makes one")
        for name in ("roles", "models"):
            found = getattr(self, name)
            if isinstance(found, str) or not all(isinstance(value, str) for value in found):
                raise TypeError(f"a visitor's {name} must be several texts, such as a tuple of them")
            object.__setattr__(self, name, tuple(found))
        if unknown := sorted(set(self.roles) - set(ROLES)):
            raise ValueError(f"unknown role {unknown[0]!r}; the roles are {', '.join(ROLES)}")
        for name in ("requests_per_minute", "tokens_per_minute", "priority"):
            if not isinstance(getattr(self, name), int):
                raise TypeError(f"a visitor's {name} must be a whole number")
        if abs(self.priority) > HIGHEST_PRIORITY:
            raise ValueError(f"a visitor's priority must be from -{HIGHEST_PRIORITY} to {HIGHEST_PRIORITY}")

    @property
    def name(self) -> str:
        """What a key has beside its id."""
        return self.id


Authenticate = Callable[[], Visitor | None] | Callable[[], Awaitable[Visitor | None]]
"""Called in the request's context; None refuses with 401, and what it raises by `flask.abort` is answered in the
caller's dialect."""


def as_visitor(found: Any) -> Visitor | None:
    """What a hook has returned. Raises TypeError for what means nothing here: such a hook must let nobody in."""
    if found is None or isinstance(found, Visitor):
        return found
    raise TypeError(f"authenticate must return a Visitor or None, not {type(found).__name__}")


def file_name(*parts: str) -> str:
    """Of texts that may hold anything, for a file that stands for them."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
