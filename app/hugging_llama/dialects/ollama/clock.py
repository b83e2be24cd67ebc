"""Times and durations as Ollama writes them."""

import math
import time
from datetime import UTC, datetime, timedelta

_FOREVER = timedelta(days=106751)  # Go's longest duration, 2**63 ns: what clients show as "Forever"


def created_at() -> str:
    """Now, RFC 3339 in UTC with nanoseconds, trailing zeros trimmed."""
    seconds, ns = divmod(time.time_ns(), 10**9)
    fraction = f"{ns:09d}".rstrip("0")
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{stamp}.{fraction}Z" if fraction else f"{stamp}Z"


def timestamp(unix_s: float) -> str:
    """RFC 3339 with the local offset; an infinite time becomes a date 292 years ahead, as Ollama's does."""
    moment = datetime.now(UTC) + _FOREVER if math.isinf(unix_s) else datetime.fromtimestamp(unix_s, UTC)
    return moment.astimezone().isoformat()
