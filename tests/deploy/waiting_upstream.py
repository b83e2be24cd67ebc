"""A server that sends and reads when a test says so: what a proxy holds back shows without any clock."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

TIMEOUT_S = 60.0


@dataclass(slots=True)
class Upstream:
    """Listens; `accept` waits for the proxy."""

    listener: socket.socket

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    @contextmanager
    def accept(self) -> Iterator["Exchange"]:
        """The next connection, closed with the block."""
        sock, _ = self.listener.accept()
        with sock:
            sock.settimeout(TIMEOUT_S)
            yield Exchange(sock)


@dataclass(slots=True)
class Exchange:
    """One request on one connection."""

    sock: socket.socket
    seen: bytes = b""

    def read_until(self, text: bytes) -> bytes:
        """All that has come, once `text` is part of it."""
        while text not in self.seen:
            data = self.sock.recv(65536)
            assert data, f"the connection ended after {self.seen[-500:]!r}"
            self.seen += data
        return self.seen

    def headers(self) -> dict[str, str]:
        """Those of the request, by names in lower case."""
        head, _, _ = self.read_until(b"\r\n\r\n").partition(b"\r\n\r\n")
        _, *lines = head.decode().split("\r\n")
        return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}

    def begin(self, body: bytes = b"{}") -> None:
        """A status line and headers of an answer in chunks, once the request with this body is there.

        nginx sends nothing more of a request that has been answered before.
        """
        self.read_until(b"\r\n\r\n" + body)
        self.sock.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
        )

    def chunk(self, content: bytes) -> None:
        """The next piece; an empty one is the end."""
        self.sock.sendall(f"{len(content):x}\r\n".encode() + content + b"\r\n")

    def is_closed(self) -> bool:
        """Waits until the proxy has hung up."""
        while self.sock.recv(65536):
            pass
        return True


@contextmanager
def waiting_upstream() -> Iterator[Upstream]:
    """Listens on a free port of 127.0.0.1 until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(TIMEOUT_S)
        yield Upstream(listener)
