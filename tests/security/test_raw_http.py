"""Rows P7 and section 6: what no proper client sends is refused, and never taken for two requests."""

import gzip
import json
import re
import socket
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import requests

from hugging_llama_config.keys import add_key, new_key
from hugging_llama_config.path_dialects import dialect_of
from tests.functional.conftest import MakeClient
from tests.live_server import LiveServer, free_port, stop
from tests.process.servers import wait_until
from tests.secrets_in_logs import PLANTED
from tests.security.raw import answer_to, connected, read_to_end, sent, statuses

ROOT = Path(__file__).parents[2]
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
    "packed chunks": _post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n") + SMUGGLED,
    "packed chunks in two lines": _post(
        b"Transfer-Encoding: deflate\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n") + SMUGGLED,
    "chunks that are no more than that": _post(b"Transfer-Encoding: identity, chunked\r\n", b"0\r\n\r\n") + SMUGGLED,
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
    "long headers": _get(b"Host: localhost", *(b"X-%d: " % number + b"a" * 60_000 for number in range(3))),
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100) + b"\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_p7_what_can_be_read_in_two_ways_is_refused(server: LiveServer, name: str) -> None:
    found = sent(server, REFUSED[name])
    assert len(found) <= 1
    assert all(400 <= status < 500 or status in (501, 505) for status in found), found


PHRASES = {
    400: "Bad Request",
    414: "URI Too Long",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
}
STATUSES = {
    **dict.fromkeys(("a long line",), 414),
    **dict.fromkeys(("many headers", "a long header", "long headers"), 431),
    **dict.fromkeys(
        ("another coding", "packed chunks", "packed chunks in two lines", "chunks that are no more than that"), 501
    ),
}
BY_US = {"no host", "an empty host"}
"""Those answers are the application's, and as empty as those to names that are not ours."""


@pytest.mark.parametrize("name", [name for name in REFUSED if name not in BY_US])
def test_what_gunicorn_refuses_it_refuses_in_json(server: LiveServer, name: str) -> None:
    head, _, body = answer_to(server, REFUSED[name]).partition(b"\r\n\r\n")
    status = STATUSES.get(name, 400)
    assert head.partition(b"\r\n")[0] == f"HTTP/1.1 {status} {PHRASES[status]}".encode()
    assert b"\r\nContent-Type: application/json; charset=utf-8\r\n" in head
    assert f"\r\nContent-Length: {len(body)}".encode() in head
    found = json.loads(body)
    assert list(found) == ["error"]
    assert found["error"].startswith("malformed request: ")
    assert found["error"].isprintable()


@pytest.mark.parametrize(
    "headers",
    [b"Content-Length: +4\r\n", b"Transfer-Encoding: xchunked\r\n", HOST, b"Expect: cow\r\n", b"nonsense\r\n"],
)
def test_what_gunicorn_refuses_it_refuses_in_the_callers_dialect(server: LiveServer, headers: bytes) -> None:
    for path in (b"/v1/messages", b"/v1/messages/count_tokens?beta=true"):
        found = json.loads(answer_to(server, _post(headers, b"", path)).partition(b"\r\n\r\n")[2])
        assert (found["type"], found["error"].pop("type")) == ("error", "invalid_request_error")
        assert found["error"].pop("message").startswith("malformed request: ")
        assert found == {"type": "error", "error": {}}
    for path in (b"/v1/chat/completions", b"/v1/models/x", b"/v2/rerank"):
        found = json.loads(answer_to(server, _post(headers, b"", path)).partition(b"\r\n\r\n")[2])
        assert found["error"].pop("message").startswith("malformed request: ")
        assert found == {"error": {"type": "invalid_request_error", "param": None, "code": None}}


def shape(answer: bytes) -> tuple[bool, str | None]:
    """What tells the dialects of errors apart."""
    found = json.loads(answer.partition(b"\r\n\r\n")[2])
    return isinstance(found["error"], dict), found.get("type")


