"""Slow clients (section 6e): a place in a worker is not to be had for a byte now and then."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import requests

from tests.live_server import LiveServer
from tests.security.conftest import BODY_TIMEOUT_S
from tests.security.raw import ANSWER_TIMEOUT_S, connected, read_to_end, statuses

pytestmark = pytest.mark.slow

PIECE_BYTES = 2**16
LENGTH = b"Content-Length: 60000\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
FORM = b"Content-Type: multipart/form-data; boundary=x\r\n"
JSON_PATHS = (b"/api/show", b"/api/chat", b"/v1/chat/completions", b"/v1/messages")


@dataclass(frozen=True)
class Slow:
    """Sends `begun` at once and then `drop` again and again; the answers that it gets by then."""

    begun: bytes
    drop: bytes
    answers: tuple[int, ...]

    def run(self, server: LiveServer) -> list[int]:
        with connected(server) as sock:
            sock.sendall(self.begun)
            sock.settimeout(0.1)
            seen = bytearray()
            deadline = time.monotonic() + ANSWER_TIMEOUT_S
            while time.monotonic() < deadline:
                try:
                    sock.send(self.drop)
                    if not (data := sock.recv(4096)):
                        return statuses(bytes(seen))
                    seen += data
                except TimeoutError:
                    continue
                except ConnectionError:
                    return statuses(bytes(seen))
        raise AssertionError("the server waits for as long as something comes")


def _request(line: bytes, *headers: bytes) -> bytes:
    return line + b" HTTP/1.1\r\nHost: localhost\r\n" + b"".join(headers)


def _bodies() -> Iterator[Slow]:
    for path in JSON_PATHS:
        yield Slow(_request(b"POST " + path, LENGTH, b"\r\n"), b" ", (408,))
        yield Slow(_request(b"POST " + path, CHUNKED, b"\r\n"), b"1\r\n \r\n", (408,))


CLIENTS = {
    "nothing": Slow(b"", b"", ()),
    "half a line": Slow(b"PO", b"O", ()),
    "headers": Slow(_request(b"POST /api/show"), b"X-A: b\r\n", ()),
    "a body that nobody reads": Slow(_request(b"GET /api/version", LENGTH, b"\r\n"), b" ", (200,)),
    "an upload": Slow(_request(b"POST /api/blobs/sha256:" + b"0" * 64, LENGTH, b"\r\n"), b" ", (408,)),
    "an upload in chunks": Slow(
        _request(b"POST /api/blobs/sha256:" + b"0" * 64, CHUNKED, b"\r\n"), b"1\r\n \r\n", (408,)
    ),
    "a recording": Slow(_request(b"POST /v1/audio/transcriptions", LENGTH, FORM, b"\r\n"), b" ", (408,)),
    **{f"body {number}": body for number, body in enumerate(_bodies())},
}


def test_nobody_can_be_slow_for_ever(server: LiveServer) -> None:
    """Whichever part is slow: the connection ends, and a request that was whole or nearly so is answered."""
    with ThreadPoolExecutor(len(CLIENTS)) as pool:
        found = dict(zip(CLIENTS, pool.map(lambda client: client.run(server), CLIENTS.values()), strict=True))
    assert found == {name: list(client.answers) for name, client in CLIENTS.items()}


def test_who_is_steady_may_take_longer(server: LiveServer) -> None:
    """The time is for a piece, not for the whole."""

    def slowly() -> Iterator[bytes]:
        yield json.dumps({"model": "nobody"}).encode()
        for _ in range(12):
            time.sleep(BODY_TIMEOUT_S / 6)  # not a wait for something: how slow the client is
            yield b" " * PIECE_BYTES

    assert requests.post(f"{server.url}/api/chat", data=slowly(), timeout=ANSWER_TIMEOUT_S).status_code == 404


def test_others_are_served_meanwhile(server: LiveServer) -> None:
    port = int(server.url.rpartition(":")[2])
    begun = _request(b"POST /api/show", LENGTH, b"\r\n")
    socks = [socket.create_connection(("127.0.0.1", port), timeout=ANSWER_TIMEOUT_S) for _ in range(300)]
    try:
        for sock in socks:
            sock.sendall(begun)
        assert requests.get(f"{server.url}/api/version", timeout=ANSWER_TIMEOUT_S).ok
        assert {tuple(statuses(read_to_end(sock))) for sock in socks} == {(408,)}
    finally:
        for sock in socks:
            sock.close()
