"""kill -9 of any process while sixty-four clients stream, again and again, at any moment."""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator

import psutil  # type: ignore[import-untyped]
import pytest

from tests.bar import Note, times
from tests.process.servers import Server, Stream, engine_pids, is_alive, serve, wait_until

pytestmark = pytest.mark.slow

STREAMS = 64
# engines that die again and again are started with a pause of up to five seconds in between
RECOVERY_S = 8.0
KILLS = {"engine": times(3, 200), "supervisor": times(3, 50), "worker": times(3, 100)}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


def victim_of(server: Server, kind: str) -> int:
    if kind == "worker":
        return random.choice(server.workers())
    if kind == "engine":
        return int(server.status()["pid"])
    # not by the engine's parent: one whose supervisor has just died has another one, which is none of ours
    (supervisor,) = [pid for pid in engine_pids(server) if "hugging_llama.client.supervisor" in cmdline(pid)]
    return supervisor


def cmdline(pid: int) -> list[str]:
    try:
        return list(psutil.Process(pid).cmdline())
    except psutil.NoSuchProcess:
        return []


def end_of(client: Stream) -> str:
    """How a stream ended: the reason or the code of its last line, or "cut"."""
    try:
        answer = client.read_to_end_or_last_chunk()
    except ConnectionResetError:  # of a killed worker that had not read all
        answer = b""
    client.leave()
    if not answer.endswith(b"\r\n0\r\n\r\n"):
        return "cut"
    last = json.loads(answer.split(b"\r\n")[-4])
    return str(last.get("done_reason") or last["code"])


def kill_once(server: Server, kind: str, rng: random.Random) -> tuple[list[str], float]:
    """The ends of all streams, and the seconds until a request that came after the kill was served. No stream goes on
    for longer than a few hundred milliseconds by itself."""
    clients = [
        server.open(f"/gen?n=20&tick_ms={rng.randint(5, 20)}&size={rng.randint(1, 200)}") for _ in range(STREAMS)
    ]
    ends: list[str] = []
    readers = [threading.Thread(target=lambda client=client: ends.append(end_of(client))) for client in clients]
    for reader in readers:
        reader.start()
    time.sleep(rng.uniform(0, 0.3))  # the moment is what varies
    engine = int(server.status()["pid"])
    os.kill(victim_of(server, kind), signal.SIGKILL)

    def is_served() -> bool:
        # not by an engine that is about to end with its supervisor
        is_over = kind == "worker" or not is_alive(engine)
        return is_over and server.get("/gen?n=1").endswith(b'"stop"}\n')

    recovery_s = wait_until(is_served, 30)
    for reader in readers:
        reader.join(30)
    assert not any(reader.is_alive() for reader in readers)
    return ends, recovery_s


def check_nothing_is_left(server: Server, descriptors: int) -> None:
    wait_until(lambda: server.status()["num_running"] == 0)
    wait_until(lambda: len(engine_pids(server)) in (2, 3))  # with one that stands by
    wait_until(lambda: len(server.workers()) == 2)
    workers = [psutil.Process(pid) for pid in server.workers()]
    wait_until(lambda: all(worker.num_fds() <= descriptors for worker in workers))


@pytest.mark.parametrize("kind", KILLS)
def test_every_stream_ends_and_the_next_request_is_served(server: Server, kind: str, note: Note) -> None:
    rng = random.Random(kind)
    # what a worker holds that serves nobody, with the connections of these questions and a few to spare
    descriptors = max(psutil.Process(pid).num_fds() for pid in server.workers()) + 6
    allowed = {"stop", "cut"} if kind == "worker" else {"stop", "engine_died"}
    worst_s, seen = 0.0, []
    for _ in range(KILLS[kind]):
        ends, recovery_s = kill_once(server, kind, rng)
        assert len(ends) == STREAMS
        assert set(ends) <= allowed
        seen += ends
        worst_s = max(worst_s, recovery_s)
        check_nothing_is_left(server, descriptors)
    lost = sum(end not in allowed for end in seen)
    note(f"kill -9 {kind}", KILLS[kind], lost, worst_s, f"{len(seen)} streams, {seen.count('stop')} whole")
    assert worst_s < RECOVERY_S
