"""A time limit for the next piece of a request's body: a WSGI server waits for a silent client as long as it takes."""

import contextlib
import socket
import threading
from collections.abc import Mapping
from typing import Any

PIECE_BYTES = 2**16
"""The time limit is for so much of a body: a client that sends a byte now and then must not keep its place for ever."""
_SOCKET_KEYS = ("gunicorn.socket", "werkzeug.socket")


class BodyClock:
    """Stops a read inside the block after `seconds`: the socket reads as ended then, and can still be answered on.

    `connection` is what `socket_of` finds; without it there is no limit. A socket's own time-out would not do, as it
    begins anew with each byte.
    """

    def __init__(self, connection: Any, seconds: float) -> None:
        self.is_over = False
        self._connection = connection
        self._timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), self._end)
        self._timer.daemon = True

    def __enter__(self) -> "BodyClock":
        if self._connection is not None:
            self._timer.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._timer.cancel()

    def _end(self) -> None:
        self.is_over = True
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RD)


def socket_of(environ: Mapping[str, Any]) -> Any:
    """The client's connection, None where the server does not show it."""
    return next((environ[key] for key in _SOCKET_KEYS if environ.get(key) is not None), None)
