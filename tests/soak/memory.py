"""`python -m tests.soak.memory HOME SECONDS`: the mean memory of each process of a server, in bytes, by its number.

A process of its own looks: in the one of two hundred clients a look takes seconds.
"""

import contextlib
import json
import sys
import time
from collections import Counter

import psutil  # type: ignore[import-untyped]

_LOOK_EVERY_S = 0.5


def processes_of(home: str) -> list[psutil.Process]:
    """All that live and have this home, whoever their parent is."""
    found = []
    for process in psutil.process_iter(["status"]):
        with contextlib.suppress(psutil.Error):
            if process.info["status"] != psutil.STATUS_ZOMBIE and process.environ().get("HOME") == home:
                found.append(process)
    return found


def pss_bytes(pid: int) -> int:
    """The proportional set size: what is shared counts in parts. Raises OSError if it has ended."""
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        line = next(line for line in rollup if line.startswith("Pss:"))
    return int(line.split()[1]) * 1024


def mean_bytes(home: str, seconds: float) -> dict[int, int]:
    """By process; who was there for a part of the time counts for that part."""
    sums: Counter[int] = Counter()
    looks, end_at = 0, time.monotonic() + seconds
    while not looks or time.monotonic() < end_at:
        for process in processes_of(home):
            with contextlib.suppress(OSError, StopIteration):
                sums[process.pid] += pss_bytes(process.pid)
        looks += 1
        time.sleep(_LOOK_EVERY_S)
    return {pid: size // looks for pid, size in sums.items()}


if __name__ == "__main__":
    print(json.dumps(mean_bytes(sys.argv[1], float(sys.argv[2]))))
