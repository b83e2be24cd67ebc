"""A server all of whose files lie on a disk that is full: it serves on, says what it can't keep, and recovers."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import requests

from tests.hub_server import Repo, StandInHub
from tests.live_server import LiveServer, live_server
from tests.process.servers import HERE, wait_until
from tests.store import models

pytestmark = pytest.mark.slow

GUNICORN = [sys.executable, "-m", "gunicorn", "-c", str(HERE / "scripted_gunicorn.py"), "hugging_llama:create_app()"]
DEMO = "hugging-llama/demo"
CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB, as short as a socket's path must be."""
    place = tmp_path / "d"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("can't mount a file system here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """No byte is free inside the block."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (2**20, 4096):
            try:
                while True:
                    file.write(b"\1" * size)
            except OSError:
                pass
    assert os.statvfs(disk).f_bavail == 0
    try:
        yield
    finally:
        ballast.unlink()


def post(server: LiveServer, path: str, body: Any) -> requests.Response:
    return requests.post(server.url + path, json=body, timeout=60)


def speaks(server: LiveServer) -> bool:
    try:
        answer = post(server, "/api/generate", {"model": DEMO, "prompt": "n=3", "raw": True}).text
    except requests.ConnectionError:  # its worker was killed just now
        return False
    return answer.count("xxxxx") == 3 and '"done":true' in answer


def last_line(response: requests.Response) -> Any:
    return json.loads(response.text.splitlines()[-1])


def upload(server: LiveServer) -> requests.Response:
    digest = hashlib.sha256(CONTENT).hexdigest()
    return requests.post(f"{server.url}/api/blobs/sha256:{digest}", data=CONTENT, timeout=60)


def check_what_needs_no_disk(server: LiveServer) -> None:
    assert all(speaks(server) for _ in range(10))
    assert requests.get(f"{server.url}/metrics", timeout=60).status_code == 200
    assert requests.get(f"{server.url}/api/tags", timeout=60).ok
    answer = post(server, "/v1/responses", {"model": DEMO, "input": "x", "max_output_tokens": 16})
    assert answer.status_code < 500 or "error" in answer.json()


def test_a_full_disk(disk: Path) -> None:
    with StandInHub() as hub:
        hub.repos["acme/tiny"] = Repo(models.chat_model(2_000_000))
        settings = {"hub_endpoint": hub.endpoint, "run_dir": str(disk / "run")}
        with live_server(disk, disk / "hub", GUNICORN, **settings) as server:
            wait_until(lambda: speaks(server))
            with filled(disk):
                check_what_needs_no_disk(server)
                assert "space" in last_line(post(server, "/api/pull", {"model": "acme/tiny"}))["error"]
                refused = upload(server)
                assert refused.status_code >= 400
                assert "space" in refused.json()["error"]
                refused = post(server, "/api/copy", {"source": DEMO, "destination": "mine"})
                assert refused.status_code >= 400
                assert "space" in refused.json()["error"]
                # new ones need files of their own, of which there can be none
                for worker in psutil.Process(server.process.pid).children():
                    os.kill(worker.pid, signal.SIGKILL)
                    wait_until(lambda: speaks(server), 30)
                check_what_needs_no_disk(server)
            assert last_line(post(server, "/api/pull", {"model": "acme/tiny"}))["status"] == "success"
            assert upload(server).status_code == 201
            assert post(server, "/api/copy", {"source": DEMO, "destination": "mine"}).ok
            check_what_needs_no_disk(server)
            assert not [path for path in disk.rglob("*") if path.suffix in (".part", ".tmp")]
