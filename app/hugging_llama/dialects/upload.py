"""The body of a request that is too big for memory: read piece by piece, and what nobody wanted put away."""

import contextlib
import socket
import sys
import time

from flask import Request, Response
from werkzeug.exceptions import ClientDisconnected

from hugging_llama.dialects.body_clock import PIECE_BYTES
from hugging_llama.dialects.body_stream import BodyStream
from hugging_llama.dialects.client_gone import ClientGoneError

_CHUNK_BYTES = 4 * PIECE_BYTES


class Upload:
    """One request's body. `put_away` on its response before anything of it is read. `timeout_s` is for PIECE_BYTES."""

    def __init__(self, request: Request, timeout_s: float) -> None:
        request.max_content_length = sys.maxsize  # an application that mounts us may limit its own requests
        self.size_bytes = request.content_length
        self._stream = BodyStream(request)
        self._timeout_s = timeout_s
        self._is_whole = False

    def read(self, size: int) -> bytes:
        """The next bytes, at most so many, none at the end. Raises BodyTooSlowError if a piece does not come in time,
        ClientGoneError if the client left."""
        chunk = bytearray()
        most = min(size, _CHUNK_BYTES)
        while len(chunk) < most and (piece := self._read_piece(min(PIECE_BYTES, most - len(chunk)))):
            chunk += piece
        self._is_whole = not chunk
        return bytes(chunk)

    def _read_piece(self, size: int) -> bytes:
        try:
            return self._stream.read_in_time(size, self._timeout_s)
        except ClientDisconnected as error:
            raise ClientGoneError from error

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
            if not self._is_whole and self._stream.connection is not None:
                with contextlib.suppress(OSError):
                    self._stream.connection.shutdown(socket.SHUT_RDWR)
