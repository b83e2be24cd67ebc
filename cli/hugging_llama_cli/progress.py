"""How a download or an upload goes: bars on a terminal, plain lines elsewhere."""

import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TextIO

from hugging_llama_cli import bar_row
from hugging_llama_cli.api import Json
from hugging_llama_cli.plain import printable
from hugging_llama_config.units import format_bytes

_REDRAW_S = 0.1
_SPEED_WINDOW_S = 5.0
_LINE_EVERY_S = 10.0
_FALLBACK_SIZE = (80, 24)


class PullProgress(Protocol):
    """Shows the objects of a stream of /api/pull or /api/push."""

    def show(self, event: Json) -> None:
        """Take one object of the stream."""
        ...

    def close(self) -> None:
        """Leave the terminal in order; the pull has ended, well or not."""
        ...


def pull_progress(stream: TextIO, clock: Callable[[], float] = time.monotonic, verb: str = "download") -> PullProgress:
    """Bars if `stream` is a terminal, else lines, which say what is done to a file: `verb` is regular."""
    return Bars(stream, clock) if stream.isatty() else Lines(stream, clock, verb)


@dataclass
class Transfer:
    """One file on its way, or all together. `samples` are (time, bytes) of the last seconds, for the speed."""

    name: str
    total: int = 0
    completed: int = 0
    samples: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def is_done(self) -> bool:
        return 0 < self.total <= self.completed

    def take(self, total: int, completed: int, now_s: float) -> None:
        """Note the bytes of now; 0 stands for what is not known."""
        self.total = total or self.total
        self.completed = completed or self.completed
        self.samples.append((now_s, self.completed))
        while now_s - self.samples[0][0] > _SPEED_WINDOW_S and len(self.samples) > 2:
            self.samples.popleft()

    def bytes_per_s(self) -> float:
        """The speed of the last seconds; 0 while nothing is known."""
        (first_s, first), (last_s, last) = self.samples[0], self.samples[-1]
        return max(0.0, (last - first) / (last_s - first_s)) if last_s > first_s else 0.0

    def amount(self) -> str:
        """`1.2 GB/4.9 GB`, at the end `4.9 GB`."""
        total = format_bytes(self.total)
        return total if self.is_done else f"{format_bytes(self.completed)}/{total}"

    def pace(self) -> str:
        """`85 MB/s   42s`: speed and time left."""
        speed = self.bytes_per_s()
        if self.is_done or speed < 1:
            return ""
        return f"{format_bytes(int(speed))}/s   {_clock_time((self.total - self.completed) / speed)}"


class _Transfers:
    """The files of one pull, by name, in the order in which they came, and all of them together."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._finished: set[str] = set()
        self.under_way: dict[str, Transfer] = {}
        self.overall = Transfer("all files")

    def take(self, event: Json) -> Transfer | None:
        """The file that an event is about; None for a mere status and for what is known already."""
        name = _file_name(event)
        total, completed = _int(event.get("total")), _int(event.get("completed"))
        if not name or (name in self._finished and completed >= total):
            return None
        self._finished.discard(name)  # content that was wrong comes again
        if (overall := _int(event.get("overall_total"))) > total:
            self.overall.take(overall, _int(event.get("overall_completed")), self._clock())
        transfer = self.under_way.setdefault(name, Transfer(name))
        transfer.take(total, completed, self._clock())
        if transfer.is_done:
            self._finished.add(name)
            del self.under_way[name]
        return transfer


class Bars:
    """A bar for each file under way, and one for all, redrawn in place; what is finished scrolls up and stays."""

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
        overall = self._transfers.overall
        together = [overall] if overall.total and not overall.is_done else []
        alone = list(self._transfers.under_way.values())[: max(0, height - 2 - len(together))]
        bars = [self._bar(transfer) for transfer in (*alone, *together)]
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
        layout = bar_row.columns(self._size()[0])
        if not transfer.total:
            return bar_row.shortened(transfer.name, layout.name_cells)
        share = min(1.0, transfer.completed / transfer.total)
        return bar_row.row(layout, transfer.name, share, transfer.amount(), transfer.pace(), self._cells)


class JsonLines:
    """Each object as it came, in a line of its own: for programs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, event: Json) -> None:
        """Take one object of the stream."""
        print(json.dumps(event), file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing to put in order."""


class Lines:
    """A line when something ends, and now and then one while it lasts: for logs."""

    def __init__(self, stream: TextIO, clock: Callable[[], float], verb: str = "download") -> None:
        self._stream = stream
        self._clock = clock
        self._verb = verb
        self._transfers = _Transfers(clock)
        self._printed_s: dict[str, float] = {}
        self._last = ""

    def show(self, event: Json) -> None:
        """Take one object of the stream."""
        transfer = self._transfers.take(event)
        if transfer is None:
            self._print(_status(event))
        elif transfer.is_done:
            self._print(f"{self._verb}ed {transfer.name} ({format_bytes(transfer.total)})")
        else:
            self._print_under_way(transfer)

    def close(self) -> None:
        """Nothing to put in order."""

    def _print_under_way(self, transfer: Transfer) -> None:
        now_s, overall = self._clock(), self._transfers.overall
        shown, what = (overall, "") if overall.total else (transfer, f" {transfer.name}")
        if now_s - self._printed_s.get(shown.name, -_LINE_EVERY_S) < _LINE_EVERY_S:
            return
        self._printed_s[shown.name] = now_s
        amount = f" {shown.amount()}" if shown.total else ""
        pace = shown.pace()
        self._print(f"{self._verb}ing{what}{amount}{'   ' + pace if pace else ''}")

    def _print(self, line: str) -> None:
        if line and line != self._last:
            print(line, file=self._stream, flush=True)
            self._last = line


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
