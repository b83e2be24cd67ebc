"""Bytes to a server, and what comes back: for requests that no client library would send."""

import contextlib
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.live_server import LiveServer

ANSWER_TIMEOUT_S = 60.0  # a hang, even on a busy machine


@contextmanager
def connected(server: LiveServer) -> Iterator[socket.socket]:
    """A connection of one's own."""
    port = urlsplit(server.url).port
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_TIMEOUT_S) as sock:
        yield sock


def sent(server: LiveServer, data: bytes) -> list[int]:
    """The statuses of all answers to `data`, until the server closes the connection."""
    return statuses(answer_to(server, data))


def answer_to(server: LiveServer, data: bytes) -> bytes:
    """All that comes for `data` until the server closes the connection."""
    with connected(server) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(data)
        return read_to_end(sock)


def read_to_end(sock: socket.socket) -> bytes:
    """What comes until the connection ends, in whichever way."""
    seen = bytearray()
    with contextlib.suppress(ConnectionError):
        while data := sock.recv(65536):
            seen += data
    return bytes(seen)


def statuses(answers: bytes) -> list[int]:
    """The status of each answer."""
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answers)]
