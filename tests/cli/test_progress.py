"""Bars on a terminal, with a clock of our own; and once for real."""

import io
import re
import threading

import pytest

from hugging_llama_cli.bar_row import shortened
from hugging_llama_cli.progress import Bars, Lines, pull_progress
from tests.cli.conftest import MODULE
from tests.cli.stub_server import StubServer
from tests.cli.terminal_session import CTRL_C, TerminalSession

_GB = 10**9


class _Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class _Screen(io.StringIO):
    """A terminal of unknown size that remembers what it was sent."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def take(self) -> str:
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        return text


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> _Screen:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "6")
    return _Screen()


def _event(name: str, completed: int, total: int = 4 * _GB) -> dict[str, object]:
    return {"status": "downloading", "file": name, "total": total, "completed": completed}


def test_which_kind(screen: _Screen) -> None:
    assert isinstance(pull_progress(screen), Bars)
    assert isinstance(pull_progress(io.StringIO()), Lines)


def test_a_bar_shows_amount_speed_and_time_left(screen: _Screen, clock: _Clock) -> None:
    bars = Bars(screen, clock)
    bars.show(_event("a.safetensors", 0))
    clock.now_s += 2
    screen.take()
    bars.show(_event("a.safetensors", _GB))
    shown = screen.take()
    assert shown.startswith("\x1b[1A\r")
    assert "a.safetensors               25% ▕██      ▏ 1 GB/4 GB         500 MB/s   6s\x1b[K\n" in shown


def test_the_speed_is_that_of_the_last_seconds(screen: _Screen, clock: _Clock) -> None:
    bars = Bars(screen, clock)
    for second in range(20):  # fast at first, then slow
        clock.now_s += 1
        bars.show(_event("a", (min(second, 5) * 100 + second) * 10**6))
    assert " 1 MB/s " in screen.take().rpartition("\r")[2]


def test_redrawing_is_rationed(screen: _Screen, clock: _Clock) -> None:
    bars = Bars(screen, clock)
    for step in range(1000):
        clock.now_s += 0.001
        bars.show(_event("a", step * 1000))
    assert screen.take().count("\r") <= 11


def test_what_is_done_stays_above(screen: _Screen, clock: _Clock) -> None:
    bars = Bars(screen, clock)
    bars.show({"status": "pulling manifest", "digest": ""})
    bars.show(_event("a", 1))
    bars.show(_event("b", 4 * _GB))
    clock.now_s += 1
    bars.show(_event("a", 4 * _GB))
    bars.show(_event("a", 4 * _GB))
    bars.show({"status": "success"})
    bars.close()
    shown = screen.take()
    assert shown.count("100%") == 2
    assert shown.index("pulling manifest") < shown.index("b  ") < shown.rindex("a  ") < shown.index("success")


def test_no_more_bars_than_the_screen_has_lines(screen: _Screen, clock: _Clock) -> None:
    bars = Bars(screen, clock)
    for index in range(20):
        clock.now_s += 1
        bars.show(_event(f"part-{index}", 1))
    last = screen.take().rpartition("A\r")[2]
    assert last.count("\n") == 4


def _of_several(name: str, completed: int, overall: int) -> dict[str, object]:
    return _event(name, completed) | {"overall_total": 10 * _GB, "overall_completed": overall}


def test_all_files_have_a_line_below(screen: _Screen, clock: _Clock) -> None:
    bars = Bars(screen, clock)
    for second in range(1, 4):
        clock.now_s += 1
        bars.show(_of_several("a", second * _GB // 2, second * _GB))
        bars.show(_of_several("b", second * _GB // 2, second * _GB))
    clock.now_s += 1
    bars.show(_of_several("a", 2 * _GB, 4 * _GB))
    above, below = screen.take().rpartition("\r")[2].split("\x1b[K\n")[-3:-1]
    assert above.startswith("b ")
    assert below.startswith("all files ")
    assert below.endswith("40% ▕███     ▏ 4 GB/10 GB        1 GB/s   6s")
    bars.show(_of_several("a", 4 * _GB, 8 * _GB))
    bars.show(_of_several("b", 4 * _GB, 10 * _GB))
    bars.show({"status": "success"})
    assert "all files" not in screen.take().rpartition("\r")[2]


def test_one_file_has_no_line_for_all(screen: _Screen, clock: _Clock) -> None:
    bars = Bars(screen, clock)
    bars.show(_event("a", _GB) | {"overall_total": 4 * _GB, "overall_completed": _GB})
    bars.close()
    assert "all files" not in screen.take()


def test_the_line_for_all_takes_one_of_the_screen(screen: _Screen, clock: _Clock) -> None:
    bars = Bars(screen, clock)
    for index in range(20):
        clock.now_s += 1
        bars.show(_of_several(f"part-{index}", 1, index + 1))
    last = screen.take().rpartition("A\r")[2]
    assert last.count("\n") == 4
    assert last.count("part-") == 3


def test_what_is_fetched_again_has_a_bar_again(screen: _Screen, clock: _Clock) -> None:
    bars = Bars(screen, clock)
    bars.show(_event("a", 4 * _GB))
    screen.take()
    clock.now_s += 1
    bars.show(_event("a", _GB))
    assert " 25% " in screen.take()


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (20, "part 1/2      25%"),
        (40, "part 1/2      25%   500 MB/s   6s"),
        (60, "part 1/2      25% 1 GB/4 GB         500 MB/s   6s"),
        (80, "model-00001-of-00002        25% ▕██      ▏ 1 GB/4 GB         500 MB/s   6s"),
        (200, f"{'model-00001-of-00002.safetensors':<36}  25% ▕{'██████':<24}▏ 1 GB/4 GB         500 MB/s   6s"),
    ],
)
def test_what_has_room(
    screen: _Screen, clock: _Clock, monkeypatch: pytest.MonkeyPatch, columns: int, line: str
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    bars = Bars(screen, clock)
    bars.show(_event("model-00001-of-00002.safetensors", 0))
    clock.now_s += 2
    screen.take()
    bars.show(_event("model-00001-of-00002.safetensors", _GB))
    assert screen.take().rpartition("\r")[2] == f"{line}\x1b[K\n\x1b[J"


def test_no_line_is_as_wide_as_the_terminal(screen: _Screen, clock: _Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in range(2, 260):
        monkeypatch.setenv("COLUMNS", str(columns))
        bars = Bars(screen, clock)
        for completed in (0, 9_000_000, 999_000_000_000):
            bars.show(_event("x" * 80, completed, 999_000_000_000))
            clock.now_s += 1
        lines = re.sub(r"\x1b\[[0-9]*[A-Z]", "", screen.take()).replace("\r", "").split("\n")
        assert max(map(len, lines)) < columns


@pytest.mark.parametrize(
    ("name", "cells", "shown"),
    [
        ("config.json", 12, "config.json"),
        ("model.safetensors", 12, "model"),
        ("model-00001-of-00002.safetensors", 20, "model-00001-of-00002"),
        ("model-00001-of-00163.safetensors", 19, "part 1/163"),
        ("model-00101-of-00163.safetensors", 12, "part 101/163"),
        ("1_Pooling/config_of_something.json", 20, "1_Pooling/co..g.json"),
    ],
)
def test_long_names_are_shortened(name: str, cells: int, shown: str) -> None:
    assert shortened(name, cells) == shown


def test_a_file_of_unknown_size_and_hostile_names(screen: _Screen, clock: _Clock) -> None:
    bars = Bars(screen, clock)
    bars.show({"status": "downloading", "path": "/cache/x/con\x1b[2Jfig.json"})
    assert "con[2Jfig.json" in screen.take()


def test_lines_say_how_far_it_is_now_and_then(clock: _Clock) -> None:
    stream = io.StringIO()
    lines = Lines(stream, clock)
    for second in range(25):
        clock.now_s += 1
        lines.show(_event("a", second * 10**8))
    lines.show(_event("a", 4 * _GB))
    lines.close()
    assert stream.getvalue().splitlines() == [
        "downloading a 0 B/4 GB",
        "downloading a 1 GB/4 GB   100 MB/s   30s",
        "downloading a 2 GB/4 GB   100 MB/s   20s",
        "downloaded a (4 GB)",
    ]


def test_lines_speak_of_all_files_where_there_are_several(clock: _Clock) -> None:
    stream = io.StringIO()
    lines = Lines(stream, clock)
    for second in range(1, 13):
        clock.now_s += 1
        lines.show(_of_several("a", second * _GB // 4, second * _GB // 2))
        lines.show(_of_several("b", second * _GB // 4, second * _GB // 2))
    lines.show(_of_several("a", 4 * _GB, 8 * _GB))
    assert stream.getvalue().splitlines() == [
        "downloading 500 MB/10 GB",
        "downloading 5.5 GB/10 GB   500 MB/s   9s",
        "downloaded a (4 GB)",
    ]


def _slow_pull(server: StubServer) -> threading.Event:
    """A pull that gets on until the event is set, and to its end then."""
    may_end = threading.Event()
    server.pull_events = [{"status": "pulling manifest"}, _event("model.safetensors", _GB) | {"until": may_end}]
    server.pull_events += [_event("model.safetensors", 4 * _GB), {"status": "success"}]
    return may_end


@pytest.mark.parametrize(
    ("columns", "done"),
    [(40, "model        100%"), (80, "100% ▕████████▏ 4 GB"), (200, "100% ▕████████████████████████▏ 4 GB")],
)
def test_a_pull_on_a_terminal(environ: dict[str, str], server: StubServer, columns: int, done: str) -> None:
    may_end = _slow_pull(server)
    with TerminalSession([*MODULE, "pull", "org/name"], environ, columns=columns) as session:
        session.expect("pulling manifest")
        session.expect("model")
        session.expect("B/s")
        may_end.set()
        assert session.finish() == 0
    assert session.text.rstrip().endswith("success")
    assert done in session.text
    assert max(len(line.rpartition("\r")[2]) for line in session.text.split("\n")) < columns


def test_an_interrupted_pull_says_how_to_go_on(environ: dict[str, str], server: StubServer) -> None:
    _slow_pull(server)
    with TerminalSession([*MODULE, "pull", "org/name"], environ) as session:
        session.expect("model.safetensors")
        session.send(CTRL_C)
        assert session.finish() == 130
    assert "Traceback" not in session.raw
    assert session.text.endswith("interrupted; what has arrived is kept, and another pull goes on from there\n")
