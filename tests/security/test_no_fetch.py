"""Rows S9 and P6: whatever address a request names, and wherever, nothing is fetched from it."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from hugging_llama.store.hub_http import HubAccess, HubHttp
from hugging_llama.store.retry import RetryPolicy, TransientError
from tests.functional.field_probes import ENDPOINTS, Endpoint, World
from tests.hub_server import StandInHub
from tests.live_server import LiveServer, live_server


class Trap:
    """A port that counts who connects."""

    def __init__(self) -> None:
        self.num_connections = 0
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        self._thread = threading.Thread(target=self._count)
        self._thread.start()

    def _count(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._sock.accept()
                self.num_connections += 1
                connection.close()

    def close(self) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._sock.close()


@pytest.fixture(scope="module")
def trap() -> Iterator[Trap]:
    trap = Trap()
    yield trap
    trap.close()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """With the real engine: what it is given must not make it reach out either."""
    folder = tmp_path_factory.mktemp("live")
    with live_server(folder, folder / "hub", hub_endpoint="http://127.0.0.1:9", workers="1") as running:
        yield running


def _urls(trap: Trap) -> list[str]:
    place = f"127.0.0.1:{trap.port}"
    return [
        f"http://{place}/a.png", f"https://{place}/a.png", f"ftp://{place}/a", f"//{place}/a", f"{place}/a/b",
        f"http://localhost:{trap.port}/a", f"http://[::ffff:127.0.0.1]:{trap.port}/a", f"http://0x7f.1:{trap.port}/",
        f"http://huggingface.co@{place}/a", f"localhost:{trap.port}/a/b:latest", f"hf://{place}/a", f"git+ssh://{place}",
        f"jar:http://{place}!/a", f"http://127.0.0.1:{trap.port}#@huggingface.co/", f"hf.co@{place}/a/b",
        "file:///etc/passwd", "data:image/png;base64,aGk=",
    ]  # fmt: skip


def _shapes(url: str) -> Iterator[Any]:
    """Where a field of one of the dialects has an address, or where some server has been known to look for one."""
    yield url
    yield [url]
    yield {"url": url, "$ref": url, "$schema": url, "$id": url, "type": "object"}
    yield {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": url}}, "schema": {"$ref": url}}
    parts = [
        {"type": "text", "text": "hi"},
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "image_url", "image_url": url},
        {"type": "input_image", "image_url": url},
        {"type": "input_file", "file_url": url},
        {"type": "input_audio", "input_audio": {"data": url, "format": "wav"}},
        {"type": "video_url", "video_url": {"url": url}},
        {"type": "image", "source": {"type": "url", "url": url}},
        {"type": "document", "source": {"type": "url", "url": url}},
    ]
    for part in parts:
        yield [{"role": "user", "content": [part]}]
    yield [{"role": "user", "content": f"see {url}", "images": [url]}]
    yield [{"type": "function", "function": {"name": "f", "parameters": {"$ref": url}}, "server_url": url}]
    yield [{"type": "mcp", "server_label": "x", "server_url": url}]
    yield [{"name": "f", "input_schema": {"$ref": url}, "type": "url", "url": url}]
    yield [{"url": url, "text": url, "content": url}]


def _headers(url: str) -> dict[str, str]:
    names = ("Referer", "X-Forwarded-Host", "X-Original-URL", "X-Rewrite-URL", "Forwarded", "X-HF-Endpoint", "Link")
    return dict.fromkeys(names, url)


TRANSFERS = {"/api/pull", "/api/push"}  # with a good name they ask the Hub


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.path)
def test_p6_no_field_is_an_address(world: World, trap: Trap, endpoint: Endpoint) -> None:
    base = {**endpoint.base, **({"model": ".."} if endpoint.path in TRANSFERS else {})}
    urls = _urls(trap)
    for number, name in enumerate(endpoint.fields):
        for value in (*urls, *_shapes(urls[number % len(urls)])):
            response = world.client.open(
                endpoint.path, method=endpoint.method, json=base | {name: value}, headers=_headers(urls[0])
            )
            assert response.status_code < 500 or endpoint.path in TRANSFERS, (name, value, response.text)
    assert trap.num_connections == 0


SEEN_BY_THE_ENGINE = {
    "/api/chat": ("messages", "tools", "format"),
    "/api/generate": ("prompt", "template", "format", "images"),
    "/v1/chat/completions": ("messages", "tools", "response_format"),
    "/v1/responses": ("input", "tools", "text"),
    "/v1/messages": ("messages", "tools", "output_config"),
}


@pytest.mark.parametrize("endpoint", [e for e in ENDPOINTS if e.path in SEEN_BY_THE_ENGINE], ids=lambda e: e.path)
def test_p6_nor_is_what_a_model_is_given(live: LiveServer, trap: Trap, endpoint: Endpoint) -> None:
    base = {**endpoint.base, "options": {"num_predict": 1}, "max_tokens": 1, "max_output_tokens": 1}
    for name in SEEN_BY_THE_ENGINE[endpoint.path]:
        for value in _shapes(_urls(trap)[0]):
            response = requests.post(live.url + endpoint.path, json=base | {name: value}, timeout=60)
            assert response.status_code < 500, (name, value, response.text)
    assert trap.num_connections == 0


NAMES = (
    "169.254.169.254/latest", "169.254.169.254/latest/meta-data", "localhost:{port}/x", "127.0.0.1:{port}/a",
    "127.0.0.1:{port}/a/b", "http://127.0.0.1:{port}/a/b", "https://127.0.0.1:{port}/a/b", "[::1]:{port}/a/b",
    "2130706433:{port}/a", "0:{port}/a", "localhost.:{port}/a/b", "hf.co@127.0.0.1:{port}/a/b", "hf.co:{port}/a/b",
    "hf.co/127.0.0.1:{port}/a", "registry.ollama.ai:{port}/library/a", "0x7f000001:{port}/a/b",
)  # fmt: skip


@pytest.mark.parametrize("path", ["pull", "push", "create", "show"])
def test_s9_a_name_chooses_no_host(live: LiveServer, trap: Trap, path: str) -> None:
    for pattern in NAMES:
        name = pattern.format(port=trap.port)
        body = {"model": name, "from": name, "remote": True, "insecure": False, "stream": False}
        response = requests.post(f"{live.url}/api/{path}", json=body, timeout=60)
        assert response.status_code == 400, (name, response.text)
    assert trap.num_connections == 0


def test_s8_where_to_ask_for_a_token_is_not_the_hubs_to_say(hub: StandInHub, trap: Trap) -> None:
    """A realm in a 401 was where Ollama's token went."""
    realm = {"WWW-Authenticate": f'Bearer realm="http://127.0.0.1:{trap.port}/token",service="x"'}
    http = HubHttp(HubAccess(endpoint=hub.endpoint, token="hf_good"), RetryPolicy())
    for status in (401, 403, 503):
        hub.fault("/api/models/", "status", status, 1, **realm)
        url = f"{hub.endpoint}/api/models/acme/x/revision/main"
        with contextlib.suppress(TransientError), http.get(url) as reply:
            assert reply.headers["WWW-Authenticate"] == realm["WWW-Authenticate"]
    http.close()
    assert trap.num_connections == 0
    assert len(hub.seen) == 3


def test_a_trap_counts(trap: Trap, tmp_path: Path) -> None:
    """Last, as the others want none."""
    before = trap.num_connections
    with contextlib.suppress(requests.RequestException):
        requests.get(f"http://127.0.0.1:{trap.port}/", timeout=60)
    assert trap.num_connections > before
