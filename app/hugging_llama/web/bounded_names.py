"""Which values a label may have: those that came first, so many at most, the same for all workers of a server."""

import fcntl
import json
import os
from pathlib import Path

OTHER = "other"
"""What all later ones are called."""
LONGEST = 80
"""Bytes of a value, as JSON writes it."""
_CUT = "…"


class BoundedNames:
    """`limit` names, kept in the file `path`, which only grows; without one in this process alone.

    Workers that follow others, and those after a reload, find the names there, so their series go on.
    """

    def __init__(self, limit: int, path: Path | None = None) -> None:
        self._limit = limit
        self._path = path
        self._known: set[str] = set()
        self._is_full = False

    def holds(self, name: str) -> bool:
        """Whether it is one of those that came first; it becomes one while there is room."""
        if name in self._known:
            return True
        if not self._is_full:
            self._add(name)
        return name in self._known

    def _add(self, name: str) -> None:
        if self._path is None:
            self._keep([*self._known, name])
            return
        try:
            with open(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                lines = file.read().splitlines(keepends=True)
                names = [json.loads(line) for line in lines if line.endswith(b"\n")]
                if name not in names and len(names) < self._limit:
                    # behind the whole lines may lie what a full disk has cut off, which has no end of a line
                    whole = sum(map(len, lines[: len(names)]))
                    line = json.dumps(name).encode() + b"\n"
                    if os.pwrite(file.fileno(), line, whole) == len(line):
                        names.append(name)
                self._keep(names)
        except (OSError, ValueError):
            return  # without space, or damaged: what is not known yet is among the others

    def _keep(self, names: list[str]) -> None:
        self._known = set(names[: self._limit])
        self._is_full = len(self._known) >= self._limit


def shown(value: str) -> str:
    """A label's value, of which every series takes the space: the end of what is very long."""
    if value.isascii() and len(value) <= LONGEST:
        return value
    # an application that mounts us may name its visitors by what no page can hold
    tail = value = value.encode("utf-8", "replace").decode()
    while len(json.dumps(_CUT + tail)) > LONGEST + 2:
        tail = tail[max(1, len(tail) // 16) :]
    return value if tail == value else _CUT + tail
