"""Values as text for people: tables, ages, sections. Pure functions."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from hugging_llama_cli.plain import printable
from hugging_llama_config.units import format_bytes

_GAP, _NARROW_GAP = "    ", "  "
_MIN_CELLS = 16
_MIN_SQUEEZED = 8
_FOREVER = timedelta(days=365 * 20)  # "for ever" comes as a date about 292 years ahead
_ID_LENGTH = 12


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], width: int = 0, least: Sequence[str] = ()) -> str:
    """Left-aligned columns, four spaces apart, as Ollama prints them.

    On a terminal of `width` columns, 0 for any, what is too wide moves together; then the columns of the `least` use
    leave, in this order; then the first column is shortened.
    """
    cells = [list(headers), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    gap, shown, leaving = _GAP, list(range(len(headers))), [headers.index(name) for name in least]

    def excess() -> int:
        return sum(widths[i] for i in shown) + len(gap) * (len(shown) - 1) - width if width else 0

    if excess() > 0:
        gap = _NARROW_GAP
    while excess() > 0 and leaving:
        shown.remove(leaving.pop(0))
    if (first := max(_MIN_CELLS, widths[0] - max(excess(), 0))) < widths[0]:
        widths[0] = first
        for row in cells:
            row[0] = _shortened(row[0], first)
    return "\n".join(gap.join(row[i].ljust(widths[i]) for i in shown).rstrip() for row in cells)


def squeezed_table(headers: Sequence[str], rows: Iterable[Sequence[str]], width: int = 0) -> str:
    """A table of which no column but the first may be dropped or moved: where it is too wide for a terminal of `width`
    columns, the widest of the others is shortened, and again."""
    cells = [list(headers), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    room = width - widths[0] - len(_NARROW_GAP) * (len(headers) - 1) if width else sum(widths)
    while sum(widths[1:]) > room and max(widths[1:]) > _MIN_SQUEEZED:
        widest = max(range(1, len(widths)), key=lambda i: widths[i])
        widths[widest] -= 1
    fitted = [[_shortened(cell, widths[i]) if i else cell for i, cell in enumerate(row)] for row in cells]
    return table(fitted[0], fitted[1:], width)


def _shortened(name: str, cells: int) -> str:
    """In at most so many cells: names of models differ at both ends."""
    if len(name) <= cells:
        return name
    tail = (cells - 2) // 2
    return f"{name[: cells - 2 - tail]}..{name[len(name) - tail :]}"


def section(title: str, facts: Mapping[str, str]) -> str:
    """A title with its facts below, values aligned; a fact without a value is a line of its own."""
    width = max(map(len, facts), default=0)
    lines = [f"    {printable(name):<{width}}{_GAP}{printable(value)}".rstrip() for name, value in facts.items()]
    return "\n".join([f"  {title}", *lines])


def short_id(digest: Any) -> str:
    """The first twelve digits of a digest."""
    return str(digest or "").removeprefix("sha256:")[:_ID_LENGTH]


def size(num_bytes: Any) -> str:
    """`4.7 GB`; a dash where the server names no number."""
    return format_bytes(num_bytes) if isinstance(num_bytes, int) else "-"


def parse_time(text: Any) -> datetime | None:
    """An RFC 3339 time with any number of fractional digits, or None."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def age(text: Any, now: datetime | None = None) -> str:
    """`2 days ago`."""
    moment = parse_time(text)
    return f"{_span((now or datetime.now(UTC)) - moment)} ago" if moment else "-"


def until(text: Any, now: datetime | None = None) -> str:
    """`4 minutes from now`, `Forever`, or `Stopping...` for a time that has passed."""
    moment = parse_time(text)
    if not moment:
        return "-"
    left = moment - (now or datetime.now(UTC))
    if left > _FOREVER:
        return "Forever"
    return f"{_span(left)} from now" if left > timedelta(0) else "Stopping..."


def expiry(text: Any) -> str:
    """`2024-05-08T12:00:00Z`, or `never`: for scripts."""
    moment = parse_time(text)
    if not moment:
        return "unknown"
    if moment - datetime.now(UTC) > _FOREVER:
        return "never"
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def processor(total: Any, on_gpu: Any) -> str:
    """Where a model's memory is: `100% GPU`, `48%/52% CPU/GPU`."""
    if not isinstance(total, int) or not isinstance(on_gpu, int) or total <= 0 or on_gpu > total:
        return "Unknown"
    if on_gpu in (0, total):
        return "100% GPU" if on_gpu else "100% CPU"
    cpu_percent = round((total - on_gpu) * 100 / total)
    return f"{cpu_percent}%/{100 - cpu_percent}% CPU/GPU"


def _span(delta: timedelta) -> str:
    """A length of time in one unit, the words and limits being Ollama's."""
    seconds = int(delta.total_seconds())
    if seconds < 1:
        return "Less than a second"
    if seconds < 60:
        return f"{seconds} second{'' if seconds == 1 else 's'}"
    minutes = seconds // 60
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = round(seconds / 3600)
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    days = hours // 24
    for limit, unit_days, unit in ((14, 1, "days"), (60, 7, "weeks"), (730, 30, "months")):
        if days < limit:
            return f"{days // unit_days} {unit}"
    return f"{days // 365} years"
