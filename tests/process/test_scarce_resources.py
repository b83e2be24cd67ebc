"""Descriptors that run out, a thousand connections that say nothing, a memory that is too small."""

import contextlib
import json
import os
import resource
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]
import pytest

from hugging_llama_config.launch import socket_path
from hugging_llama_config.settings import Settings
from tests.process.servers import Server, is_alive, serve, wait_until

pytestmark = pytest.mark.slow

IDLE = 1000
HEALTH_S = 1.0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


def connect(server: Server, number: int) -> list[socket.socket]:
    return [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(number)]


def close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def whole(server: Server, streams: int, path: str = "/gen?n=40&tick_ms=25") -> "Streams":
    return Streams(server, streams, path)


class Streams:
    """So many streams at once, read in threads."""

    def __init__(self, server: Server, number: int, path: str) -> None:
        self.ends: list[str] = []

        def read() -> None:
            client = server.open(path)
            answer = client.read_to_end_or_last_chunk()
            client.leave()
            self.ends.append(str(json.loads(answer.split(b"\r\n")[-4]).get("done_reason")))

        self._readers = [threading.Thread(target=read) for _ in range(number)]
        for reader in self._readers:
            reader.start()

    def join(self) -> list[str]:
        for reader in self._readers:
            reader.join(30)
        return self.ends


def test_workers_without_descriptors_serve_their_streams_and_then_everybody(server: Server, tmp_path: Path) -> None:
    workers = server.workers()
    may_end = tmp_path / "may end"
    streams = whole(server, 8, f"/gen?n=20&tick_ms=50&until={quote(str(may_end))}")
    wait_until(lambda: server.status()["num_running"] == 8)
    for pid in workers:
        soft = psutil.Process(pid).num_fds() + 4
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, 20000))
    crowd = connect(server, 60)
    wait_until(lambda: "connections can't be accepted: Too many open files" in server.log.read_text())
    close(crowd)
    wait_until(lambda: b"pid" in server.get("/health"), 30)
    may_end.touch()
    assert streams.join() == ["stop"] * 8
    for pid in workers:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (20000, 20000))
    assert server.workers() == workers
    assert server.get("/gen?n=1").endswith(b'"stop"}\n')
    log = server.log.read_text()
    assert len(log) < 1_000_000, "the log was flooded"
    assert "failed with OSError" not in log, "a traceback of gevent's"
    assert "connections can't be accepted: Too many open files" in log


def test_an_engine_without_descriptors_goes_on_and_floods_no_log(server: Server, tmp_path: Path) -> None:
    engine = int(server.status()["pid"])
    settings = Settings(run_dir=str(server.run_dir))
    may_end = tmp_path / "may end"
    streams = whole(server, 8, f"/gen?n=20&tick_ms=50&until={quote(str(may_end))}")
    wait_until(lambda: server.status()["num_running"] == 8)
    resource.prlimit(engine, resource.RLIMIT_NOFILE, (psutil.Process(engine).num_fds() + 2, 20000))
    with contextlib.ExitStack() as crowd:
        for _ in range(20):
            crowd.enter_context(socket.socket(socket.AF_UNIX)).connect(socket_path(settings))
        wait_until(lambda: "can't be accepted" in server.log.read_text())
        before_s = sum(psutil.Process(engine).cpu_times()[:2])
        may_end.touch()
        assert streams.join() == ["stop"] * 8
        spent_s = sum(psutil.Process(engine).cpu_times()[:2]) - before_s
    resource.prlimit(engine, resource.RLIMIT_NOFILE, (20000, 20000))
    with socket.socket(socket.AF_UNIX) as late:
        late.settimeout(10)
        late.connect(socket_path(settings))
        late.sendall(b"\xff\xff\xff\xff")
        assert late.recv(1000)
    assert server.status()["pid"] == engine
    assert server.log.read_text().count("can't be accepted") < 100, "the log was flooded"
    assert spent_s < 1.0, "it was busy with what it can't accept"


def test_a_thousand_silent_connections_beside_streams(server: Server) -> None:
    before = {pid: psutil.Process(pid).num_fds() for pid in server.workers()}
    crowd = connect(server, IDLE)
    wait_until(lambda: sum(psutil.Process(pid).num_fds() - fds for pid, fds in before.items()) >= IDLE)
    streams = whole(server, 32)
    slowest_s = max(wait_until(lambda: b"pid" in server.get("/health")) for _ in range(40))
    assert streams.join() == ["stop"] * 32
    assert slowest_s < HEALTH_S
    close(crowd)
    wait_until(lambda: all(psutil.Process(pid).num_fds() <= fds + 4 for pid, fds in before.items()))


def test_silent_connections_are_closed_and_slow_heads_too(server: Server) -> None:
    """Within the five seconds that gunicorn gives the head of a request, however little comes at a time."""
    silent, slow = connect(server, 50), connect(server, 50)
    head = iter(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 1000)
    closed: set[int] = set()
    started_at = time.monotonic()
    while len(closed) < 100 and time.monotonic() - started_at < 30:
        byte = bytes([next(head)])
        for number, sock in enumerate(silent + slow):
            if number not in closed and is_closed(sock, byte if number >= 50 else b""):
                closed.add(number)
        time.sleep(0.1)  # a slow client is one that waits
    assert len(closed) == 100
    close(silent + slow)
    assert b"pid" in server.get("/health")


def is_closed(sock: socket.socket, byte: bytes) -> bool:
    sock.setblocking(False)
    try:
        if byte:
            sock.send(byte)
        return sock.recv(4096) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_slow_bodies_hold_up_nobody_else() -> None:
    with serve(HUGGING_LLAMA_GRACEFUL_TIMEOUT_S="1") as server:
        crowd = connect(server, 100)
        for sock in crowd:
            sock.sendall(b"POST /gen HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nx")
        streams = whole(server, 16)
        slowest_s = max(wait_until(lambda: b"pid" in server.get("/health")) for _ in range(20))
        assert streams.join() == ["stop"] * 16
        assert slowest_s < HEALTH_S
        pids = server.pids()
        close(crowd)
    assert not any(is_alive(pid) for pid in pids)
    assert not os.path.exists(Path(tempfile.gettempdir(), server.run_dir))
