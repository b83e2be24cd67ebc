"""What one connection sends without end takes its worker from nobody else, and ends where it is no body any more."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator

import pytest
import requests

from hugging_llama_config.gunicorn_body import MAX_CHUNK_LINE_BYTES, MAX_FRAMING_BYTES, MAX_HEAD_BYTES
from tests.live_server import LiveServer, live_server
from tests.security.conftest import COMMAND
from tests.security.raw import connected, read_to_end, sent, statuses
from tests.security.test_attacks import BETWEEN_US_BYTES

HOST = b"Host: localhost\r\n"
VERSION = b"GET /api/version HTTP/1.1\r\n" + HOST + b"\r\n"
LAST = b"GET /api/version HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
CHUNKED = HOST + b"Transfer-Encoding: chunked\r\n\r\n"
CHAT = b"POST /api/chat HTTP/1.1\r\n" + CHUNKED
UNREAD = b"POST /nowhere HTTP/1.1\r\n" + CHUNKED
TRAILERS = b"".join(b"X-%d: " % number + b"a" * 60_000 + b"\r\n" for number in range(3))


@pytest.fixture(scope="module")
def one_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("one")
    with live_server(folder, folder / "hub", COMMAND, hub_endpoint="http://127.0.0.1:9", workers="1") as running:
        yield running


def test_requests_without_end_leave_turns_to_others(one_worker: LiveServer) -> None:
    """All that a connection has sent was answered first: for a minute nobody else was, and then the worker killed."""
    has_begun = threading.Event()

    def read(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while sock.recv(2**20):
                has_begun.set()

    def send(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock.sendall(VERSION * 1000)

    with connected(one_worker) as sock:
        threads = [threading.Thread(target=work, args=(sock,)) for work in (read, send)]
        for thread in threads:
            thread.start()
        try:
            assert has_begun.wait(60)
            assert requests.get(f"{one_worker.url}/api/tags", timeout=30).ok
            assert all(thread.is_alive() for thread in threads), "the others were served when it was over"
        finally:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages", "/v2/rerank"])
def test_trailers_are_bounded_as_heads_are(server: LiveServer, path: str) -> None:
    """They have no end, and were looked through as a whole with each piece that came."""
    assert len(TRAILERS) > MAX_HEAD_BYTES
    with connected(server) as sock:
        sock.sendall(f"POST {path} HTTP/1.1\r\n".encode() + CHUNKED + b"2\r\n{}\r\n0\r\n")
        with contextlib.suppress(ConnectionError):
            sock.sendall(TRAILERS)
        head, _, body = read_to_end(sock).partition(b"\r\n\r\n")
    assert statuses(head) == [400]
    found = json.loads(body)
    error = found["error"]["message"] if path.startswith("/v") else found["error"]
    assert ("max buffer trailers" in error, found.get("type")) == (True, "error" if "messages" in path else None)


def test_trailers_that_nobody_reads_are_bounded_too(server: LiveServer) -> None:
    """The request has its answer, and what follows on the connection none."""
    assert sent(server, UNREAD + b"0\r\nX-A: 1\r\n\r\n" + LAST) == [404, 200]
    assert sent(server, UNREAD + b"0\r\n" + TRAILERS + b"\r\n" + LAST) == [404]


TINY = b"1\r\n \r\n"
LONG_LINE = b"1;a=" + b"a" * MAX_CHUNK_LINE_BYTES + b"\r\n \r\n"
LONG_LINES = b"1;a=" + b"a" * (MAX_CHUNK_LINE_BYTES - 4) + b"\r\n \r\n"


@pytest.mark.parametrize(("head", "status"), [(CHAT, 400), (UNREAD, 404)])
@pytest.mark.parametrize("chunk", [TINY, LONG_LINE, LONG_LINES])
def test_what_is_hardly_a_body_is_refused(server: LiveServer, head: bytes, status: int, chunk: bytes) -> None:
    """Limits counted what is body, which was a sixth of it, or next to nothing."""
    piece = chunk * (60_000 // len(chunk))
    taken = 0
    with connected(server) as sock:
        sock.sendall(head)
        with contextlib.suppress(ConnectionError):
            while taken < 4 * BETWEEN_US_BYTES:
                taken += sock.send(piece)
        found = statuses(read_to_end(sock))
    # of a connection that is closed with something unread the answer may be lost
    assert found in ([status], [])
    # a byte of body may have two around it, and these have five
    assert taken < 6 * MAX_FRAMING_BYTES // 3 + BETWEEN_US_BYTES


def test_a_body_of_tiny_chunks_is_taken(server: LiveServer) -> None:
    """Clients that write JSON value by value send such ones."""
    body = json.dumps({"model": "x", "filler": ["x"] * 10_000}).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    (status,) = sent(server, b"POST /api/show HTTP/1.1\r\nConnection: close\r\n" + CHUNKED + chunks + b"0\r\n\r\n")
    assert status == 404
