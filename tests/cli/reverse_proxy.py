"""A reverse proxy over real sockets that passes answers on as they come, or holds them back as badly set-up ones do."""

import http.client
import http.server
import sys
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar
from urllib.parse import urlsplit

_HOP_BY_HOP = ("connection", "transfer-encoding", "content-length", "keep-alive", "server", "date")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """`block_bytes`: so much is collected before any of it goes on, 0 for nothing; None for the whole answer.
    `closes_on`: a name to which the answer is a closed connection."""

    block_bytes: int | None = 0
    rewrites_host: bool = True
    max_body_bytes: int = 2**30
    closes_on: str = ""


class ReverseProxy:
    """Use as a context manager; `url` is where it listens."""

    def __init__(self, target: str, manners: Manners) -> None:
        class Request(_Request):
            upstream = urlsplit(target).netloc

        Request.manners = manners
        self._server = _Server(("127.0.0.1", 0), Request)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> "ReverseProxy":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller who leaves, at whatever moment, is no error."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Request(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "test-proxy"
    sys_version = ""
    upstream: ClassVar[str]
    manners: ClassVar[Manners]

    def do_GET(self) -> None:
        self._forward()

    def do_POST(self) -> None:
        self._forward()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""

    def _forward(self) -> None:
        if self.headers["Host"] == self.manners.closes_on:
            self.close_connection = True
            return
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if length > self.manners.max_body_bytes:
            self.send_response(413)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        if self.manners.rewrites_host:
            headers["Host"] = self.upstream
        connection = http.client.HTTPConnection(self.upstream, timeout=120)
        try:
            connection.request(self.command, self.path, body, headers)
            self._answer(connection.getresponse())
        except OSError:  # the caller has left
            self.close_connection = True
        finally:
            connection.close()

    def _answer(self, answer: http.client.HTTPResponse) -> None:
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        held = b""
        size = self.manners.block_bytes
        while data := answer.read1(65536):
            held += data
            if size is not None and len(held) >= size:
                self._send(held)
                held = b""
        if held:
            self._send(held)
        self.wfile.write(b"0\r\n\r\n")

    def _send(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
