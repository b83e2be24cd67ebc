"""A minute of the soak. What it would find in twenty, it may find here; memory is judged in the long one only."""

import math

import pytest

from tests.soak.exchange import Ask, End, Outcome, is_error
from tests.soak.measures import Measure
from tests.soak.report import breaches, memory_growth, memory_spread, percentiles, table
from tests.soak.run import Plan, Record, soak

pytestmark = pytest.mark.slow

PLAN = Plan(seconds=1200, clients=1, kill_every_s=20, measure_every_s=60, seed=1)


@pytest.mark.slow
def test_a_minute_of_mixed_clients_while_processes_are_killed() -> None:
    plan = Plan(seconds=60, clients=24, kill_every_s=8, measure_every_s=60, seed=2, aged_s=0, looked_s=3)
    record = soak(plan)
    problems = breaches(plan, record)
    print(table(plan, record, problems))
    assert problems == []
    assert len(record.kills) >= 2
    kinds = {outcome.kind for outcome in record.outcomes if outcome.end in (End.ANSWER, End.LEFT)}
    assert len(kinds) >= 12


def measure(at: float, size: int, *, descriptors: int = 10, running: float = 0.0) -> Measure:
    return Measure(at, {"engine": size}, {"engine": descriptors}, {"engine": 1}, {"running": running})


def test_what_is_wrong_is_a_breach() -> None:
    lost = Outcome("native stream", End.LOST, 1.0, 2.0, "silent")
    record = Record(outcomes=[lost], before=measure(0, 100), after=measure(9, 100, descriptors=99, running=1.0))
    record.leftover_files, record.leftover_processes = ["/x.part"], ["python"]
    found = "\n".join(breaches(PLAN, record))
    for sign in ("lost: native stream", "nothing was killed", "/x.part", "still running: python", "99 descriptors"):
        assert sign in found
    assert "running of the engine is 1" in found
    assert "BREACH lost" in table(PLAN, record, breaches(PLAN, record))


@pytest.mark.parametrize(
    ("late", "spread", "growth"), [([100, 110, 110, 100], 10 / 105, 0.0), ([90, 99], 9 / 94.5, 0.1)]
)
def test_memory_counts_from_the_fifth_minute_on(late: list[int], spread: float, growth: float) -> None:
    early = [measure(60.0 * minute, 50) for minute in (1, 2, 3, 4)]
    marks = early + [measure(60.0 * (minute + 5), size) for minute, size in enumerate(late)]
    assert memory_spread(marks, PLAN) == pytest.approx(spread)
    assert memory_growth(marks, PLAN) == pytest.approx(growth)
    assert "memory is not flat" in "\n".join(breaches(PLAN, Record(marks=marks)))
    assert ("grows" in "\n".join(breaches(PLAN, Record(loaded=marks)))) == (growth > 0.05)
    assert memory_spread(marks, Plan(60, 1, 1, 1, 1)) is None
    sparse = Plan(seconds=1200, clients=1, kill_every_s=20, measure_every_s=300, seed=1)
    assert memory_spread(marks[4:], sparse) == pytest.approx(spread)


def test_errors_of_all_dialects_are_known() -> None:
    for content in (b'{"error":"x"}', b'{"error":{"message":"x"}}', b'{"type":"error","error":{"message":"x"}}'):
        assert is_error(content)
    for content in (b"", b"<html>", b"[]", b'{"error":""}', b'{"done":true}'):
        assert not is_error(content)


def test_percentiles() -> None:
    assert percentiles(range(100)) == (50, 99, 99)
    assert all(math.isnan(value) for value in percentiles([]))
    assert Ask("x", "/").wants == (200,)
