"""The body of a request that is too big for memory: read piece by piece, and what nobody wanted put away."""

import contextlib
import socket
import sys
import time
from collections.abc import Iterator

from flask import Request, Response
from werkzeug.exceptions import ClientDisconnected

from hugging_llama.dialects.base import ClientGoneError

STALLED_TIMEOUT_S = 120.0
"""How long a client may send nothing of a body that it has announced."""
_CHUNK_BYTES = 2**20
_SOCKET_KEYS = ("gunicorn.socket", "werkzeug.socket")


class Upload:
    """One request's body. `put_away` on its response before anything of it is read."""

    def __init__(self, request: Request) -> None:
        request.max_content_length = sys.maxsize  # an application that mounts us may limit its own requests
        self.size_bytes = request.content_length
        self._stream = request.stream
        self._socket = next((request.environ[key] for key in _SOCKET_KEYS if request.environ.get(key)), None)
        self._is_whole = False

    def read(self, size: int) -> bytes:
        """The next piece, empty at the end. Raises ClientGoneError if the client left or sends nothing any more."""
        with self._time_limit():
            try:
                chunk = self._stream.read(size)
            except (ClientDisconnected, TimeoutError, ConnectionError) as error:
                raise ClientGoneError from error
        self._is_whole = not chunk
        return chunk

    def put_away(self, response: Response, most_bytes: int) -> None:
        """Once `response` is sent, read what is left of the body, so that the client gets to see the answer and the
        connection serves its next request. One that sends more than `most_bytes` still is cut off."""

        @response.call_on_close
        def _rest() -> None:
            left = most_bytes
            with contextlib.suppress(Exception):  # whatever is wrong with the rest of a body that is not wanted
                while not self._is_whole and left > 0:
                    left -= len(self.read(_CHUNK_BYTES))
                    time.sleep(0.001)  # lets other greenlets run, though there is more to read at once
            if not self._is_whole and self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def _time_limit(self) -> Iterator[None]:
        if self._socket is None:
            yield
            return
        before = self._socket.gettimeout()
        self._socket.settimeout(STALLED_TIMEOUT_S)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                self._socket.settimeout(before)
