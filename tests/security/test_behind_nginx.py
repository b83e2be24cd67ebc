"""Row P7 through a real nginx that keeps its connections to gunicorn: whatever the two read differently, nobody else
gets the answer to it."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.bar import Note
from tests.live_server import LiveServer, free_port
from tests.security.raw import statuses

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed: `apt-get install nginx-light`")

CONFIGURATION = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log warn;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream app {{ server {upstream}; keepalive 1; }}
  server {{
    listen 127.0.0.1:{port};
    ignore_invalid_headers {ignores};
    location / {{
      proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
      proxy_buffering off; proxy_request_buffering {buffers}; proxy_read_timeout 20s;
    }}
  }}
}}
"""
HOST = b"Host: localhost\r\n"
HIDDEN_BODY = b'{"model": "smuggled"}'
HIDDEN = b"POST /api/show HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(HIDDEN_BODY) + HIDDEN_BODY
SHOW = b'{"model": "first"}'
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LAST = b"GET /api/version HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
QUIET_S = 2.0


def post(headers: bytes, body: bytes) -> bytes:
    return b"POST /api/show HTTP/1.1\r\n" + HOST + headers + b"\r\n" + body


def length(of: bytes) -> bytes:
    return b"Content-Length: %d\r\n" % len(of)


def chunks(*of: bytes) -> bytes:
    return b"".join(b"%x\r\n" % len(one) + one + b"\r\n" for one in of) + b"0\r\n\r\n"