SHAPES = {"ollama": (False, None), "openai": (True, None), "anthropic": (True, "error")}


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/messages", b"//v1/messages", b"///v1/messages", b"/%761/messages", b"/v1%2fmessages", b"/%2fv1/messages",
        b"/v1/messages/count_tokens", b"/v2/rerank", b"//v2/rerank", b"/v2/%72erank", b"/v1/rerank", b"/api/rerank",
        b"//api/chat", b"http://localhost/v1/messages", b"http://localhost//v1/messages?a=b",
    ],
)  # fmt: skip
def test_what_gunicorn_refuses_is_in_the_dialect_of_the_applications_own_answers(
    server: LiveServer, path: bytes
) -> None:
    expected = shape(answer_to(server, _post(CLOSE + b"Content-Length: 8\r\n", b"nonsense", path)))
    long = b"&" if b"?" in path else b"?"
    line = b"POST " + path + b" HTTP/1.1\r\n"
    refused = {
        "header": _post(b"nonsense\r\n", b"", path),
        "long line": line.replace(b" HTTP", long + b"a" * 10_000 + b" HTTP") + HOST + b"\r\n",
        "method": line.replace(b"POST", b"G(T") + HOST + b"\r\n",
        "small method": line.replace(b"POST", b"post") + HOST + b"\r\n",
        "version": line.replace(b"1.1", b"3.0") + HOST + b"\r\n",
        "bare LF": line.replace(b"\r\n", b"\n") + HOST + b"\r\n",
    }
    assert {name: shape(answer_to(server, data)) for name, data in refused.items()} == dict.fromkeys(refused, expected)


def test_every_route_has_the_dialect_of_its_path(make_client: MakeClient, tmp_path: Path) -> None:
    """As those tell who ask without a key; what is open to all has errors in Ollama's."""
    keys = tmp_path / "keys.json"
    add_key(str(keys), new_key("laptop", roles=("use",))[0])
    client, _ = make_client(keys_file=str(keys))
    found = {}
    for rule in client.application.url_map.iter_rules():
        path = re.sub(r"<[^>]+>", "x", rule.rule)
        for method in (rule.methods or set()) - {"HEAD"}:
            answer = client.open(path, method=method)
            told = answer.get_json() if answer.status_code == 401 else {"error": "open"}
            found[path] = (isinstance(told["error"], dict), told.get("type"))
    assert set(found.values()) == set(SHAPES.values())
    assert found == {path: SHAPES[dialect_of(path)] for path in found}


@pytest.mark.parametrize(
    "data",
    [
        _get(b"Host: localhost", f"Authorization Bearer {PLANTED}".encode()),
        _get(b"Host: localhost", f"Authorization\0: Bearer {PLANTED}".encode()),
        _get(b"Host: localhost", f"x-api-key: {PLANTED}\0".encode()),
        _get(b"Host: localhost", f"x-api-key: a\r\n {PLANTED}".encode()),
        f"Authorization: Bearer {PLANTED}\r\n\r\n".encode(),
        f"{PLANTED} / HTTP/1.1\r\n\r\n".encode(),
        f"GET / {PLANTED}\r\n\r\n".encode(),
        f"GET /?key={PLANTED} HTTP/3.0\r\n\r\n".encode(),
        _post(f"Transfer-Encoding: {PLANTED}\r\n".encode(), b""),
        _get(b"Host: localhost", f"Expect: {PLANTED}".encode()),
    ],
)
def test_what_could_be_a_key_is_neither_said_again_nor_logged(server: LiveServer, data: bytes) -> None:
    answer = answer_to(server, data)
    assert statuses(answer)[0] >= 400
    assert PLANTED.encode() not in answer
    assert PLANTED not in server.log.read_text()


