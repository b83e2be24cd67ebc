"""Bodies in chunks, as RFC 9112 has them and in no other way, whatever the pieces are that they come in."""

import socket
from typing import Any

import pytest
from gunicorn.http.errors import ChunkMissingTerminator, InvalidChunkSize, LimitRequestHeaders, NoMoreData

from hugging_llama_config.gunicorn_body import (
    MAX_CHUNK_LINE_BYTES,
    MAX_FRAMING_BYTES,
    MAX_HEAD_BYTES,
    ChunkedBody,
    SharingUnreader,
)

NEXT = b"GET / HTTP/1.1\r\n"


class FakeRequest:
    """Takes trailers as gunicorn's does, without a look at them."""

    trailers: Any = ()

    def parse_headers(self, data: bytes, *, from_trailer: bool) -> list[bytes]:
        assert from_trailer
        return data.split(b"\r\n")


class Pieces:
    """In a socket's place: what was sent, in pieces of one size."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self._size = data, size

    def recv(self, size: int) -> bytes:
        found = self._data[: min(size, self._size)]
        self._data = self._data[len(found) :]
        return found


def read_all(data: bytes, piece: int = 8192, size: int = 65536) -> tuple[bytes, bytes, Any]:
    """The body, what follows it, and the trailers."""
    request, unreader = FakeRequest(), SharingUnreader(Pieces(data, piece))
    body, found = ChunkedBody(request, unreader), b""
    while part := body.read(size):
        assert len(part) <= size
        found += part
    rest = b""
    while part := unreader.read():
        rest += part
    return found, rest, request.trailers


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 8192])
@pytest.mark.parametrize("size", [1, 4, 65536])
@pytest.mark.parametrize(
    ("data", "body", "trailers"),
    [
        (b"0\r\n\r\n", b"", ()),
        (b"0" * 20 + b"1\r\na\r\n" + b"0" * 20 + b"\r\n\r\n", b"a", ()),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello", ()),
        (b"5\r\nhello\r\n00A\r\n0123\r\n6789\r\n000\r\n\r\n", b"hello0123\r\n6789", ()),
        (b'3;a=b ; c="d;\\"e\xff"\t;f\r\nabc\r\n0;x\r\n\r\n', b"abc", ()),
        (b"1\r\na\r\n0\r\nX-A: 1\r\nX-B: 2\r\n\r\n", b"a", [b"X-A: 1", b"X-B: 2"]),
    ],
)
def test_bodies(data: bytes, body: bytes, trailers: Any, piece: int, size: int) -> None:
    assert read_all(data + NEXT, piece, size) == (body, NEXT, trailers)


def test_a_large_body() -> None:
    chunk = bytes(range(256)) * 1000
    data = b"%x\r\n%b\r\n" % (len(chunk), chunk) * 3 + b"0\r\n\r\n"
    assert read_all(data + NEXT) == (chunk * 3, NEXT, ())


@pytest.mark.parametrize("piece", [1, 8192])
@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\r\nabc", InvalidChunkSize),
        (b"x\r\nabc", InvalidChunkSize),
        (b"0x1\r\na\r\n", InvalidChunkSize),
        (b"-1\r\na\r\n", InvalidChunkSize),
        (b"+1\r\na\r\n", InvalidChunkSize),
        (b"1_0\r\na\r\n", InvalidChunkSize),
        (b" 1\r\na\r\n", InvalidChunkSize),
        (b"1 \r\na\r\n", InvalidChunkSize),
        (b"1\n\r\na\r\n", InvalidChunkSize),
        (b"1\r\r\na\r\n", InvalidChunkSize),
        (b"1;\r\na\r\n", InvalidChunkSize),
        (b"1;a\rb\r\na\r\n", InvalidChunkSize),
        (b"1;a\nb\r\na\r\n", InvalidChunkSize),
        (b"1;a=\r\na\r\n", InvalidChunkSize),
        (b'1;a="b\r\na\r\n', InvalidChunkSize),
        (b"\xef\xbc\x91\r\na\r\n", InvalidChunkSize),
        (b"1" * 17 + b"\r\n\r\n", InvalidChunkSize),
        (b"1;a=" + b"b" * MAX_CHUNK_LINE_BYTES + b"\r\na\r\n", InvalidChunkSize),
        (b"1" * (MAX_CHUNK_LINE_BYTES + 2), InvalidChunkSize),
        (b"2\r\nabc\r\n0\r\n\r\n", ChunkMissingTerminator),
        (b"3\r\nabc\n0\r\n\r\n", ChunkMissingTerminator),
        (b"3\r\nabc", NoMoreData),
        (b"3\r\nab", NoMoreData),
        (b"3", NoMoreData),
        (b"0\r\n", NoMoreData),
        (b"0\r\nX-A: 1\r\n", NoMoreData),
        (b"0\r\nX-A: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n", LimitRequestHeaders),
    ],
)
def test_what_is_none(data: bytes, error: type[Exception], piece: int) -> None:
    body = ChunkedBody(FakeRequest(), SharingUnreader(Pieces(data, piece)))
    for _ in range(2):  # what comes behind it is not taken for a chunk
        with pytest.raises(error):
            body.read(65536)


def test_what_stands_around_a_body_is_bounded() -> None:
    def refused(chunk: bytes) -> bool:
        data = chunk * (4 * MAX_FRAMING_BYTES // len(chunk)) + b"0\r\n\r\n"
        try:
            read_all(data)
        except InvalidChunkSize:
            return True
        return False

    assert [refused(b"%x\r\n%b\r\n" % (size, bytes(size))) for size in (1, 3)] == [True, False]
    assert refused(b"1;a=" + b"b" * 4000 + b"\r\nx\r\n")


def test_a_real_connection() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"5\r\nhello\r\n0\r\n\r\n" + NEXT)
        unreader = SharingUnreader(ours)
        assert ChunkedBody(FakeRequest(), unreader).read(100) == b"hello"
        assert unreader.read() == NEXT
        assert unreader.received_bytes == len(b"5\r\nhello\r\n0\r\n\r\n" + NEXT)