# what is hidden lies in what one of two readers takes for a body, or behind it
SHAPES: dict[str, bytes] = {
    "length and chunks": post(length(b"0\r\n\r\n" + HIDDEN) + CHUNKED, b"0\r\n\r\n" + HIDDEN),
    "chunks and length": post(CHUNKED + b"Content-Length: 5\r\n", b"0\r\n\r\n" + HIDDEN),
    "chunks under HTTP/1.0": post(CHUNKED, chunks(HIDDEN)).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "chunked twice": post(CHUNKED + CHUNKED, b"0\r\n\r\n" + HIDDEN),
    "chunked and identity": post(b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n" + HIDDEN),
    "another coding": post(b"Transfer-Encoding: xchunked\r\n" + length(SHOW + HIDDEN), SHOW + HIDDEN),
    "chunked behind a tab": post(b"Transfer-Encoding:\tchunked\r\n" + length(SHOW), b"0\r\n\r\n" + HIDDEN),
    "chunked with a vertical tab": post(b"Transfer-Encoding: \x0bchunked\r\n" + length(SHOW), SHOW + HIDDEN),
    "an underscore for a hyphen": post(b"Transfer_Encoding: chunked\r\n" + length(SHOW), SHOW + HIDDEN),
    "a length with an underscore": post(length(SHOW) + b"Content_Length: 0\r\n", SHOW + HIDDEN),
    "a space before the colon": post(b"Content-Length : 0\r\n" + length(SHOW), SHOW + HIDDEN),
    "two lengths": post(length(SHOW) + b"Content-Length: 0\r\n", SHOW + HIDDEN),
    "a list of lengths": post(b"Content-Length: 18, 18\r\n", SHOW + HIDDEN),
    "a length with a sign": post(b"Content-Length: +18\r\n", SHOW + HIDDEN),
    "a folded header": post(b"X-A: b\r\n Content-Length: 0\r\n" + length(SHOW), SHOW + HIDDEN),
    "a header after a bare LF": post(b"X-A: b\nContent-Length: 0\r\n" + length(SHOW), SHOW + HIDDEN),
    "a header after a bare CR": post(b"X-A: b\rContent-Length: 0\r\n" + length(SHOW), SHOW + HIDDEN),
    "a NUL": post(b"X-A: b\0\r\n" + length(SHOW), SHOW + HIDDEN),
    "a chunk with a prefix": post(CHUNKED, b"0x12\r\n" + SHOW + b"\r\n0\r\n\r\n" + HIDDEN),
    "a chunk with an underscore": post(CHUNKED, b"1_2\r\n" + SHOW + b"\r\n0\r\n\r\n" + HIDDEN),
    "a huge chunk": post(CHUNKED, b"f" * 17 + b"\r\n" + SHOW + b"\r\n0\r\n\r\n" + HIDDEN),
    "a chunk longer than it says": post(CHUNKED, b"2\r\n" + SHOW + b"\r\n0\r\n\r\n" + HIDDEN),
    "an extension that ends a line": post(CHUNKED, b"12;a=\n" + SHOW + b"\r\n0\r\n\r\n" + HIDDEN),
    "trailers": post(CHUNKED, chunks(SHOW)[:-2] + b"Content-Length: 0\r\n\r\n" + HIDDEN),
    "a body of a GET": b"GET /api/version HTTP/1.1\r\n" + HOST + length(HIDDEN) + b"\r\n" + HIDDEN,
    "a body that nobody reads": b"POST /nowhere HTTP/1.1\r\n" + HOST + length(HIDDEN) + b"\r\n" + HIDDEN,
    "a body that is refused": b"POST /api/blobs/x HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n" + chunks(HIDDEN),
    "a body of a HEAD": b"HEAD / HTTP/1.1\r\n" + HOST + length(HIDDEN) + b"\r\n" + HIDDEN,
    "an early end": post(length(SHOW) + b"Expect: 100-continue\r\n", SHOW + HIDDEN),
    "an upgrade": post(b"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n", HIDDEN),
    "a CR LF in the path": b"GET /x%0d%0aContent-Length:%200 HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "a whole URL": b"GET http://localhost/api/version HTTP/1.1\r\n" + HOST + length(HIDDEN) + b"\r\n" + HIDDEN,
}  # fmt: skip


@pytest.fixture(scope="module", params=[("on", "on"), ("off", "off")], ids=["careful", "careless"])
def proxy(
    request: pytest.FixtureRequest, server: LiveServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """The port of an nginx in front of the server."""
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    ignores, buffers = request.param
    text = CONFIGURATION.format(
        folder=folder, port=port, upstream=urlsplit(server.url).netloc, ignores=ignores, buffers=buffers
    )
    (folder / "nginx.conf").write_text(text)
    command = [str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        _wait_until_open(port, process, folder)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_open(port: int, process: "subprocess.Popen[bytes]", folder: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise AssertionError((folder / "error.log").read_text())


def talk(port: int, data: bytes) -> bytes:
    """All that comes back to `data` and to a last request behind it, after which nginx closes. It does not if a body
    has swallowed that, too: then we leave, after a moment."""
    seen = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=QUIET_S) as sock, contextlib.suppress(OSError):
        sock.sendall(data + LAST)
        while more := sock.recv(65536):
            seen += more
    return bytes(seen)


def ask(port: int, name: str) -> str:
    """What somebody else gets, over the connection to gunicorn that nginx has kept."""
    return requests.post(f"http://127.0.0.1:{port}/api/show", json={"model": name}, timeout=30).text


def test_p7_nobody_gets_the_answer_to_what_was_hidden(proxy: int, note: Note) -> None:
    # what nginx itself takes for a second request is one, and must be answered as such: to the sender
    hidden = 0
    for number, (name, data) in enumerate(SHAPES.items()):
        answer = talk(proxy, data)
        found = [status for status in statuses(answer) if status != 100]
        assert len(found) <= 3, name
        assert all(status < 500 or status in (501, 505) for status in found), (name, found)
        hidden += b"smuggled" in answer
        for again in range(3):
            victim = f"victim-{number}-{again}"
            said = ask(proxy, victim)
            assert victim in said, (name, said)
            assert "smuggled" not in said, name
    note("smuggling through nginx", len(SHAPES), more=f"{hidden} times nginx took two for two, and so did gunicorn")


def test_p7_what_is_well_formed_passes(proxy: int) -> None:
    assert "first" in ask(proxy, "first")
    for data in (post(length(SHOW), SHOW), post(CHUNKED, chunks(SHOW[:5], SHOW[5:]))):
        answer = talk(proxy, data + HIDDEN)
        assert statuses(answer) == [404, 404, 200]
        assert answer.index(b"first") < answer.index(b"smuggled") < answer.index(b"version")
