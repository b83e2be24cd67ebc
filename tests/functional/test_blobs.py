"""HEAD and POST /api/blobs on the wire."""

import contextlib
import hashlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import make_server

from hugging_llama import create_app
from hugging_llama.store import blobs as blobs_module
from hugging_llama.testing import ScriptedEngine
from hugging_llama_config.settings import Settings
from tests.functional.conftest import MakeClient

CONTENT = b"not JSON \0" * 200_000
HEX = hashlib.sha256(CONTENT).hexdigest()
DIGEST = f"sha256:{HEX}"


def blobs(settings: Settings) -> list[str]:
    folder = Path(settings.home, "blobs")
    return os.listdir(folder) if folder.exists() else []


def test_upload_and_look(make_client: MakeClient, settings: Settings) -> None:
    client, _ = make_client()
    assert client.head(f"/api/blobs/{DIGEST}").status_code == 404
    made = client.post(f"/api/blobs/{DIGEST}", data=CONTENT, content_type="application/json")
    assert (made.status_code, made.data, "Content-Type" in made.headers) == (201, b"", False)
    again = client.post(f"/api/blobs/{DIGEST}", data=b"whatever")
    assert (again.status_code, again.data) == (200, b"")
    assert Path(settings.home, "blobs", HEX).read_bytes() == CONTENT
    assert blobs(settings) == [HEX]
    for spelt in (DIGEST, f"sha256-{HEX}"):
        assert client.head(f"/api/blobs/{spelt}").status_code == 200
    assert client.post(f"/api/blobs/sha256-{HEX}", data=b"").status_code == 200
    assert client.get(f"/api/blobs/{DIGEST}").status_code == 405


def test_other_contents_are_refused(make_client: MakeClient, settings: Settings) -> None:
    client, _ = make_client()
    other = f"sha256:{'0' * 64}"
    response = client.post(f"/api/blobs/{other}", data=CONTENT)
    assert response.status_code == 400
    assert response.get_json() == {"error": f'digest mismatch, expected "{other}", got "{DIGEST}"'}
    dashed = client.post(f"/api/blobs/sha256-{HEX}", data=CONTENT)
    assert (dashed.status_code, "digest mismatch" in dashed.text) == (400, True)
    assert blobs(settings) == []


@pytest.mark.parametrize(
    "digest",
    [
        "x", "sha256:", HEX, f"sha1:{HEX}", f"sha256:{HEX[:-1]}", f"sha256:{HEX}0", f"sha256:{HEX.upper()}",
        f"sha256:{'٠' * 64}", f"sha256:{HEX}%0a", "sha256:..", f"sha256_{HEX}", f"sha256:{'g' * 64}",
    ],
)  # fmt: skip
def test_bad_digests(make_client: MakeClient, digest: str, settings: Settings) -> None:
    client, _ = make_client()
    assert client.head(f"/api/blobs/{digest}").status_code == 400
    response = client.post(f"/api/blobs/{digest}", data=CONTENT)
    assert (response.status_code, response.get_json()) == (400, {"error": "invalid digest format"})
    for hostile in (f"sha256:../{HEX}", "sha256:%2e%2e%2f%2e%2e%2fetc", "..%2f..%2fx"):
        assert client.post(f"/api/blobs/{hostile}", data=CONTENT).status_code in (400, 404)
    assert blobs(settings) == []


def test_more_than_the_server_takes(make_client: MakeClient, settings: Settings) -> None:
    client, _ = make_client(max_blob_bytes=len(CONTENT) - 1, max_body_bytes=10)
    response = client.post(f"/api/blobs/{DIGEST}", data=CONTENT)
    assert (response.status_code, "larger than" in response.get_json()["error"]) == (413, True)
    chunked = {"input_stream": BytesIO(CONTENT), "environ_overrides": {"wsgi.input_terminated": True}}
    assert client.post(f"/api/blobs/{DIGEST}", **chunked).status_code == 413
    assert blobs(settings) == []
    client, _ = make_client(max_blob_bytes=len(CONTENT), max_body_bytes=10)
    chunked["input_stream"] = BytesIO(CONTENT)
    assert client.post(f"/api/blobs/{DIGEST}", **chunked).status_code == 201


def test_a_disk_without_room(make_client: MakeClient, settings: Settings) -> None:
    client, _ = make_client()
    Path(settings.home).mkdir(parents=True)
    usage = os.statvfs(settings.home)
    size = usage.f_bavail * usage.f_frsize + 2**40 - 1
    client, _ = make_client(max_blob_bytes=2 * size)
    said = {"CONTENT_LENGTH": str(size)}
    response = client.post(f"/api/blobs/{DIGEST}", input_stream=BytesIO(b"x"), environ_overrides=said)
    assert response.status_code == 500, response.text
    assert "not enough disk space for the file" in response.get_json()["error"]
    assert settings.home not in response.text
    client, _ = make_client(home="")
    response = client.post(f"/api/blobs/{DIGEST}", data=CONTENT)
    assert (response.status_code, "HUGGING_LLAMA_HOME" in response.text) == (400, True)


def test_an_application_that_mounts_us_may_limit_its_own_requests(settings: Settings) -> None:
    app = create_app(settings, engine=ScriptedEngine())
    app.config["MAX_CONTENT_LENGTH"] = 10
    assert app.test_client().post(f"/api/blobs/{DIGEST}", data=CONTENT).status_code == 201


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when something of an upload is on the disk."""
    written, write = threading.Event(), blobs_module._hash_and_write

    def hash_and_write(*args: Any) -> None:
        write(*args)
        written.set()

    monkeypatch.setattr(blobs_module, "_hash_and_write", hash_and_write)
    return written


@pytest.fixture
def port(settings: Settings) -> Iterator[int]:
    """A server of threads whose clients may be silent for a moment only."""
    app = create_app(replace(settings, max_blob_bytes=2**30, body_timeout_s=0.03), engine=ScriptedEngine())
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.port
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_client_that_stops_in_the_middle_leaves_nothing(
    port: int, settings: Settings, written: threading.Event
) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        head = f"POST /api/blobs/{DIGEST} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(CONTENT)}\r\n\r\n"
        with contextlib.suppress(ConnectionError):
            client.sendall(head.encode() + CONTENT[:-1])
            while client.recv(4096):  # until the server has had enough
                pass
    assert written.wait(60)
    assert blobs(settings) == []


@pytest.mark.parametrize("length", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
def test_a_client_that_is_too_slow_is_told(port: int, settings: Settings, length: str) -> None:
    """As on other routes: one that is silent is still there, and reads what is said to it."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(f"POST /api/blobs/{DIGEST} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n\r\n1\r\nx\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == b"408", answer
    assert json.loads(body) == {"error": "the request body did not come in time"}
    assert blobs(settings) == []
