"""What holds for every path: compressed bodies, request ids, and which pages and names are let in."""

import gzip
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
import zstandard
from flask.testing import FlaskClient

from hugging_llama.dialects.compression import MAX_DECOMPRESSED_BYTES
from hugging_llama.errors import GenerationError
from hugging_llama.neutral.events import TextDelta
from hugging_llama_config.env import ConfigError, load_settings
from tests.functional.conftest import MakeClient

CHAT = {"model": "hugging-llama/demo", "messages": [{"role": "user", "content": "Hi"}], "stream": False}
PATHS = ("/api/chat", "/v1/chat/completions", "/v1/messages")


def _post(client: FlaskClient, path: str, body: bytes, encoding: str) -> Any:
    return client.post(path, data=body, headers={"Content-Encoding": encoding})


def _message(response: Any) -> str:
    error = response.get_json()["error"]
    return str(error if isinstance(error, str) else error["message"])


def _zstd(body: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(body)


def _zstd_in_frames(body: bytes) -> bytes:
    return _zstd(body[:7]) + _zstd(body[7:])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("zstd", _zstd),
        ("ZSTD", _zstd_in_frames),
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("identity", bytes),
    ],
)
def test_compressed_bodies_are_read(
    make_client: MakeClient, path: str, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    client, engine = make_client()
    response = _post(client, path, compress(json.dumps(CHAT | {"max_tokens": 5}).encode()), encoding)
    assert response.status_code == 200, response.text
    assert engine.requests[0].model.name == "hugging-llama/demo:latest"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("encoding", "body", "said"),
    [
        ("br", b"x", "Content-Encoding 'br' is not supported: send the body as it is, or with gzip or x-gzip or zstd"),
        ("gzip, zstd", b"x", "is not supported"),
        ("zstd", b"no frame", "the request body is not valid zstd"),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-4], "the request body is not valid gzip"),
        ("gzip", gzip.compress(b"{}", mtime=0) * 2, "the request body is not valid gzip"),
        ("gzip", b"", "the request body is not valid gzip"),
        ("gzip", b"{}", "the request body is not valid gzip"),
        ("zstd", _zstd(b'{"model": "x"}')[:-3], "the request body is not valid zstd"),
        ("zstd", _zstd(b'{"model": "x"}')[:8], "the request body is not valid zstd"),
        ("zstd", _zstd_in_frames(b'{"model": "x"}')[:-3], "the request body is not valid zstd"),
        ("zstd", _zstd_in_frames(json.dumps(CHAT).encode()) + b"tail", "the request body is not valid zstd"),
    ],
)
def test_what_cant_be_decompressed_is_refused(
    make_client: MakeClient, path: str, encoding: str, body: bytes, said: str
) -> None:
    response = _post(make_client()[0], path, body, encoding)
    assert response.status_code == 400
    assert said in _message(response)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("compress", [_zstd, gzip.compress])
def test_a_bomb_is_refused(make_client: MakeClient, path: str, compress: Callable[[bytes], bytes]) -> None:
    body = compress(b" " * (MAX_DECOMPRESSED_BYTES + 1))
    assert len(body) < 100_000
    response = _post(make_client()[0], path, body, "zstd" if compress is _zstd else "gzip")
    assert response.status_code == 413
    assert str(MAX_DECOMPRESSED_BYTES) in _message(response)


def test_a_frame_that_wants_much_memory_is_refused(make_client: MakeClient) -> None:
    params = zstandard.ZstdCompressionParameters(window_log=26)
    compressor = zstandard.ZstdCompressor(compression_params=params).compressobj()
    body = compressor.compress(json.dumps(CHAT).encode()) + compressor.flush()
    response = _post(make_client()[0], "/api/chat", body, "zstd")
    assert (response.status_code, _message(response)) == (400, "the request body is not valid zstd")


@pytest.mark.parametrize("path", PATHS)
def test_keys_match_in_any_case_and_the_last_one_counts(make_client: MakeClient, path: str) -> None:
    client, engine = make_client()
    body = (
        {"max_tokens": 5} | {key.upper(): value for key, value in CHAT.items()} | {"Model": "nobody", "mODEL": "demo"}
    )
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    assert response.content_type.startswith("application/json")
    assert engine.requests[0].model.name == "hugging-llama/demo:latest"
    assert {"Model", "mODEL", "STREAM", "MESSAGES"}.isdisjoint(response.headers.get("X-Ignored-Fields", "").split(", "))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/api/chat", "json: cannot unmarshal array into Go value of type api.ChatRequest"),
        ("/api/generate", "json: cannot unmarshal array into Go value of type api.GenerateRequest"),
        ("/v1/chat/completions", "the request body must be an object"),
    ],
)
def test_a_body_that_is_no_object(make_client: MakeClient, path: str, text: str) -> None:
    response = _post(make_client()[0], path, b"[1]", "")
    assert (response.status_code, _message(response)) == (400, text)


