"""Rows of docs/reliability.md with very many clients at once, over the whole application and the scripted engine."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil  # type: ignore[import-untyped]
import pytest
import requests

from tests.bar import WHOLE, Note, percentile, times
from tests.live_server import LiveServer, live_server
from tests.process.crowd import Crowd, running
from tests.process.servers import HERE, wait_until

pytestmark = pytest.mark.slow

GUNICORN = [sys.executable, "-m", "gunicorn", "-c", str(HERE / "scripted_gunicorn.py"), "hugging_llama:create_app()"]
STREAMS = times(300, 1000)
LEAVERS = times(150, 2000)
SLOW = times(40, 200)
IDLE = times(500, 2000)
STREAM_P99_S = 0.1
IDLE_P99_S = 0.05
GAP_P99_S = 0.1
NOT_MEASURED_S = 10.0
"""The bound where others use the machine, too: a hang is longer."""
# of each stream that does not read: the queue between engine and worker and what the kernel buffers
STALLED_BYTES = 2**20
MORE_DESCRIPTORS = 32
"""What workers open with their first requests and keep, and the questions of these tests."""


def bound(seconds: float) -> float:
    return seconds if WHOLE else NOT_MEASURED_S


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("crowds")
    with live_server(folder, folder / "hub", GUNICORN, max_queue="5000") as running:
        yield running


def port_of(server: LiveServer) -> int:
    return int(server.url.rpartition(":")[2])


def workers(server: LiveServer) -> list[psutil.Process]:
    return list(psutil.Process(server.process.pid).children())


@contextmanager
def polled(server: LiveServer, path: str) -> Iterator[list[float]]:
    """How long each answer took, one after the other, each on a connection of its own, while the block runs."""
    seconds: list[float] = []
    stopping = threading.Event()

    def poll() -> None:
        while not stopping.wait(0.01):
            started_at = time.monotonic()
            assert requests.get(server.url + path, timeout=60).ok
            seconds.append(time.monotonic() - started_at)

    poller = threading.Thread(target=poll)
    poller.start()
    try:
        yield seconds
    finally:
        stopping.set()
        poller.join()


def test_a_thousand_streams_of_two_workers_beside_health(server: LiveServer, note: Note) -> None:
    """Ten tokens a second each. Every line of every stream arrives, and who looks at /health waits for nobody."""
    tokens = 100
    crowd = Crowd(port_of(server), "streams", STREAMS, f"n={tokens}&tick_ms=100&prefill_ms=5000")
    with running(crowd) as clients:
        wait_until(lambda: server.figure("running") == STREAMS, 60)
        held = [len(worker.net_connections("tcp")) for worker in workers(server)]
        with polled(server, "/health") as seconds:
            seen = clients.end()
    assert len(held) == 2
    assert min(held) > STREAMS / 10
    assert (seen.whole, seen.lines) == (STREAMS, STREAMS * (tokens + 1))
    p99_s = percentile(seconds, 0.99)
    more = f"/health p50 {percentile(seconds, 0.5) * 1000:.1f}, p99 {p99_s * 1000:.1f} ms of {len(seconds)}; "
    more += f"gap p99 {seen.gap_p99_s * 1000:.0f} ms (100 is a token); of two workers {held}"
    note("streams", STREAMS, STREAMS - seen.whole, more=more)
    assert p99_s < bound(STREAM_P99_S)
    wait_until(lambda: server.figure("running") == 0)


def test_streams_of_one_worker(server: LiveServer, note: Note, tmp_path: object) -> None:
    """Twenty tokens a second each: no line is lost, and none is late by more than a tenth of a second."""
    # the module's server has two
    folder = server.log.parent / "one"
    folder.mkdir()
    tokens = 100
    with live_server(folder, folder / "hub", GUNICORN, workers="1", max_queue="5000") as single:
        crowd = Crowd(port_of(single), "streams", STREAMS, f"n={tokens}&tick_ms=50&prefill_ms=5000")
        with running(crowd) as clients:
            seen = clients.end()
    assert (seen.whole, seen.lines) == (STREAMS, STREAMS * (tokens + 1))
    late_s = seen.gap_p99_s
    note("streams of one worker", STREAMS, more=f"gap p50 {seen.gap_p50_s * 1000:.0f}, p99 {late_s * 1000:.0f} ms")
    assert late_s < bound(GAP_P99_S)


def test_idle_connections(server: LiveServer, note: Note) -> None:
    """They get what a request's head gets, and cost the others nothing."""
    before = sum(worker.num_fds() for worker in workers(server))
    crowd = Crowd(port_of(server), "streams", IDLE, "n=1&prefill_ms=600000")
    with running(crowd):
        wait_until(lambda: sum(worker.num_fds() for worker in workers(server)) >= before + IDLE, 60)
        with polled(server, "/api/version") as seconds:
            wait_until(lambda: len(seconds) > times(100, 1000), 120)
    p99_s = percentile(seconds, 0.99)
    note("idle connections", IDLE, more=f"/api/version p99 {p99_s * 1000:.1f} ms of {len(seconds)}")
    assert p99_s < bound(IDLE_P99_S)
    wait_until(lambda: server.figure("running") == 0, 120)
    wait_until(lambda: sum(worker.num_fds() for worker in workers(server)) <= before + MORE_DESCRIPTORS, 120)


def test_clients_that_leave_at_any_moment(server: LiveServer, note: Note) -> None:
    """In the middle of a body, before the first token, between two: all work for them stops."""
    before = [worker.num_fds() for worker in workers(server)]
    crowd = Crowd(port_of(server), "leavers", LEAVERS, "n=1000&tick_ms=200")
    with running(crowd) as clients:
        seen = clients.end()
    stopped_s = wait_until(lambda: server.figure("running") == 0, 120)
    assert seen.whole == len(range(2, LEAVERS, 3)), "those who left between two tokens had had one"
    note("client leaves", LEAVERS, worst_s=stopped_s, more="until nothing ran for any of them")
    assert stopped_s < bound(1.0)
    wait_until(lambda: all(worker.num_fds() <= max(before) + MORE_DESCRIPTORS for worker in workers(server)), 120)


def test_slow_readers(server: LiveServer, note: Note) -> None:
    """A byte a second of a kilobyte of text twenty times a second: the others' streams stay as they are, and nothing
    piles up for the slow ones."""
    fast = Crowd(port_of(server), "streams", 32, "n=200&tick_ms=20")
    with running(fast) as clients:
        alone = clients.end()
    rss = sum(worker.memory_info().rss for worker in workers(server))
    with running(Crowd(port_of(server), "slow", SLOW, "n=1000000&size=1000&tick_ms=50", seconds=60)):
        with running(fast) as clients:
            beside = clients.end()
        grown = sum(worker.memory_info().rss for worker in workers(server)) - rss
    assert alone.whole == beside.whole == 32
    assert grown < SLOW * STALLED_BYTES
    more = f"gap p99 of 32 others {alone.gap_p99_s * 1000:.0f} ms alone, {beside.gap_p99_s * 1000:.0f} ms beside them; "
    note("slow readers", SLOW, 32 - beside.whole, more=more + f"{grown / 2**20 / SLOW:.2f} MiB each")
    assert beside.gap_p99_s < (2 * alone.gap_p99_s if WHOLE else NOT_MEASURED_S)
    wait_until(lambda: server.figure("running") == 0, 120)
