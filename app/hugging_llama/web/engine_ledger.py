"""Counters of the engine that go on when one engine takes over from another: what the ones before have counted is kept.

What an engine counted after the last look at it, before it ended, is lost: a counter never goes back, and never jumps.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hugging_llama.neutral.events import EngineStatus

_SIZE = 4096
"""Of the file, which never grows: a disk that is full later does no harm."""

Counts = dict[str, list[float]]


@dataclass(slots=True)
class _Page:
    """`engine` is the `started_ns` of the latest one, `last` its counters, `before` those of all before it."""

    engine: int = 0
    num_engines: int = 0
    last: Counts = field(default_factory=dict)
    before: Counts = field(default_factory=dict)


class EngineLedger:
    """For all workers of a server in the file `path`; without one for this process."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._page = _Page()

    def total(self, status: EngineStatus) -> tuple[Counts, int]:
        """The counters of all engines up to this one, by field, and how many engines have been seen."""
        seen = _counters(status)
        with self._open() as page:
            if status.started_ns > page.engine:
                page.before = _added(page.before, page.last)
                page.engine, page.num_engines = status.started_ns, page.num_engines + 1
                page.last = seen
            elif status.started_ns == page.engine:
                page.last = {name: list(map(max, seen[name], page.last.get(name, seen[name]))) for name in seen}
            # an engine that another one has taken over from adds nothing any more
            return _added(page.before, page.last), page.num_engines

    @contextlib.contextmanager
    def _open(self) -> Iterator[_Page]:
        """The page, kept at the end."""
        if self._path is None:
            yield self._page
            return
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            yield self._page
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            self._page = _read(os.pread(fd, _SIZE, 0)) or self._page
            yield self._page
            with contextlib.suppress(OSError):  # no space: this worker goes on with what it knows
                os.pwrite(fd, _written(self._page), 0)
        finally:
            os.close(fd)


def _counters(status: EngineStatus) -> Counts:
    found = {named.name: getattr(status, named.name) for named in fields(status)}
    return {
        name: list(map(float, value)) if isinstance(value, tuple) else [float(value)]
        for name, value in found.items()
        if name.endswith(("_total", "_counts"))
    }


def _added(a: Counts, b: Counts) -> Counts:
    longer = {name: max(len(a.get(name, [])), len(b.get(name, []))) for name in a.keys() | b.keys()}
    return {name: [_at(a, name, i) + _at(b, name, i) for i in range(size)] for name, size in longer.items()}


def _at(counts: Counts, name: str, index: int) -> float:
    values = counts.get(name, [])
    return values[index] if index < len(values) else 0.0


def _written(page: _Page) -> bytes:
    return json.dumps([page.engine, page.num_engines, page.last, page.before]).encode().ljust(_SIZE)


def _read(data: bytes) -> _Page | None:
    """None for a file that is new or damaged."""
    try:
        values: list[Any] = json.loads(data)
        return _Page(*values)
    except (ValueError, TypeError):
        return None