def test_the_limit_of_a_route_holds_for_what_it_says(make_client: MakeClient) -> None:
    client, _ = make_client(max_body_bytes=1000)
    response = _post(client, "/api/chat", _zstd(b" " * 1001), "zstd")
    assert response.status_code == 413
    assert _message(response) == "the request body is larger than 1000 bytes"


@pytest.mark.parametrize("path", ["/", "/api/tags", "/v1/models", "/nowhere", "/health"])
def test_every_answer_has_a_request_id(make_client: MakeClient, path: str) -> None:
    client, _ = make_client()
    first, second = (client.get(path).headers["X-Request-ID"] for _ in range(2))
    assert first.startswith("req_")
    assert first != second
    assert client.get(path, headers={"X-Request-ID": "of-mine.1"}).headers["X-Request-ID"] == "of-mine.1"


@pytest.mark.parametrize("given", ["a b", "x" * 129, "é", ""])
def test_an_id_that_no_header_should_hold_is_replaced(make_client: MakeClient, given: str) -> None:
    found = make_client()[0].get("/", headers={"X-Request-ID": given}).headers["X-Request-ID"]
    assert found.startswith("req_")


def test_anthropics_clients_find_the_same_id_where_they_look(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[TextDelta("Hi"), GenerationError("broken")])
    body = CHAT | {"max_tokens": 5, "stream": True}
    streamed = client.post("/v1/messages", json=body, headers={"X-Request-ID": "abc"})
    assert streamed.headers["Request-Id"] == "abc"
    assert json.loads(streamed.text.splitlines()[-2].removeprefix("data: "))["request_id"] == "abc"
    refused = client.post("/v1/messages", json={}, headers={"X-Request-ID": "def"})
    assert refused.get_json()["request_id"] == refused.headers["Request-Id"] == "def"
    assert (
        client.post("/v1/messages/count_tokens", json=CHAT, headers={"X-Request-ID": "g"}).headers["Request-Id"] == "g"
    )


def test_the_log_names_the_request(make_client: MakeClient, caplog: pytest.LogCaptureFixture) -> None:
    client, _ = make_client(generate=[GenerationError("broken")])
    with caplog.at_level(logging.WARNING):
        assert client.post("/api/chat", json=CHAT, headers={"X-Request-ID": "abc"}).status_code == 500
    assert "(request abc)" in caplog.text


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost:3000", "https://127.0.0.1", "http://0.0.0.0:1", "app://obsidian.md", "tauri://localhost",
        "vscode-webview://1a2b", "file://x",
    ],
)  # fmt: skip
def test_local_pages_may_call(make_client: MakeClient, origin: str) -> None:
    response = make_client()[0].get("/api/tags", headers={"Origin": origin})
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == origin
    assert response.headers["Vary"] == "Origin"
    assert "X-Request-ID" in response.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.com", "chrome-extension://abc", "http://localhost.evil.com", "null",
        "http://localhost:3000.evil.com", "http://localhost:@evil.com", "http://localhost:", "http://localhost:x",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/api/tags", "/nowhere"])
def test_other_pages_may_not(make_client: MakeClient, origin: str, path: str) -> None:
    client, engine = make_client()
    for response in (
        client.get(path, headers={"Origin": origin}),
        client.post("/api/chat", json=CHAT, headers={"Origin": origin}),
        client.options("/api/chat", headers={"Origin": origin}),
    ):
        assert (response.status_code, response.data) == (403, b"")
        assert "Access-Control-Allow-Origin" not in response.headers
    assert engine.requests == []


def test_the_same_origin_needs_no_leave(make_client: MakeClient) -> None:
    client, _ = make_client()
    response = client.get("/api/tags", headers={"Origin": "http://localhost:11434", "Host": "localhost:11434"})
    assert response.status_code == 200
    assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions", "/api/chat", "/nowhere"])
def test_a_preflight_lets_each_dialects_headers_in(make_client: MakeClient, path: str) -> None:
    response = make_client()[0].options(path, headers={"Origin": "http://localhost:5173"})
    assert (response.status_code, response.data) == (204, b"")
    assert response.headers["Access-Control-Allow-Origin"] == "http://localhost:5173"
    assert response.headers["Access-Control-Allow-Methods"] == "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
    assert response.headers["Access-Control-Max-Age"] == "43200"
    allowed = response.headers["Access-Control-Allow-Headers"].split(",")
    wanted = {
        "authorization", "content-type", "openai-beta", "x-stainless-os", "x-stainless-helper", "x-api-key",
        "anthropic-version", "anthropic-beta", "anthropic-workspace-id", "anthropic-user-profile-id", "traceparent",
    }  # fmt: skip
    assert wanted <= set(allowed)


