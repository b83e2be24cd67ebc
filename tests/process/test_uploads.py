"""Uploads and creations on a real gunicorn: connections stay right, clients leave, servers are killed."""

import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import requests

from hugging_llama.store.local import Store
from hugging_llama_config.settings import Settings
from tests.hub_server import Repo, StandInHub
from tests.live_server import free_port
from tests.process.servers import HERE, wait_until
from tests.secrets_in_logs import check_no_secrets
from tests.store import models

CONTENT = bytes(range(256)) * 40_000  # 10 MB
HEX = hashlib.sha256(CONTENT).hexdigest()
PATH = f"/api/blobs/sha256:{HEX}"


@dataclass
class Server:
    """One gevent worker; `home` is where it keeps things."""

    port: int
    home: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def blobs(self) -> list[str]:
        return os.listdir(self.home / "blobs") if (self.home / "blobs").exists() else []

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def kill(self) -> None:
        for process in (*psutil.Process(self.process.pid).children(recursive=True), self.process):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def serve(folder: Path, **settings: str) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-k", "gevent", "--no-control-socket", "--log-level", "warning"]
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("OLLAMA_", "HF_", "HUGGING_"))}
    environ |= {"HOME": str(folder), "HUGGING_LLAMA_RUN_DIR": str(folder / "run"), **settings}
    log = folder / "server.log"
    with log.open("ab") as sink:  # a server that is killed is started again in the same folder
        process = subprocess.Popen(
            [*command, "-b", f"127.0.0.1:{port}", "library_app:app"],
            cwd=HERE,
            env=environ,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    server = Server(port, folder / ".cache" / "hugging-llama", process)

    def answers() -> bool:
        try:
            return requests.get(f"{server.url}/health", timeout=60).ok
        except requests.ConnectionError:
            return False

    try:
        wait_until(answers, 120)
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)  # without waiting for what still runs
            process.wait(60)
        check_no_secrets(log)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("uploads"), HUGGING_LLAMA_MAX_BLOB_BYTES="11MB") as running:
        yield running


@pytest.fixture(autouse=True)
def _empty(request: pytest.FixtureRequest) -> None:
    if "server" in request.fixturenames:
        found: Server = request.getfixturevalue("server")
        for name in found.blobs():
            (found.home / "blobs" / name).unlink()


def answer(connection: http.client.HTTPConnection) -> tuple[int, bytes]:
    response = connection.getresponse()
    return response.status, response.read()


def pieces(content: bytes) -> Iterator[bytes]:
    return (content[at : at + 100_000] for at in range(0, len(content), 100_000))


def test_one_connection_for_all(server: Server) -> None:
    """Known length and chunks, new and known contents, refused ones: the connection serves its next request."""
    with contextlib.closing(server.connect()) as connection:
        talk(server, connection)
        assert server.blobs() == [HEX]


def talk(server: Server, connection: http.client.HTTPConnection) -> None:
    connection.request("HEAD", PATH)
    assert answer(connection) == (404, b"")
    sock = connection.sock
    connection.request("POST", PATH, body=pieces(CONTENT), encode_chunked=True)
    assert answer(connection) == (201, b"")
    assert (server.home / "blobs" / HEX).read_bytes() == CONTENT
    for again in (CONTENT, pieces(CONTENT)):  # all of it is sent before the answer is read
        connection.request("POST", PATH, body=again, encode_chunked=not isinstance(again, bytes))
        assert answer(connection) == (200, b"")
    other = f"/api/blobs/sha256:{'0' * 64}"
    connection.request("POST", other, body=CONTENT)
    assert answer(connection)[0] == 400
    connection.request("POST", "/api/blobs/x", body=CONTENT)
    assert answer(connection) == (400, b'{"error":"invalid digest format"}')
    for much in (CONTENT * 2, pieces(CONTENT * 2)):
        connection.request("POST", other, body=much, encode_chunked=not isinstance(much, bytes))
        assert answer(connection)[0] == 413
    connection.request("GET", "/api/version")
    assert answer(connection)[0] == 200
    assert connection.sock is sock


