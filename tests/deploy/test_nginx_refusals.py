"""What nginx itself refuses, in the words of the API that was called."""

import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hugging_llama_config.path_dialects import Dialect, dialect_of
from tests.deploy.conftest import Pair
from tests.deploy.nginx_proxy import Answer, needs_nginx, nginx
from tests.live_server import free_port
from tests.process.servers import wait_until

pytestmark = needs_nginx

SHAPES = {"anthropic": (True, "error"), "openai": (True, None), "ollama": (False, None)}
PATHS = ("/api/chat", "/v1/chat/completions", "/v1/messages")


def check(answers: list[Answer], status: int, message: str, openai: tuple[str, str | None], anthropic: str) -> None:
    """Answers of `PATHS`, in the shapes of Ollama, OpenAI and Anthropic."""
    assert [answer.status for answer in answers] == [status] * 3
    assert {answer.headers["Content-Type"] for answer in answers} == {"application/json"}
    kind, code = openai
    ids = [answer.headers["X-Request-ID"] for answer in answers]
    expected: list[Any] = [
        {"error": message},
        {"error": {"message": message, "type": kind, "param": None, "code": code}},
        {"type": "error", "error": {"type": anthropic, "message": message}, "request_id": ids[2]},
    ]
    assert [answer.json() for answer in answers] == expected


def test_a_body_that_is_too_large(pair: Pair) -> None:
    answers = []
    for path in PATHS:
        with contextlib.closing(pair.proxy.connect()) as client:
            # its length is enough to know
            client.putrequest("POST", path)
            client.putheader("Content-Length", str(64 * 2**20 + 1))
            client.endheaders()
            response = client.getresponse()
            answers.append(Answer(response.status, response.headers, response.read()))
    refused = ("invalid_request_error", "body_too_large")
    check(answers, 413, "the request's body is too large", refused, "request_too_large")


def test_too_many_requests(pair: Pair) -> None:
    # one a minute and three at once: however slow this machine is, the fifth is too many
    with nginx(pair.port, {"rate=20r/s": "rate=1r/m", "burst=200": "burst=3"}) as proxy:
        assert [proxy.ask("/api/version").status for _ in range(4)] == [200] * 4
        answers = [proxy.ask(path, {}) for path in PATHS]
        message = "too many requests from your address; wait a moment"
        check(answers, 429, message, ("rate_limit_error", "rate_limited"), "rate_limit_error")
        assert {answer.headers["Retry-After"] for answer in answers} == {"1"}
        assert [proxy.ask("/health").status for _ in range(3)] == [200] * 3


def test_too_many_at_a_time(pair: Pair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        changes = {"limit_conn hugging_llama_connections 64": "limit_conn hugging_llama_connections 1"}
        with nginx(silent.getsockname()[1], changes) as proxy, contextlib.closing(proxy.connect()) as client:
            client.request("POST", "/api/chat", b"{}")
            connection, _ = silent.accept()
            with connection:
                assert proxy.ask("/api/version").status == 429


def test_a_server_that_does_not_run() -> None:
    with nginx(free_port()) as proxy:
        answers = [proxy.ask(path, {}) for path in PATHS]
        message = "the server does not run, or starts anew; try again"
        check(answers, 502, message, ("api_error", None), "api_error")
        assert {answer.headers["Retry-After"] for answer in answers} == {"2"}


def test_the_snippets_of_the_compose_file_fit_the_site() -> None:
    with nginx(free_port(), docker=True) as proxy:
        assert proxy.ask("/api/version").json() == {"error": "the server does not run, or starts anew; try again"}
        wait_until(lambda: '"/api/version"' in proxy.log)


def test_a_server_that_does_not_answer() -> None:
    changes = {"proxy_read_timeout 660s": "proxy_read_timeout 1s"}
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        nginx(silent.getsockname()[1], changes) as proxy,
        ThreadPoolExecutor() as pool,
    ):
        answers = list(pool.map(lambda path: proxy.ask(path, {}), PATHS))
    check(answers, 504, "the server took too long to answer", ("api_error", None), "api_error")


@pytest.mark.parametrize(("length", "status"), [(60_000, 200), (70_000, 400)])
def test_headers_may_be_as_long_as_the_server_takes_them(pair: Pair, length: int, status: int) -> None:
    answer = pair.proxy.ask("/api/version", headers={"Cookie": "x" * length})
    assert answer.status == status
    assert "version" in answer.json() or answer.json() == {"error": "the request is malformed"}


@pytest.mark.parametrize(
    ("request_line", "header", "status", "message"),
    [
        ("GET /%00 HTTP/1.1", "", 400, "the request is malformed"),
        (
            "POST /api/chat HTTP/1.1",
            "Transfer-Encoding: gzip",
            501,
            "the request is sent in a way that is not spoken here",
        ),
        ("TRACE / HTTP/1.1", "", 405, "this method is not spoken here"),
        ("GET / HTTP/3.0", "", 505, "this version of HTTP is not spoken here"),
    ],
)
def test_what_nginx_can_not_read_is_refused_as_json(
    pair: Pair, request_line: str, header: str, status: int, message: str
) -> None:
    head = [request_line, "Host: llama.example.org", *filter(None, [header])]
    with contextlib.closing(pair.proxy.connect()) as client:
        client.sock.sendall("".join(f"{line}\r\n" for line in [*head, ""]).encode())
        answer = b""
        while data := client.sock.recv(65536):
            answer += data
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert answer.endswith(f'\r\n\r\n{{"error":"{message}"}}'.encode())


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("//v1/messages", "anthropic"),
        ("/v1/messages/count_tokens", "anthropic"),
        ("/v1/messagesx", "openai"),
        ("/v2/rerank", "openai"),
        ("//v1/rerank", "openai"),
        ("/v2", "ollama"),
        ("/api/rerank", "ollama"),
    ],
)
def test_every_path_of_an_api_has_its_shape(path: str, kind: Dialect) -> None:
    with nginx(free_port()) as proxy:
        found = proxy.ask(path, {}).json()
    assert (isinstance(found["error"], dict), found.get("type")) == SHAPES[kind]
    assert dialect_of(path) == kind


def test_errors_of_the_server_pass_untouched(pair: Pair) -> None:
    found = pair.proxy.ask("/api/chat", {"model": "no/such", "messages": []})
    assert (found.status, "not found" in found.json()["error"]) == (404, True)
    assert pair.proxy.ask("/nowhere").status == 404