@pytest.mark.parametrize(("version", "answered"), [(b"1.0", b"1.0"), (b"1.1", b"1.1"), (b"1.9", b"1.1")])
def test_the_answers_version_is_one_that_there_is(server: LiveServer, version: bytes, answered: bytes) -> None:
    head = answer_to(server, b"GET /api/version HTTP/" + version + b"\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert head.startswith(b"HTTP/" + answered + b" 200 OK\r\n"), head


def test_what_fails_outside_of_the_application_says_nothing_of_it(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    worker = "hugging_llama_config.gunicorn_worker.JsonErrorWorker"
    command = [sys.executable, "-m", "gunicorn", "-k", worker, "--no-control-socket", "-b", f"127.0.0.1:{port}"]
    with log.open("wb") as sink:
        process = subprocess.Popen([*command, "tests.security.failing_app:app"], stderr=sink, stdout=sink, cwd=ROOT)
    try:
        wait_until(lambda: is_fine(port), 60)
        found = requests.get(f"http://127.0.0.1:{port}/", timeout=60)
    finally:
        stop(process)
    assert (found.status_code, found.headers["Content-Type"]) == (500, "application/json; charset=utf-8")
    assert found.json() == {"error": "internal server error; the server's log has the details"}
    assert "what nobody else may read" in log.read_text()
    assert f"Using worker: {worker}" in log.read_text()


def is_fine(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/fine", timeout=60).text == "fine"
    except requests.ConnectionError:
        return False


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


def cut_short(server: LiveServer, line: bytes, body: bytes, announced: int, headers: bytes = b"") -> tuple[int, object]:
    """The answer to a body that ends before its length, whose sender still reads."""
    head = b"%s HTTP/1.1\r\n%s%sContent-Length: %d\r\n\r\n" % (line, HOST, headers, announced)
    with connected(server) as sock:
        sock.sendall(head + body)
        sock.shutdown(socket.SHUT_WR)
        answer = read_to_end(sock)
    (status,) = statuses(answer)
    return status, json.loads(answer.partition(b"\r\n\r\n")[2])


CUT_SHORT = "the body ends before its Content-Length"


def test_section_6c_nothing_is_done_for_a_body_that_is_cut_short(server: LiveServer) -> None:
    def names() -> set[str]:
        return {model["name"] for model in requests.get(f"{server.url}/api/tags", timeout=60).json()["models"]}

    copied = {"source": "hugging-llama/demo", "destination": "kept"}
    assert requests.post(f"{server.url}/api/copy", json=copied, timeout=60).ok
    before = names()
    copy = json.dumps(copied | {"destination": "made"}).encode()
    for body, headers in ((copy, b""), (gzip.compress(copy), b"Content-Encoding: gzip\r\n")):
        found = cut_short(server, b"POST /api/copy", body, 500, headers)
        assert found == (400, {"error": CUT_SHORT})
    assert cut_short(server, b"DELETE /api/delete", b'{"model": "kept"}', 18) == (400, {"error": CUT_SHORT})
    assert names() == before
    content = bytes(1000)
    blob = f"/api/blobs/sha256:{sha256(content).hexdigest()}"
    assert cut_short(server, f"POST {blob}".encode(), content, 2000) == (400, {"error": CUT_SHORT})
    assert requests.head(server.url + blob, timeout=60).status_code == 404
    assert requests.delete(f"{server.url}/api/delete", json={"model": "kept"}, timeout=60).ok


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/messages"])
def test_section_6c_a_body_that_is_cut_short_is_told_in_the_callers_dialect(server: LiveServer, path: bytes) -> None:
    status, found = cut_short(server, b"POST " + path, CHAT, 500)
    assert isinstance(found, dict)
    assert (status, found["error"]["message"]) == (400, CUT_SHORT)
    assert found["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", ["/api/show", "/v1/chat/completions", "/v1/messages", "/health"])
def test_a_websocket_is_refused_in_the_callers_dialect(server: LiveServer, path: str) -> None:
    headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
    method = "GET" if path == "/health" else "POST"
    found = requests.request(method, server.url + path, json={"model": "x"}, headers=headers, timeout=60)
    error = found.json()["error"]
    assert found.status_code == 400
    assert "WebSocket" in (error["message"] if path.startswith("/v1/") else error)
    assert ("type" in found.json()) == (path == "/v1/messages")
    assert requests.get(f"{server.url}/nowhere", headers=headers, timeout=60).status_code == 404


def test_headers_of_gunicorn_say_nothing_of_versions(server: LiveServer) -> None:
    """Of what is run here the answer tells the name at most."""
    for path in ("/", "/nowhere", "/api/show"):
        assert not re.search(r"\d", requests.get(server.url + path, timeout=60).headers.get("Server", ""))
