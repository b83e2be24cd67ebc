"""Durations and sizes as people write and read them."""

import math
import re

FOREVER_S = math.inf

_DURATION = re.compile(r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+")
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DECIMAL_UNITS = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("KB", 10**3))
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", re.IGNORECASE)
_PREFIXES = " KMGT"


def parse_duration(text: str) -> float:
    """Seconds from Go's duration syntax (`300ms`, `1h30m`, `-1m`), bare `0` included.

    Negative means for ever. Raises ValueError with Go's wording.
    """
    if text.lstrip("+-") == "0":
        return 0.0
    if not _DURATION.fullmatch(text):
        if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)", text):
            raise ValueError(f'time: missing unit in duration "{text}"')
        unknown = re.fullmatch(r"[-+]?(?:\d+\.?\d*|\.\d+)([^\d.]+)", text)
        if unknown:
            raise ValueError(f'time: unknown unit "{unknown[1]}" in duration "{text}"')
        raise ValueError(f'time: invalid duration "{text}"')
    seconds = sum(float(n) * _UNIT_S[unit] for n, unit in _DURATION_PART.findall(text))
    return FOREVER_S if text.startswith("-") and seconds > 0 else seconds


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
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a size; write for example 24GB or 512MiB")
    base = 1024 if match[3] else 1000
    power = _PREFIXES.index(match[2].upper()) if match[2] else 0
    return int(float(match[1]) * base**power)
