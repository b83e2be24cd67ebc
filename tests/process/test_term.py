"""TERM while a model loads, one is pulled and one is converted: everybody gets an end, and nobody stays."""

import hashlib
import io
import json
import signal
import sys
import threading
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import requests
import torch

from tests.hub_server import Repo, StandInHub
from tests.live_server import LiveServer, live_server
from tests.process.servers import HERE, is_alive, wait_until
from tests.process.test_pulls import _downloads
from tests.store import models

GUNICORN = [sys.executable, "-m", "gunicorn", "-c", str(HERE / "scripted_gunicorn.py"), "hugging_llama:create_app()"]


def tags(url: str) -> list[str]:
    return [model["name"] for model in requests.get(f"{url}/api/tags", timeout=60).json()["models"]]


def num_served(server: LiveServer) -> int:
    """The connections that its workers have accepted and that are open."""
    port = int(server.url.rpartition(":")[2])
    return sum(
        connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == port
        for worker in psutil.Process(server.process.pid).children()
        for connection in worker.net_connections("tcp")
    )


class Caller:
    """Posts in a thread; `lines` are what came, `failure` what went wrong at the connection."""

    def __init__(self, url: str, body: object) -> None:
        self.status = 0
        self.lines: list[dict[str, object]] = []
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._post, args=(url, body))
        self._thread.start()

    def _post(self, url: str, body: object) -> None:
        try:
            with requests.post(url, json=body, stream=True, timeout=60) as response:
                self.status = response.status_code
                for line in response.iter_lines():
                    self.lines.append(json.loads(line))
        except Exception as error:
            self.failure = error

    def end(self) -> dict[str, object]:
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self.failure is None
        return self.lines[-1]


def pickled(server: LiveServer) -> dict[str, str]:
    """The uploaded files of a model that must be converted."""
    weights = io.BytesIO()
    torch.save({"w": torch.ones(4)}, weights)
    files = {}
    for name, content in (("config.json", b"{}"), ("pytorch_model.bin", weights.getvalue())):
        files[name] = f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert requests.post(f"{server.url}/api/blobs/{files[name]}", data=content, timeout=20).ok
    return files


def conversions(server: LiveServer) -> list[psutil.Process]:
    children = psutil.Process(server.process.pid).children(recursive=True)
    return [child for child in children if "hugging_llama.engine.conversion" in child.cmdline()]


def test_term_while_models_are_pulled_loaded_and_converted(tmp_path: Path) -> None:
    # the scripted engine never ends the load of a folder with this name
    folder = tmp_path / "models" / "never"
    folder.mkdir(parents=True)
    for name, content in models.chat_model().items():
        if name in ("config.json", "tokenizer.json", "model.safetensors"):
            (folder / name).write_bytes(content)
    with StandInHub() as hub:
        hub.repos["acme/slow"] = Repo(models.chat_model(20_000_000))
        hub.fault("/_cdn/", "stall", 1_000_000, times=99)
        settings = {"hub_endpoint": hub.endpoint, "model_dirs": str(tmp_path / "models"), "allow_pickle": "true"}
        with live_server(tmp_path, tmp_path / "hub", GUNICORN, **settings, graceful_timeout_s="8") as server:
            pull = Caller(f"{server.url}/api/pull", {"model": "acme/slow"})
            (name,) = [n for n in tags(server.url) if "never" in n]
            load = Caller(f"{server.url}/api/generate", {"model": name})
            wait_until(lambda: any(line.get("completed") for line in pull.lines))
            wait_until(lambda: num_served(server) == 2)
            downloads = _downloads(server)
            assert len(downloads) == 1
            files = pickled(server)
            made = Caller(f"{server.url}/api/create", {"model": "made", "files": files})
            wait_until(lambda: bool(conversions(server)), 20)
            (converting,) = conversions(server)
            converting.send_signal(signal.SIGSTOP)  # it never ends by itself
            waiting = Caller(f"{server.url}/api/create", {"model": "other", "files": files})
            wait_until(lambda: any("waiting" in str(line) for line in waiting.lines), 20)
            server.process.terminate()
            assert server.process.wait(60) == 0
            assert "error" in pull.end()
            for creation in (made, waiting):
                assert "shutting down" in str(creation.end())
            assert not is_alive(converting.pid)
            assert not list((tmp_path / ".cache").rglob("conversions/*"))
            assert "shutting down" in str(load.end())
            assert load.status == 503
            wait_until(lambda: not any(map(is_alive, downloads)))
        assert not list((tmp_path / "hub").rglob("snapshots/*"))
