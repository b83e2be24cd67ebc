"""What nginx hands on and what it holds back, seen from a server that waits for the test; no clock is asked."""

import contextlib
import http.client
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.deploy.nginx_proxy import NAME, Proxy, needs_nginx, nginx
from tests.deploy.waiting_upstream import Upstream, waiting_upstream

pytestmark = needs_nginx

Pair = tuple[Proxy, Upstream]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with waiting_upstream() as upstream, nginx(upstream.port) as proxy:
        yield proxy, upstream


def test_chunks_leave_one_by_one(pair: Pair) -> None:
    proxy, upstream = pair
    with contextlib.closing(proxy.connect()) as client:
        client.request("POST", "/api/chat", b"{}")
        with upstream.accept() as exchange:
            exchange.begin()
            response = client.getresponse()
            for number in range(5):
                line = f'{{"n":{number}}}\n'.encode()
                # the next one is sent only when this one has come through
                exchange.chunk(line)
                assert response.readline() == line
            exchange.chunk(b"")
            assert response.read() == b""


@pytest.mark.skipif(
    shutil.which("curl") is None or "HTTP2" not in subprocess.check_output(["curl", "-V"], text=True),
    reason="curl is not installed, or speaks no HTTP/2: apt-get install curl",
)
def test_chunks_leave_one_by_one_over_http_2(pair: Pair) -> None:
    proxy, upstream = pair
    url = f"https://{NAME}:{proxy.https_port}/v1/chat/completions"
    command = ["curl", "-sN", "--http2", "--cacert", str(proxy.certificate), "-d", "{}", "-w", "%{http_version}"]
    command += ["--resolve", f"{NAME}:{proxy.https_port}:127.0.0.1", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
        assert client.stdout
        with upstream.accept() as exchange:
            exchange.begin()
            for number in range(5):
                line = f"data: {number}\n".encode()
                exchange.chunk(line)
                assert client.stdout.readline() == line
            exchange.chunk(b"")
            assert client.stdout.read() == b"2"


def test_an_upload_is_passed_on_while_it_comes(pair: Pair) -> None:
    proxy, upstream = pair
    with contextlib.closing(proxy.connect()) as client:
        client.putrequest("POST", "/api/blobs/sha256:00")
        client.putheader("Content-Length", "12")
        client.endheaders()
        client.send(b"first-")
        with upstream.accept() as exchange:
            assert exchange.read_until(b"first-").endswith(b"\r\n\r\nfirst-")
            client.send(b"second")
            exchange.read_until(b"second")
            exchange.sock.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
            assert client.getresponse().status == 201


def test_who_hangs_up_is_gone_for_the_server_too(pair: Pair) -> None:
    proxy, upstream = pair
    client = proxy.connect()
    client.request("POST", "/api/chat", b"{}")
    with upstream.accept() as exchange:
        exchange.read_until(b"{}")
        # nothing has been answered yet: as in a long prefill
        client.close()
        assert exchange.is_closed()


def test_what_a_caller_says_of_itself_does_not_get_through(pair: Pair) -> None:
    proxy, upstream = pair
    told = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Ssl": "off",
        "X-Forwarded-Prefix": "/evil",
        "Forwarded": "for=203.0.113.9",
        "Script-Name": "/evil",
        "Script_Name": "/evil",
        "Path-Info": "/metrics",
        "Authorization": "Bearer key",
        "X-Request-ID": "mine",
    }
    with contextlib.closing(proxy.connect("127.0.0.3")) as client:
        client.request("GET", "/api/tags", headers=told)
        with upstream.accept() as exchange:
            found = exchange.headers()
    assert {name: value for name, value in found.items() if name not in ("accept-encoding",)} == {
        "host": "localhost:11434",
        "connection": "close",
        "x-forwarded-for": "127.0.0.3",
        "x-forwarded-proto": "https",
        "x-forwarded-host": NAME,
        "authorization": "Bearer key",
        "x-request-id": "mine",
    }


@pytest.mark.parametrize("given", ["", 'a"b', "x" * 129])
def test_a_request_without_a_good_id_gets_one(pair: Pair, given: str) -> None:
    proxy, upstream = pair
    with contextlib.closing(proxy.connect()) as client:
        client.request("GET", "/api/tags", headers={"X-Request-ID": given} if given else {})
        with upstream.accept() as exchange:
            assert len(exchange.headers()["x-request-id"]) == 32


def test_a_stream_that_is_cut_does_not_look_whole(pair: Pair) -> None:
    proxy, upstream = pair
    with contextlib.closing(proxy.connect()) as client:
        client.request("POST", "/api/chat", b"{}")
        with upstream.accept() as exchange:
            exchange.begin()
            exchange.chunk(b"half")
            exchange.sock.close()
            with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                client.getresponse().read()


def test_long_headers_of_answers_get_through(pair: Pair) -> None:
    proxy, upstream = pair
    with contextlib.closing(proxy.connect()) as client:
        client.request("GET", "/api/tags")
        with upstream.accept() as exchange:
            exchange.read_until(b"\r\n\r\n")
            ignored = b"x" * 20_000
            exchange.sock.sendall(b"HTTP/1.1 200 OK\r\nX-Ignored-Fields: " + ignored + b"\r\nContent-Length: 0\r\n\r\n")
            assert client.getresponse().headers["X-Ignored-Fields"] == ignored.decode()
