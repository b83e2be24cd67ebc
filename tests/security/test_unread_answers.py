"""Clients that ask for much and read nothing: a place in a worker is not to be had for that."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import psutil  # type: ignore[import-untyped]
import pytest
import requests

from tests.live_server import LiveServer, live_server
from tests.process.servers import wait_until
from tests.security.conftest import COMMAND
from tests.security.raw import ANSWER_TIMEOUT_S, read_to_end, statuses

pytestmark = pytest.mark.slow

STALLED_S = 1.0
PLACES = 5
PAGES = 60
PAGE = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("unread")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_UNREAD_S", str(STALLED_S))
        with live_server(folder, folder / "hub", COMMAND, workers="1", worker_connections=str(PLACES)) as running:
            yield running


def asks_for_much(server: LiveServer) -> socket.socket:
    """With little room for the answers."""
    sock = socket.socket()
    sock.settimeout(ANSWER_TIMEOUT_S)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    sock.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
    sock.sendall(PAGE * PAGES + LAST)
    return sock


def served_ports(server: LiveServer) -> set[int]:
    """Of the clients whose connections the worker holds."""
    (worker,) = (p for p in psutil.Process(server.process.pid).children() if "gunicorn" in " ".join(p.cmdline()))
    return {connection.raddr.port for connection in worker.net_connections("tcp") if connection.raddr}


def test_who_reads_nothing_is_cut_off_and_others_are_served(server: LiveServer) -> None:
    with ExitStack() as stack:
        socks = [stack.enter_context(asks_for_much(server)) for _ in range(3 * PLACES)]
        ports = {sock.getsockname()[1] for sock in socks}
        wait_until(lambda: len(ports & served_ports(server)) == PLACES)
        assert requests.get(f"{server.url}/health", timeout=ANSWER_TIMEOUT_S).ok
        wait_until(lambda: not ports & served_ports(server))
        assert all(len(statuses(read_to_end(sock))) < PAGES for sock in socks)
    assert "Traceback" not in server.log.read_text()


def test_who_reads_slowly_gets_all(server: LiveServer) -> None:
    with asks_for_much(server) as sock:
        seen = bytearray()
        begun_at = time.monotonic()
        while time.monotonic() < begun_at + 6 * STALLED_S:
            seen += sock.recv(1000)
            time.sleep(0.05)  # not a wait for something: how slow the client is
        assert sock.getsockname()[1] in served_ports(server), "it was not too fast to be waited for"
        seen += read_to_end(sock)
    assert statuses(bytes(seen)) == [200] * (PAGES + 1)
