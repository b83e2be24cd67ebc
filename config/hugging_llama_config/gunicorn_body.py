"""How the bytes of a connection get to gunicorn: others have their turn between them, and chunks have bounds.

A socket that has more to read at once never makes a greenlet wait, so whoever sends without end would keep a worker
from everybody else. What counts is what comes over the wire: of chunks of a byte each, or with long extensions, little
of it is body.
"""

import re
from typing import Any

import gevent  # type: ignore[import-untyped]
from gunicorn.http.errors import ChunkMissingTerminator, InvalidChunkSize, LimitRequestHeaders, NoMoreData
from gunicorn.http.unreader import SocketUnreader

MAX_HEAD_BYTES = 128 * 1024
"""Of a request's line and headers together, and of its trailers."""
MAX_CHUNK_LINE_BYTES = 4096
MAX_FRAMING_BYTES = 2**20
"""Of lines around chunks, beyond twice the body: clients that write JSON value by value have small chunks."""
_TURN_EVERY_BYTES = 16 * 1024
# not 0: gevent would come back up to a hundred times before it looks at other connections
_TURN_S = 1e-9
# RFC 9112, 7.1 and 7.1.1, without the end of the line
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_EXTENSION = rb"[ \t]*;[ \t]*" + _TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?"
_CHUNK_LINE = re.compile(rb"0*([0-9A-Fa-f]{1,16})(?:" + _EXTENSION + rb")*")


def give_turn() -> None:
    """Lets all run that can, those included whose sockets have something new."""
    gevent.sleep(_TURN_S)


class SharingUnreader(SocketUnreader):  # type: ignore[misc]
    """Reads a connection, and lets others run meanwhile."""

    received_bytes = 0
    _turn_at = _TURN_EVERY_BYTES

    def chunk(self, *size_hint: Any) -> bytes:
        """The next bytes, none at the end."""
        data: bytes = super().chunk(*size_hint)
        self.received_bytes += len(data)
        if self.received_bytes >= self._turn_at:
            self._turn_at = self.received_bytes + _TURN_EVERY_BYTES
            give_turn()
        return data


class ChunkedBody:
    """In the place of gunicorn's ChunkedReader."""

    def __init__(self, request: Any, unreader: Any) -> None:
        self._request = request
        self._unreader = unreader
        self._ahead = bytearray()
        self._at = 0
        self._left_in_chunk = 0
        self._body_bytes = 0
        self._framing_bytes = 0
        self._is_over = False
        self._error: Exception | None = None

    def read(self, size: int) -> bytes:
        """So many bytes, fewer at the end only. Raises what is wrong with the chunks, each time."""
        if self._error is not None:
            raise self._error
        found = bytearray()
        try:
            while len(found) < size and (self._left_in_chunk or self._next_chunk()):
                found += self._take(min(self._left_in_chunk, size - len(found)))
        except Exception as error:
            self._error = error
            raise
        return bytes(found)

    def _take(self, size: int) -> bytes:
        """At most so many bytes of the current chunk."""
        if self._at < len(self._ahead):
            data = bytes(self._ahead[self._at : self._at + size])
            self._at += len(data)
        else:
            data = self._unreader.read(size)
            if not data:
                raise NoMoreData(b"")
        self._left_in_chunk -= len(data)
        self._body_bytes += len(data)
        return data

    def _next_chunk(self) -> bool:
        """False where there is none."""
        if self._is_over:
            return False
        if self._body_bytes and not self._skip_line_end():
            raise ChunkMissingTerminator("...")
        found = _CHUNK_LINE.fullmatch(self._line())
        if found is None:
            raise InvalidChunkSize("...")
        self._framing_bytes += len(found[0]) + 4
        if self._framing_bytes > MAX_FRAMING_BYTES + 2 * self._body_bytes:
            raise InvalidChunkSize("chunks too small, or their lines too long")
        self._left_in_chunk = int(found[1], 16)
        if not self._left_in_chunk:
            self._take_trailers()
        return not self._is_over

    def _line(self) -> bytes:
        end = self._find(b"\r\n", MAX_CHUNK_LINE_BYTES)
        if end < 0:
            raise InvalidChunkSize(f"its line has more than {MAX_CHUNK_LINE_BYTES} bytes")
        line = bytes(self._ahead[self._at : end])
        self._at = end + 2
        return line

    def _take_trailers(self) -> None:
        """What comes behind the body is the next request's."""
        if not self._skip_line_end():
            end = self._find(b"\r\n\r\n", MAX_HEAD_BYTES)
            if end < 0:
                raise LimitRequestHeaders("max buffer trailers")
            trailers = bytes(self._ahead[self._at : end])
            self._at = end + 4
            self._request.trailers = self._request.parse_headers(trailers, from_trailer=True)
        self._unreader.unread(bytes(self._ahead[self._at :]))
        self._ahead.clear()
        self._at = 0
        self._is_over = True

    def _skip_line_end(self) -> bool:
        while len(self._ahead) - self._at < 2:
            self._read_ahead()
        is_end = self._ahead.startswith(b"\r\n", self._at)
        self._at += 2 * is_end
        return is_end

    def _find(self, ending: bytes, within: int) -> int:
        """Where the first `ending` begins, -1 if it does not `within` so many bytes."""
        searched = self._at
        while (found := self._ahead.find(ending, searched, self._at + within + len(ending))) < 0:
            held = len(self._ahead) - self._at
            if held >= within + len(ending):
                return -1
            self._read_ahead()
            searched = max(0, held - len(ending) + 1)  # its beginning may have been there
        return found

    def _read_ahead(self) -> None:
        data = self._unreader.read()
        if not data:
            raise NoMoreData(b"")
        del self._ahead[: self._at]
        self._at = 0
        self._ahead += data
