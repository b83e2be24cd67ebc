"""Rows P7 and section 6: what no proper client sends is refused, and never taken for two requests."""

import gzip
import json
import re

import pytest
import requests

from tests.live_server import LiveServer
from tests.security.raw import sent

CLOSE = b"Connection: close\r\n"
HOST = b"Host: localhost\r\n"
# whatever stands behind a request that is refused must not be answered as one of its own
SMUGGLED = b"GET /api/version HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n"
CHAT = b'{"model": "demo"}'


def _get(*lines: bytes) -> bytes:
    return b"GET /api/version HTTP/1.1\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def _post(headers: bytes, body: bytes, path: bytes = b"/api/show") -> bytes:
    return b"POST " + path + b" HTTP/1.1\r\n" + HOST + headers + b"\r\n" + body


REFUSED: dict[str, bytes] = {
    "length and chunks": _post(b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n") + SMUGGLED,
    "chunks and length": _post(b"Transfer-Encoding: chunked\r\nContent-Length: 40\r\n", b"0\r\n\r\n") + SMUGGLED,
    "two lengths": _post(b"Content-Length: 17\r\nContent-Length: 0\r\n", CHAT) + SMUGGLED,
    "a list of lengths": _post(b"Content-Length: 17, 0\r\n", CHAT) + SMUGGLED,
    "a length with a sign": _post(b"Content-Length: +17\r\n", CHAT) + SMUGGLED,
    "a length with an underscore": _post(b"Content-Length: 1_7\r\n", CHAT) + SMUGGLED,
    "a negative length": _post(b"Content-Length: -1\r\n", CHAT) + SMUGGLED,
    "a length in hex": _post(b"Content-Length: 0x11\r\n", CHAT) + SMUGGLED,
    "another coding": _post(b"Transfer-Encoding: cow\r\n", b"0\r\n\r\n") + SMUGGLED,
    "chunked and more": _post(b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n") + SMUGGLED,
    "chunked twice": _post(b"Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n") + SMUGGLED,
    "a vertical tab": _post(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n") + SMUGGLED,
    "a space before the colon": _get(b"Host: localhost", b"Content-Length : 0") + SMUGGLED,
    "a folded header": _get(b"Host: localhost", b"X-A: 1", b" Content-Length: 7") + SMUGGLED,
    "a header without a colon": _get(b"Host: localhost", b"nonsense") + SMUGGLED,
    "a header without a name": _get(b"Host: localhost", b": 1") + SMUGGLED,
    "a NUL": _get(b"Host: localhost", b"X-A: a\0b") + SMUGGLED,
    "a bare CR": _get(b"Host: localhost", b"X-A: a\rContent-Length: 7") + SMUGGLED,
    "two hosts": _get(b"Host: localhost", b"Host: evil.com") + SMUGGLED,
    "no host": _get(b"Connection: close"),
    "an empty host": _get(b"Host:", b"Connection: close"),
    "HTTP/0.9": b"GET /api/version\r\n\r\n",
    "a later HTTP": b"GET /api/version HTTP/3.0\r\n" + HOST + b"\r\n",
    "HTTP/2 at once": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a method of signs": b"G(T /api/version HTTP/1.1\r\n" + HOST + b"\r\n",
    "a long line": b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "many headers": _get(b"Host: localhost", *(b"X-%d: 1" % number for number in range(200))),
    "a long header": _get(b"Host: localhost", b"X-A: " + b"a" * 70_000),
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100) + b"\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_p7_what_can_be_read_in_two_ways_is_refused(server: LiveServer, name: str) -> None:
    found = sent(server, REFUSED[name])
    assert len(found) <= 1
    assert all(400 <= status < 500 or status in (501, 505) for status in found), found


def test_p7_two_proper_requests_on_one_connection_are_two(server: LiveServer) -> None:
    assert sent(server, _get(b"Host: localhost") + SMUGGLED) == [200, 200]
    assert sent(server, _post(b"Content-Length: 17\r\n", CHAT) + SMUGGLED) == [200, 200]


CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize("path", [b"/api/show", b"/api/chat", b"/v1/chat/completions", b"/v1/messages"])
@pytest.mark.parametrize(
    "body", [b"xyz\r\n", b"-1\r\n\r\n", b"5\r\nabcdefgh\r\n0\r\n\r\n", b"0x5\r\nabcde\r\n0\r\n\r\n", b"1_0\r\n" + CHAT]
)
def test_section_6b_malformed_chunks_are_the_clients_fault(server: LiveServer, path: bytes, body: bytes) -> None:
    assert sent(server, _post(CHUNKED, body, path) + SMUGGLED) == [400]


@pytest.mark.parametrize("excess", [1, 10_000_000])
def test_section_6c_chunks_are_counted(server: LiveServer, excess: int) -> None:
    def parts(size: int) -> list[bytes]:
        body = json.dumps({"model": "demo"}).encode()
        return [body + b" " * (size - len(body))]

    limit = 2**16
    for size, status in ((limit, 200), (limit + excess, 413)):
        response = requests.post(f"{server.url}/api/show", data=iter(parts(size)), timeout=60)
        assert response.status_code == status


def test_section_6d_a_packed_body_is_unpacked_or_refused(server: LiveServer) -> None:
    for encoding, body, status in (("gzip", gzip.compress(CHAT), 200), ("br", CHAT, 400), ("gzip", CHAT, 400)):
        response = requests.post(
            f"{server.url}/api/show", data=body, headers={"Content-Encoding": encoding}, timeout=60
        )
        assert response.status_code == status


def test_headers_of_gunicorn_say_nothing_of_versions(server: LiveServer) -> None:
    """Of what is run here the answer tells the name at most."""
    for path in ("/", "/nowhere", "/api/show"):
        assert not re.search(r"\d", requests.get(server.url + path, timeout=60).headers.get("Server", ""))