def test_a_client_that_asks_before_it_sends(server: Server) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(CONTENT)}\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as sock:
        for status in (b"HTTP/1.1 201 ", b"HTTP/1.1 200 "):
            sock.sendall(head.encode())
            assert sock.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
            sock.sendall(CONTENT)
            assert status in sock.recv(4096)
    done = subprocess.run(
        ["curl", "-sf", "-T", "-", "-X", "POST", server.url + PATH, "-w", "%{http_code}"],
        input=CONTENT, capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == b"200"


@pytest.mark.parametrize("kind", ["Transfer-Encoding: chunked", f"Content-Length: {len(CONTENT)}"])
@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_leaves_in_the_middle(server: Server, kind: str, reset: bool) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as sock:
        sock.sendall(f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\n{kind}\r\n\r\n".encode())
        sock.sendall(b"500000\r\n" + CONTENT[: 3 * 2**20])
        wait_until(lambda: bool(server.blobs()))
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    wait_until(lambda: not server.blobs())
    assert requests.post(server.url + PATH, data=CONTENT, timeout=60).status_code == 201


def test_chunks_that_are_none(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as sock:
        sock.sendall(f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n".encode())
        assert sock.recv(4096).startswith(b"HTTP/1.1 400 ")
        while sock.recv(4096):
            pass
    assert server.blobs() == []


def upload(server: Server, contents: dict[str, bytes]) -> dict[str, str]:
    files = {path: f"sha256:{hashlib.sha256(content).hexdigest()}" for path, content in contents.items()}
    for path, digest in files.items():
        response = requests.post(f"{server.url}/api/blobs/{digest}", data=contents[path], timeout=60)
        assert response.status_code in (200, 201)
    return files


def create(server: Server, **body: Any) -> list[dict[str, Any]]:
    response = requests.post(f"{server.url}/api/create", json={"model": "mine", **body}, timeout=60)
    return [json.loads(line) for line in response.text.splitlines()]


def test_a_server_that_is_killed_has_nothing_half_made(tmp_path: Path) -> None:
    """In the middle of an upload, and of a creation that pulls its base."""
    kept = ("config.json", "tokenizer.json", "model.safetensors")
    contents = {path: content for path, content in models.chat_model(2_000_000).items() if path in kept}
    body = contents["model.safetensors"]
    digest = hashlib.sha256(body).hexdigest()
    with StandInHub() as hub:
        hub.repos["acme/tiny"] = Repo(models.chat_model(2_000_000))
        hub.fault("/_cdn/", "stall", 1_000_000)
        cache = str(tmp_path / "hub")
        settings = {"HUGGING_LLAMA_HUB_ENDPOINT": hub.endpoint, "HUGGING_LLAMA_HUB_CACHE": cache}
        with serve(tmp_path, **settings) as server:
            sock = socket.create_connection(("127.0.0.1", server.port), timeout=60)
            head = f"POST /api/blobs/sha256:{digest} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            sock.sendall(head.encode() + body[:-1])
            wait_until(lambda: bool(server.blobs()))
            url = f"{server.url}/api/create"
            making = requests.post(url, json={"model": "mine", "from": "acme/tiny"}, stream=True, timeout=60)
            lines = making.iter_lines(chunk_size=1)
            wait_until(lambda: b"downloading" in next(lines))
            server.kill()
            sock.close()
            making.close()
        store = Store(Settings(home=str(server.home), hub_cache=cache))
        assert [model.ref.name for model in store.list()] == ["hugging-llama/demo:latest"]
        assert not store.blobs.has(digest)
        with serve(tmp_path, **settings) as server:
            assert create(server, **{"from": "acme/tiny"})[-1] == {"status": "success"}
            files = upload(server, contents)
            assert create(server, model="other", files=files)[-1] == {"status": "success"}
        named = {model.ref.name for model in store.list()}
        assert named == {"hugging-llama/demo:latest", "acme/tiny:latest", "mine:latest", "other:latest"}
