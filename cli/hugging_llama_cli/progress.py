"""How a download goes: bars on a terminal, plain lines elsewhere."""

import os
import shutil
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TextIO

from hugging_llama_cli.api import Json
from hugging_llama_cli.plain import printable
from hugging_llama_config.units import format_bytes

_REDRAW_S = 0.1
_SPEED_WINDOW_S = 5.0
_LINE_EVERY_S = 10.0
_BAR_CELLS = 24
_NAME_CELLS = 36
_FALLBACK_SIZE = (80, 24)


class PullProgress(Protocol):
    """Shows the objects of a pull stream."""

    def show(self, event: Json) -> None:
        """Take one object of the stream."""
        ...

    def close(self) -> None:
        """Leave the terminal in order; the pull has ended, well or not."""
        ...


def pull_progress(stream: TextIO, clock: Callable[[], float] = time.monotonic) -> PullProgress:
    """Bars if `stream` is a terminal, else lines."""
    return Bars(stream, clock) if stream.isatty() else Lines(stream, clock)


@dataclass
class Transfer:
    """One file on its way. `samples` are (time, bytes) of the last seconds, for the speed."""

    name: str
    total: int = 0
    completed: int = 0
    samples: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def is_done(self) -> bool:
        return 0 < self.total <= self.completed

    def take(self, event: Json, now_s: float) -> None:
        """Note the figures of an event; what it does not name stays."""
        self.total = _int(event.get("total")) or self.total
        self.completed = _int(event.get("completed")) or self.completed
        self.samples.append((now_s, self.completed))
        while now_s - self.samples[0][0] > _SPEED_WINDOW_S and len(self.samples) > 2:
            self.samples.popleft()

    def bytes_per_s(self) -> float:
        """The speed of the last seconds; 0 while nothing is known."""
        (first_s, first), (last_s, last) = self.samples[0], self.samples[-1]
        return max(0.0, (last - first) / (last_s - first_s)) if last_s > first_s else 0.0

    def pace(self) -> str:
        """`85 MB/s   42s`: speed and time left."""
        speed = self.bytes_per_s()
        if self.is_done or speed < 1:
            return ""
        return f"{format_bytes(int(speed))}/s   {_clock_time((self.total - self.completed) / speed)}"


class _Transfers:
    """The files of one pull, by name, in the order in which they came."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._finished: set[str] = set()
        self.under_way: dict[str, Transfer] = {}

    def take(self, event: Json) -> Transfer | None:
        """The file that an event is about; None for a mere status and for what is known already."""
        name = _file_name(event)
        if not name or name in self._finished:
            return None
        transfer = self.under_way.setdefault(name, Transfer(name))
        transfer.take(event, self._clock())
        if transfer.is_done:
            self._finished.add(name)
            del self.under_way[name]
        return transfer


class Bars:
    """A bar for each file under way, redrawn in place; what is finished scrolls up and stays."""

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._clock = clock
        self._transfers = _Transfers(clock)
        self._drawn = 0
        self._redrawn_s = -_REDRAW_S
        self._status = ""
        encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "")
        self._cells = ("▕", "█", " ", "▏") if encoding.startswith("utf") else ("[", "#", " ", "]")

    def show(self, event: Json) -> None:
        """Take one object of the stream."""
        transfer = self._transfers.take(event)
        finished = []
        if transfer is None:
            status = _status(event)
            finished = [status] if status and status != self._status else []
            self._status = status or self._status
        elif transfer.is_done:
            finished = [self._bar(transfer)]
        self._redraw(finished)

    def close(self) -> None:
        """Draw what is there a last time."""
        self._redrawn_s = -_REDRAW_S
        self._redraw([])
        self._drawn = 0

    def _redraw(self, finished: list[str]) -> None:
        now_s = self._clock()
        if not finished and now_s - self._redrawn_s < _REDRAW_S:
            return
        self._redrawn_s = now_s
        width, height = self._size()
        bars = [self._bar(transfer) for transfer in self._transfers.under_way.values()][: height - 2]
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        lines = "".join(f"{line[: width - 1]}\x1b[K\n" for line in [*finished, *bars])
        # what is below may be left over from a taller drawing
        self._stream.write(f"{up}\r{lines}\x1b[J")
        self._stream.flush()
        self._drawn = len(bars)

    def _size(self) -> tuple[int, int]:
        try:
            width, height = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            width, height = shutil.get_terminal_size(_FALLBACK_SIZE)
        return width or _FALLBACK_SIZE[0], height or _FALLBACK_SIZE[1]

    def _bar(self, transfer: Transfer) -> str:
        width = self._size()[0]
        name_cells = min(_NAME_CELLS, max(12, width - 54))
        name = _shortened(transfer.name, name_cells)
        if not transfer.total:
            return f"{name:<{name_cells}}"
        share = min(1.0, transfer.completed / transfer.total)
        left, full, empty, right = self._cells
        cells = max(4, min(_BAR_CELLS, width - name_cells - 46))
        bar = left + (full * int(share * cells)).ljust(cells, empty) + right
        done, total = format_bytes(transfer.completed), format_bytes(transfer.total)
        amount = total if transfer.is_done else f"{done}/{total}"
        return f"{name:<{name_cells}} {int(share * 100):3d}% {bar} {amount:<15}   {transfer.pace()}".rstrip()


class Lines:
    """A line when something ends, and now and then one while it lasts: for logs."""

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._clock = clock
        self._transfers = _Transfers(clock)
        self._printed_s: dict[str, float] = {}
        self._last = ""

    def show(self, event: Json) -> None:
        """Take one object of the stream."""
        transfer = self._transfers.take(event)
        if transfer is None:
            self._print(_status(event))
        elif transfer.is_done:
            self._print(f"downloaded {transfer.name} ({format_bytes(transfer.total)})")
        else:
            self._print_under_way(transfer)

    def close(self) -> None:
        """Nothing to put in order."""

    def _print_under_way(self, transfer: Transfer) -> None:
        now_s = self._clock()
        if now_s - self._printed_s.get(transfer.name, -_LINE_EVERY_S) < _LINE_EVERY_S:
            return
        self._printed_s[transfer.name] = now_s
        amount = f" {format_bytes(transfer.completed)}/{format_bytes(transfer.total)}" if transfer.total else ""
        pace = transfer.pace()
        self._print(f"downloading {transfer.name}{amount}{'   ' + pace if pace else ''}")

    def _print(self, line: str) -> None:
        if line and line != self._last:
            print(line, file=self._stream, flush=True)
            self._last = line


def _shortened(name: str, cells: int) -> str:
    """`name` in at most so many cells: the parts of a model differ at the start, their kinds at the end."""
    if len(name) <= cells:
        return name
    head = (cells - 2) * 2 // 3
    return f"{name[:head]}..{name[len(name) - (cells - 2 - head) :]}"


def _file_name(event: Json) -> str:
    """How the file of an event is called: by its name, else by where it goes, else by its digest."""
    name = event.get("file") or os.path.basename(str(event.get("path") or "")) or event.get("digest")
    return printable(str(name)) if name else ""


def _status(event: Json) -> str:
    """The text of an event that is about no file."""
    return "" if _file_name(event) else printable(str(event.get("status") or ""))


def _int(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _clock_time(seconds: float) -> str:
    """`42s`, `3m07s`, `2h15m`; a dash for what would take days."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m" if whole < 100 * 3600 else "-"
