"""How often the faults of docs/reliability.md are tried: a few times, or as often as the bar says (`make soak`).

`python -m tests.bar` prints the tests of that table, for pytest. What they note is told in one table at the end.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

from tests.named_tests import RELIABILITY, table_of

WHOLE = os.environ.get("BAR_COUNTS") == "whole"
"""Whether this run is the one that counts, on a machine of its own: bounds in milliseconds hold there alone."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What a test has tried for one row. `lost` has no explanation and must be 0; `worst_s` is None where nothing had
    to recover."""

    row: str
    faults: int
    lost: int
    worst_s: float | None
    more: str


Note = Callable[..., None]
"""`note(row, faults, lost=0, worst_s=None, more="")`."""


def times(few: int, whole: int) -> int:
    """How often."""
    return whole if WHOLE else few


def percentile(seconds: list[float], share: float) -> float:
    return sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * share))]


def report(tried: list[Tried]) -> str:
    """The one table, in Markdown."""
    lines = ["| row | faults | lost | worst recovery s | |", "|---|---|---|---|---|"]
    for one in sorted(tried, key=lambda one: one.row):
        worst = "" if one.worst_s is None else f"{one.worst_s:.2f}"
        lines.append(f"| {one.row} | {one.faults} | {one.lost} | {worst} | {one.more} |")
    lines.append(f"| all | {sum(one.faults for one in tried)} | {sum(one.lost for one in tried)} | | |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(*sorted({f"{path}::{name}" for tests in table_of(RELIABILITY).values() for path, name in tests}))
