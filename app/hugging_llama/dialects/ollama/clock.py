"""Times and durations as Ollama writes them."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_FOREVER = timedelta(days=106751)  # Go's longest duration, 2**63 ns: what clients show as "Forever"


def created_at() -> str:
    """Now, RFC 3339 in UTC with nanoseconds, trailing zeros trimmed."""
    seconds, ns = divmod(time.time_ns(), 10**9)
    fraction = f"{ns:09d}".rstrip("0")
    stamp = _stamp(seconds)
    return f"{stamp}.{fraction}Z" if fraction else f"{stamp}Z"


@lru_cache(maxsize=1)
def _stamp(seconds: int) -> str:
    """The tokens of a second share it: it costs more than all else of a token's moment."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def timestamp(unix_s: float) -> str:
    """RFC 3339 with the local offset; one beyond Ollama's "forever" becomes that, 292 years ahead."""
    latest = datetime.now(UTC) + _FOREVER
    moment = latest if unix_s > latest.timestamp() else datetime.fromtimestamp(unix_s, UTC)
    return moment.astimezone().isoformat()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopwatch:
    """Runs since a request arrived; writes durations as integer nanoseconds, or as seconds with a fraction."""

    in_seconds: bool
    started_ns: int = field(default_factory=time.monotonic_ns)

    def duration(self, ns: int) -> int | float:
        return ns / 1e9 if self.in_seconds else ns

    def total(self) -> int | float:
        return self.duration(time.monotonic_ns() - self.started_ns)
