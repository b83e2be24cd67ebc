"""Durations and sizes as people write and read them."""

import math
import re

FOREVER_S = math.inf

MAX_DURATION_S = 2**63 / 1e9
"""What Go's durations, nanoseconds in 64 bits, can hold; what is longer is for ever."""
_MAX_LENGTH = 64
# no two parts of it can match the same digits, so that no text takes quadratic time
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)"
_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_UNIT = "|".join(_UNIT_S)
_DURATION = re.compile(rf"[-+]?(?:{_NUMBER}(?:{_UNIT}))+", re.ASCII)
_DURATION_PART = re.compile(rf"({_NUMBER})({_UNIT})", re.ASCII)
_ANY_PART = re.compile(rf"{_NUMBER}([^\d.]*)", re.ASCII)
_DECIMAL_UNITS = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("KB", 10**3))
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE | re.ASCII)
_PREFIXES = " KMGT"


def parse_duration(text: str) -> float:
    """Seconds from Go's duration syntax (`300ms`, `1h30m`, `-1m`), bare `0` included.

    Negative, and longer than Go can say, means for ever. Raises ValueError with Go's wording.
    """
    if len(text) > _MAX_LENGTH:
        raise ValueError(f'time: invalid duration "{text[:_MAX_LENGTH]}…"')
    if text in {"0", "+0", "-0"}:
        return 0.0
    if not _DURATION.fullmatch(text):
        raise ValueError(_complaint(text))
    seconds = sum(float(number) * _UNIT_S[unit] for number, unit in _DURATION_PART.findall(text))
    return bounded(-seconds if text.startswith("-") else seconds)


def _complaint(text: str) -> str:
    """What Go says of the first part that is wrong; a unit goes up to the next digit or point."""
    position = 1 if text[:1] in ("-", "+") else 0
    while part := _ANY_PART.match(text, position):
        if not part[1]:
            return f'time: missing unit in duration "{text}"'
        if part[1] not in _UNIT_S:
            return f'time: unknown unit "{part[1]}" in duration "{text}"'
        position = part.end()
    return f'time: invalid duration "{text}"'


def bounded(seconds: float) -> float:
    """`seconds`, or for ever if they are negative or more than Go can say."""
    return seconds if 0 <= seconds <= MAX_DURATION_S else FOREVER_S


def format_duration(seconds: float) -> str:
    """Go's way of printing a duration, to the millisecond: `1h2m3s`, `1.5s`, `12ms`."""
    if math.isinf(seconds):
        return "forever"
    if seconds < 1:
        return f"{seconds * 1000:.3g}ms"
    if seconds < 60:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    hours, rest = divmod(round(seconds), 3600)
    minutes, secs = divmod(rest, 60)
    return (f"{hours}h" if hours else "") + f"{minutes}m{secs}s"


def format_bytes(num_bytes: int) -> str:
    """Decimal units, one digit after the point below ten unless whole: `4.7 GB`, `42 GB`, `274 MB`."""
    for unit, size in _DECIMAL_UNITS:
        if num_bytes >= size:
            value = num_bytes / size
            if value >= 10 or value == int(value):
                return f"{int(value)} {unit}"
            return f"{value:.1f} {unit}"
    return f"{num_bytes} B"


def parse_size(text: str) -> int:
    """Bytes from `24GB`, `512MiB`, `1.5 g` or a bare number. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip()) if len(text) <= _MAX_LENGTH else None
    if not match:
        raise ValueError(f"{text[:_MAX_LENGTH]!r} is not a size; write for example 24GB or 512MiB")
    base = 1024 if match[3] else 1000
    power = _PREFIXES.index(match[2].upper()) if match[2] else 0
    return int(float(match[1]) * base**power)
