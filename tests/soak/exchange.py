"""One request and what became of it."""

import contextlib
import http.client
import json
import random
import socket
import struct
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

REQUEST_TIMEOUT_S = 120.0


class End(Enum):
    """How a request may end. `CUT` needs a killed worker to explain it; `LOST` has no explanation."""

    ANSWER = "answers"
    TYPED_ERROR = "typed errors"
    LEFT = "clients that left"
    CUT = "cut by a killed worker"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`began_at` and `ended_at` are monotonic; `detail` is what a reader of the report wants to know."""

    kind: str
    end: End
    began_at: float
    ended_at: float
    detail: str = ""

    @property
    def seconds(self) -> float:
        return self.ended_at - self.began_at


@dataclass(frozen=True, slots=True)
class Ask:
    """A request. `last` are marks of which one must be in the last part of a stream; empty for answers in one piece.

    `leaves_after`: parts of the stream after which the client goes, None if it stays. `wants` are the statuses that
    count as an answer.
    """

    kind: str
    path: str
    body: Any = None
    method: str = "POST"
    last: tuple[bytes, ...] = ()
    leaves_after: int | None = None
    wants: tuple[int, ...] = (200,)
    headers: dict[str, str] = field(default_factory=dict)


def send(port: int, ask: Ask) -> Outcome:
    """Ask, read to the end, and say how it ended."""
    began_at = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_TIMEOUT_S)
    try:
        body = ask.body if ask.body is None or isinstance(ask.body, bytes) else json.dumps(ask.body).encode()
        headers = {"Content-Type": "application/json", "Connection": "close"} | ask.headers
        connection.request(ask.method, ask.path, body=body, headers=headers)
        response = connection.getresponse()
        end, detail = _read(connection, response, ask)
    except TimeoutError:
        end, detail = End.LOST, f"silent for {REQUEST_TIMEOUT_S:g} s"
    except (OSError, http.client.HTTPException) as error:
        # whether a kill explains it is for who knows the kills
        end, detail = End.CUT, f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return Outcome(ask.kind, end, began_at, time.monotonic(), detail)


def _read(connection: http.client.HTTPConnection, response: http.client.HTTPResponse, ask: Ask) -> tuple[End, str]:
    if ask.leaves_after is not None and response.status == 200:
        for _ in range(ask.leaves_after):
            if not response.readline():
                break
        _leave(response)
        return End.LEFT, ""
    content = response.read()
    if response.status not in ask.wants:
        is_typed = is_error(content)
        return (End.TYPED_ERROR if is_typed else End.LOST), f"{response.status} {content[:200]!r}"
    if not ask.last or response.status != 200:
        return End.ANSWER, ""
    tail = content[-4000:]
    if any(mark in tail for mark in ask.last):
        return End.ANSWER, ""
    lines = [line for line in content.splitlines() if line.strip()]
    if lines and is_error(lines[-1].removeprefix(b"data: ")):
        return End.TYPED_ERROR, lines[-1][:200].decode(errors="replace")
    return End.LOST, f"the stream ended with {content[-200:]!r}"


def _leave(response: http.client.HTTPResponse) -> None:
    """Without a word, or with a reset."""
    if random.random() < 0.5 and response.fp is not None:
        with contextlib.suppress(OSError, AttributeError):
            sock: socket.socket = response.fp.raw._sock  # type: ignore[attr-defined]
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def is_error(content: bytes) -> bool:
    """An error object of one of the three dialects, or an event that holds one."""
    try:
        found = json.loads(content)
    except ValueError:
        return False
    if not isinstance(found, dict):
        return False
    if found.get("type") in ("response.failed", "response.incomplete"):
        return True
    error = found.get("error")
    return (isinstance(error, str) and bool(error)) or (isinstance(error, dict) and bool(error.get("message")))
