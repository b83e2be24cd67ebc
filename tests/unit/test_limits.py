"""Buckets that fill evenly, shared by processes."""

import subprocess
import sys
from pathlib import Path

from hugging_llama.web.limits import Bucket


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_minutes_worth_and_then_evenly(tmp_path: Path) -> None:
    clock = Clock()
    bucket = Bucket(str(tmp_path / "b"), 60, clock)
    assert [bucket.take(1, at_least=1) for _ in range(60)] == [0.0] * 60
    assert bucket.take(1, at_least=1) == 1.0
    clock.now += 1.5
    assert bucket.take(1, at_least=1) == 0.0
    assert bucket.take(1, at_least=1) == 0.5
    clock.now += 10_000
    assert [bucket.take(1, at_least=1) for _ in range(61)] == [0.0] * 60 + [1.0]


def test_what_was_overdrawn_is_waited_for(tmp_path: Path) -> None:
    clock = Clock()
    bucket = Bucket(str(tmp_path / "b"), 60, clock)
    bucket.spend(90)
    assert bucket.take(0, at_least=1) == 31.0
    clock.now += 31
    assert bucket.take(0, at_least=1) == 0.0


def test_a_clock_that_begins_anew_gives_nothing_away(tmp_path: Path) -> None:
    clock = Clock()
    bucket = Bucket(str(tmp_path / "b"), 60, clock)
    bucket.spend(60)
    clock.now = 5.0
    assert bucket.take(1, at_least=1) == 1.0
    clock.now = 6.0
    assert bucket.take(1, at_least=1) == 0.0


def test_no_limit_needs_no_file(tmp_path: Path) -> None:
    bucket = Bucket("", 0)
    bucket.spend(10**9)
    assert bucket.take(1, at_least=1) == 0.0


def test_a_disk_that_fails_limits_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert Bucket(str(tmp_path / "file" / "b"), 1).take(1, at_least=1) == 0.0


def test_processes_share_it(tmp_path: Path) -> None:
    script = (
        "import sys; from hugging_llama.web.limits import Bucket\n"
        "bucket = Bucket(sys.argv[1], 100)\n"
        "print(sum(bucket.take(1, at_least=1) == 0 for _ in range(60)))"
    )
    path = str(tmp_path / "b")
    children = [
        subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    taken = sum(int(child.communicate(timeout=60)[0]) for child in children)
    # what comes back while they run, at most two a second
    assert 100 <= taken <= 180