def test_a_preflight_lets_later_headers_of_the_official_clients_in(make_client: MakeClient) -> None:
    asked = "X-Stainless-New, x-stainless-os,x-other, x-stainless-a b"
    headers = {"Origin": "http://localhost:5173", "Access-Control-Request-Headers": asked}
    response = make_client()[0].options("/v1/messages", headers=headers)
    allowed = response.headers["Access-Control-Allow-Headers"].split(",")
    assert "x-stainless-new" in allowed
    assert len(set(allowed)) == len(allowed)
    assert not {"x-other", "x-stainless-a b"} & set(allowed)


@pytest.mark.parametrize("host", ["localhost:11434", "box.local", "API.Internal:1"])
@pytest.mark.parametrize("path", ["/api/chat", "/nowhere"])
def test_options_for_a_name_of_a_loopback_server_need_no_page(make_client: MakeClient, host: str, path: str) -> None:
    loopback = {"SERVER_NAME": "127.0.0.1"}
    response = make_client()[0].options(path, headers={"Host": host}, environ_overrides=loopback)
    assert (response.status_code, response.data) == (204, b"")


@pytest.mark.parametrize(
    ("host", "server"), [("127.0.0.1", "127.0.0.1"), ("[::1]:80", "::1"), ("localhost", "0.0.0.0")]
)
def test_options_are_else_a_method_that_no_path_has(make_client: MakeClient, host: str, server: str) -> None:
    bound = {"SERVER_NAME": server}
    response = make_client()[0].options("/api/chat", headers={"Host": host}, environ_overrides=bound)
    assert (response.status_code, response.text) == (405, "405 method not allowed")


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.com"}, {"Host": "evil.com"}, {"Origin": "app://x"}])
def test_answers_of_the_gate_have_no_body_and_no_type_of_one(make_client: MakeClient, headers: dict[str, str]) -> None:
    loopback = {"SERVER_NAME": "127.0.0.1"}
    response = make_client()[0].options("/api/chat", headers=headers, environ_overrides=loopback)
    assert (response.status_code, response.data) == (204 if headers == {"Origin": "app://x"} else 403, b"")
    assert "Content-Type" not in response.headers


def test_the_operator_can_let_in_more(make_client: MakeClient) -> None:
    client, _ = make_client(origins=("https://*.example.com", "chrome-extension://*"))
    for origin, status in [
        ("https://a.example.com", 200),
        ("https://example.com", 403),
        ("chrome-extension://x", 200),
        ("http://localhost", 200),
    ]:
        assert client.get("/", headers={"Origin": origin}).status_code == status, origin
    everybody, _ = make_client(origins=("*",))
    response = everybody.get("/", headers={"Origin": "https://evil.com"})
    assert (response.status_code, response.headers["Access-Control-Allow-Origin"]) == (200, "*")


@pytest.mark.parametrize("text", ["https://*.a.*", "example.com", "ftp://x"])
def test_origins_that_cant_be_meant_stop_the_start(text: str) -> None:
    with pytest.raises(ConfigError, match="HUGGING_LLAMA_ORIGINS"):
        load_settings(environ={"HUGGING_LLAMA_ORIGINS": text})


def test_ollamas_variable_names_origins_too() -> None:
    found = load_settings(environ={"OLLAMA_ORIGINS": "http://a.com, app://*"}).origins
    assert found == ("http://a.com", "app://*")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:11434", 200), ("127.0.0.1", 200), ("[::1]:11434", 200), ("192.168.1.20:80", 200), ("10.1.2.3", 200),
        ("box.local", 200), ("API.Internal:1", 200), ("a.localhost", 200), ("0.0.0.0", 200),
        ("evil.com", 403), ("8.8.8.8", 403), ("localhost.evil.com", 403), ("local", 403), ("[2001:db9::1]", 403),
    ],
)  # fmt: skip
def test_a_loopback_server_goes_by_its_own_names(make_client: MakeClient, host: str, status: int) -> None:
    client, _ = make_client()
    loopback = {"SERVER_NAME": "127.0.0.1"}
    for path in ("/api/tags", "/nowhere"):
        response = client.get(path, headers={"Host": host}, environ_overrides=loopback)
        assert response.status_code == (404 if status == 200 and path == "/nowhere" else status)
    anywhere = client.get("/api/tags", headers={"Host": host}, environ_overrides={"SERVER_NAME": "0.0.0.0"})
    assert anywhere.status_code == 200


@pytest.mark.parametrize("host", [".local", "a..local", "x" * 70 + ".local"])
def test_a_name_that_no_host_can_have_is_no_page_of_html(make_client: MakeClient, host: str) -> None:
    for path in ("/api/tags", "/nowhere"):
        response = make_client()[0].get(path, headers={"Host": host}, environ_overrides={"SERVER_NAME": "127.0.0.1"})
        assert (response.status_code, response.text) == (400, "400 bad request: malformed Host header")
        assert response.mimetype == "text/plain"


def test_a_refusal_is_in_the_log_once(make_client: MakeClient, caplog: pytest.LogCaptureFixture) -> None:
    client, _ = make_client()
    for _ in range(3):
        client.get("/", headers={"Origin": "https://evil.com"})
    assert caplog.text.count("https://evil.com") == 1
