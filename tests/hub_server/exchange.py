"""One request and its reply, with whatever fault it meets on the way."""

import contextlib
import http.server
import json
import re
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

from tests.hub_server.repository import GOOD_TOKEN, Account, Repo

if TYPE_CHECKING:
    from tests.hub_server.hub import Fault, Seen, StandInHub

_CHUNK = 2**16
_FOR_EVER_S = 600.0


class ConnectionLostError(ConnectionError):
    """A fault has ended the connection; there is nobody to reply to."""


class Exchange(http.server.BaseHTTPRequestHandler):
    """Reads bodies and sends replies; which, say those who inherit."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hub: "StandInHub"
    record: "Seen"
    fault: "Fault | None"
    body_left: int

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            super().handle()

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    @property
    def mode(self) -> str:
        return self.fault.mode if self.fault else ""

    @property
    def amount(self) -> Any:
        return self.fault.arg if self.fault else None

    def read_body(self) -> bytes:
        """The request's body, whole unless a fault ends the connection first."""
        body = bytearray()
        while self.body_left:
            if self.mode in ("cut_upload", "stall_upload") and self.record.received >= self.amount:
                if self.mode == "stall_upload":
                    self.hub.stopping.wait(_FOR_EVER_S)
                self.lose_connection()
            if self.mode == "held_upload":
                self.amount.wait_for(self.record.received + 1, self.hub.stopping)
            chunk = self.rfile.read1(min(_CHUNK, self.body_left))
            if not chunk:
                raise ConnectionLostError
            if self.mode == "slow_upload":
                time.sleep(len(chunk) / self.amount)
            body += chunk
            self.body_left -= len(chunk)
            self.record.received += len(chunk)
        return bytes(body)

    def read_json(self) -> dict[str, Any]:
        value = json.loads(self.read_body() or b"{}")
        assert isinstance(value, dict)
        return value

    def hang_up(self) -> None:
        """End the connection in order, in the middle of things."""
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def lose_connection(self) -> None:
        """End the connection by a reset, as a machine that goes away does."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # `finish` would write to it, and the files hold it open
        self.wfile.close()
        self.rfile.close()
        self.connection.close()
        raise ConnectionLostError

    def repo(self, name: str) -> Repo | None:
        """The repository, or None after a refusal was sent."""
        found = self.hub.find(name)
        if self.token in self.hub.bad_tokens:
            self.refuse(401, "", "Invalid credentials in Authorization header")
        elif not found or (found[1].access == "private" and self.token != GOOD_TOKEN):
            self.refuse(404 if self.token else 401, "RepoNotFound", "Repository not found")
        elif found[1].access == "gated" and self.token != GOOD_TOKEN:
            self.refuse(403 if self.token else 401, "GatedRepo", f"Access to model {name} is restricted")
        else:
            return found[1]
        return None

    def account(self) -> Account | None:
        """Who asks, or None after a refusal was sent."""
        found = self.hub.accounts.get(self.token)
        if not found:
            self.refuse(401, "", "Invalid credentials in Authorization header")
        return found

    def json(self, value: Any, headers: dict[str, str] | None = None, status: int = 200) -> None:
        self.reply(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.reply(status, json.dumps({"error": message}).encode(), headers)

    def content(self, data: bytes, headers: dict[str, str]) -> None:
        """A file, or the range of it that is asked for."""
        start, end, status = 0, len(data) - 1, 200
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match and self.mode != "no_range":
            start, status = int(match[1]), 206
            end = min(end, int(match[2])) if match[2] else end
            if start >= len(data):
                return self.reply(416, b"")
            headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
        return self.reply(status, data[start : end + 1], {"Accept-Ranges": "bytes", **headers})

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        if self.mode == "lost_reply":
            self.lose_connection()
        if self.mode == "extra":
            body += b"x" * _CHUNK
        if self.body_left:  # what nobody has read would be taken for the next request
            self.close_connection = True
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.send_body(body)

    def send_body(self, body: bytes) -> None:
        mode, arg = self.mode, self.amount
        for start in range(0, len(body), _CHUNK):
            chunk = body[start : start + _CHUNK]
            if mode == "corrupt":
                chunk = bytes([chunk[0] ^ 255]) + chunk[1:]
            if mode in ("cut", "stall") and self.record.sent + len(chunk) > arg:
                if mode == "stall":
                    self.hub.stopping.wait(_FOR_EVER_S)
                return self.hang_up()
            if mode == "held":
                arg.wait_for(self.record.sent + len(chunk), self.hub.stopping)
            if mode == "slow":
                time.sleep(len(chunk) / arg)
            self.record.sent += len(chunk)
            self.wfile.write(chunk)
