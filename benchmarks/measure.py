"""What one stream and a wave of them tell: rates, times to the first token, gaps; and what others took of the CPU."""

import contextlib
import ctypes
import itertools
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped]

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One request as its client saw it. Times in seconds of time.perf_counter(), which all processes share on Linux.

    `token_times_s` has one entry for each event with output; a server that holds text back sends fewer events than
    tokens, so counts of tokens are the server's own.
    """

    sent_s: float
    token_times_s: tuple[float, ...]
    num_prompt_tokens: int
    num_output_tokens: int
    text: str = ""

    @property
    def first_token_s(self) -> float:
        """From the request to the first token."""
        return self.token_times_s[0] - self.sent_s

    @property
    def gaps_s(self) -> tuple[float, ...]:
        """Between one event and the next."""
        times = self.token_times_s
        return tuple(later - earlier for earlier, later in itertools.pairwise(times))

    @property
    def token_s(self) -> float:
        """Seconds a token after the first one."""
        return (self.token_times_s[-1] - self.token_times_s[0]) / max(self.num_output_tokens - 1, 1)


def run_rate(wave: Sequence[Stream]) -> float:
    """Tokens a second from the first request sent to the last token received: prompts included."""
    start, end = min(stream.sent_s for stream in wave), max(stream.token_times_s[-1] for stream in wave)
    return sum(stream.num_output_tokens for stream in wave) / (end - start)


def decode_rate(wave: Sequence[Stream]) -> float:
    """Tokens a second while all streams are past their first token and none has ended: a full batch that decodes."""
    start = max(stream.token_times_s[0] for stream in wave)
    end = min(stream.token_times_s[-1] for stream in wave)
    if end <= start:
        return 0.0
    tokens = 0.0
    for stream in wave:
        inside = sum(start < at <= end for at in stream.token_times_s)
        tokens += inside * stream.num_output_tokens / len(stream.token_times_s)
    return tokens / (end - start)


def first_token_s(wave: Sequence[Stream]) -> float:
    """The median over the streams."""
    return statistics.median(stream.first_token_s for stream in wave)


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent ends, on Linux (prctl(2)): our engine is one, and
    `CpuWatch` must know it."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class CpuWatch:
    """Cores that processes other than this one and its descendants kept busy since the watch was made."""

    def __init__(self) -> None:
        self._start_s, self._all_s, self._own_s = time.monotonic(), _busy_s(), _own_s()

    def foreign_cores(self) -> float:
        """On average; a descendant that ended meanwhile counts as foreign, so ask before the servers are stopped."""
        wall_s = time.monotonic() - self._start_s
        return max(0.0, (_busy_s() - self._all_s - (_own_s() - self._own_s)) / wall_s)


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def _own_s() -> float:
    own = psutil.Process()
    total = 0.0
    for process in [own, *own.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total
