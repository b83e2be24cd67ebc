"""What is looked at within a request's body, by name: everything else is ignored, and told.

The walk also spells names as their readers do: they match in any case, as in Ollama.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

MAX_FOUND = 1000
"""So many names are told apart: callers choose them."""


class Known(Protocol):
    """What objects of one kind hold. Lists are looked through, item by item, and do not count in a path."""

    def walk(self, value: Any, path: str, found: set[str]) -> None:
        """Spell the names in `value`, in place, and add those that nobody looks at to `found`, behind `path`."""
        ...


class _Objects(ABC):
    """Objects, alone or in lists of lists of them; other values hold no names."""

    def walk(self, value: Any, path: str, found: set[str]) -> None:
        if type(value) is list:
            for item in value:
                self.walk(item, path, found)
        elif type(value) is dict:
            self._walk_object(value, path, found)

    @abstractmethod
    def _walk_object(self, value: dict[str, Any], path: str, found: set[str]) -> None: ...


class Names(_Objects):
    """Objects with these names; `inner` says what the objects below a name hold, where somebody looks that far.

    `off` are names whose `false` asks for what happens anyway. What holds nothing, null or an empty list, is not told.
    """

    def __init__(self, *names: str, off: tuple[str, ...] = (), inner: Mapping[str, Known] | None = None) -> None:
        self._inner = dict(inner or {})
        self._off = frozenset(off)
        self._names = frozenset({*names, *self._inner})
        self._spellings = {name.lower(): name for name in (*self._names, *off)}

    def _walk_object(self, value: dict[str, Any], path: str, found: set[str]) -> None:
        if not self._names >= value.keys():
            self._look(value, path, found)
        for name, known in self._inner.items():
            part = value.get(name)
            if type(part) is list or type(part) is dict:
                known.walk(part, f"{path}{name}.", found)

    def _look(self, value: dict[str, Any], path: str, found: set[str]) -> None:
        given = list(value.items())
        value.clear()
        for key, part in given:
            name = self._spellings.get(key.lower(), key)
            if part is not None or name not in value:  # of two spellings the last one counts that says something
                value[name] = part
            is_known = name in self._names or (name in self._off and part is False)
            if not is_known and part is not None and part != [] and len(found) < MAX_FOUND:
                found.add(path + key)


class Kinds(_Objects):
    """Objects that hold one thing or another by what stands below the name `by`; None if nothing does.

    `left_out` are kinds that are dropped as a whole: the kind is told, as if it were a name. Kinds that are not listed
    are for the reader to refuse, or hold what `otherwise` says.
    """

    def __init__(
        self, by: str, kinds: Mapping[str | None, Known], otherwise: Known | None = None, left_out: tuple[str, ...] = ()
    ) -> None:
        self._by = by
        self._kinds = dict(kinds)
        self._otherwise = otherwise
        self._left_out = frozenset(left_out)

    def _walk_object(self, value: dict[str, Any], path: str, found: set[str]) -> None:
        kind = value.get(self._by)
        if kind is None:
            kind = self._spelt(value)
        if kind is not None and type(kind) is not str:
            return
        known = self._kinds.get(kind, self._otherwise)
        if known is not None:
            known.walk(value, path, found)
        elif kind in self._left_out and len(found) < MAX_FOUND:
            found.add(f"{path}{kind}")

    def _spelt(self, value: dict[str, Any]) -> Any:
        """The kind under another spelling of its name, put where it belongs."""
        for key in value:
            if key.lower() == self._by and value[key] is not None:
                value[self._by] = value.pop(key)
                return value[self._by]
        return None


class AtMost:
    """A list of so many items; a longer one is refused by its reader, and not walked through before."""

    def __init__(self, most: int, known: Known) -> None:
        self._most = most
        self._known = known

    def walk(self, value: Any, path: str, found: set[str]) -> None:
        if type(value) is not list or len(value) <= self._most:
            self._known.walk(value, path, found)
