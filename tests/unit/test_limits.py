"""Buckets that fill evenly, shared by processes."""

import subprocess
import sys
import threading
from pathlib import Path

from hugging_llama.web.limits import Bucket, _tidy


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


def test_files_of_callers_who_are_gone_do_not_stay(tmp_path: Path) -> None:
    """A bucket that is full needs none; one that is overdrawn stays so, and one in use is not looked at."""
    clock = Clock()
    for number in range(100):
        Bucket(str(tmp_path / f"gone-{number}"), 60, clock).take(1, at_least=1)
    Bucket(str(tmp_path / "debtor"), 60, clock).spend(60 + 30)
    clock.now += 61
    lasting = Bucket(str(tmp_path / "lasting"), 60, clock)
    lasting.take(0, at_least=1)
    assert {path.name for path in tmp_path.iterdir()} == {"debtor", "lasting", "tidied"}
    clock.now += 30
    Bucket(str(tmp_path / "soon"), 60, clock).take(1, at_least=1)
    clock.now += 29
    Bucket(str(tmp_path / "next"), 60, clock).take(1, at_least=1)
    assert (tmp_path / "lasting").exists(), "a minute has not passed"
    clock.now += 30 * 60
    Bucket(str(tmp_path / "last"), 60, clock).take(1, at_least=1)
    assert {path.name for path in tmp_path.iterdir()} == {"last", "tidied"}


def test_nothing_is_lost_in_files_that_are_taken_away(tmp_path: Path) -> None:
    """Threads take from one bucket whose file is unlinked all the time by others, who hold its lock as tidying does."""
    clock = Clock()
    path = tmp_path / "b"
    bucket = Bucket(str(path), 1000, clock)
    taken: list[float] = []
    stopping = threading.Event()

    def take() -> None:
        taken.extend(bucket.take(1, at_least=1) for _ in range(200))

    def tidy() -> None:
        while not stopping.is_set():
            _tidy(str(tmp_path), clock.now)

    threads = [threading.Thread(target=take) for _ in range(4)]
    tidier = threading.Thread(target=tidy)
    for thread in (tidier, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stopping.set()
    tidier.join()
    assert taken == [0.0] * 800
    assert [bucket.take(1, at_least=1) for _ in range(201)] == [0.0] * 200 + [0.06]
