"""Pulls through real servers: one transfer for all who wait, on any server, and a server that dies in the middle."""

import contextlib
import http.client
import json
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ollama
import psutil  # type: ignore[import-untyped]
import pytest

from tests.hub_server import Allowance, Fault, Repo, StandInHub
from tests.live_server import LiveServer, live_server
from tests.process.servers import HERE, is_alive, wait_until
from tests.store import models

GUNICORN = [sys.executable, "-m", "gunicorn", "-c", str(HERE / "scripted_gunicorn.py"), "hugging_llama:create_app()"]
SIZE = 6_000_000
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Place:
    """Two servers over one cache and one Hub; the first may be killed."""

    hub: StandInHub
    cache: Path
    one: LiveServer
    two: LiveServer


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("pulls")
    with StandInHub() as hub, contextlib.ExitStack() as stack:

        def start(name: str) -> LiveServer:
            (folder / name).mkdir()
            server = live_server(folder / name, folder / "hub", GUNICORN, hub_endpoint=hub.endpoint)
            return stack.enter_context(server)

        with ThreadPoolExecutor() as pool:
            one, two = pool.map(start, ("one", "two"))
        yield Place(hub, folder / "hub", one, two)


@pytest.fixture
def hub(place: Place) -> StandInHub:
    place.hub.seen.clear()
    place.hub.faults = []
    return place.hub


class _Waiter:
    """A client that pulls; `events` are what it has seen so far."""

    def __init__(self, server: LiveServer, model: str) -> None:
        self.events: list[dict[str, Any]] = []
        self._connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=120)
        self._connection.connect()
        self._socket = self._connection.sock
        self._connection.request("POST", "/api/pull", json.dumps({"model": model}))
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        left = contextlib.suppress(OSError, http.client.HTTPException)
        with contextlib.closing(self._connection), left, self._connection.getresponse() as response:
            for line in response:
                self.events.append(json.loads(line))

    def has_seen(self, num_bytes: int) -> bool:
        return any(event.get("completed", 0) >= num_bytes for event in self.events if event.get("file") == WEIGHTS)

    def most(self) -> int:
        return max(self.amounts(), default=0)

    def amounts(self) -> set[int]:
        return {event.get("completed", 0) for event in self.events if event.get("file") == WEIGHTS}

    def leave(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self.join()

    def join(self) -> None:
        self._thread.join(120)
        assert not self._thread.is_alive()


def _downloads(server: LiveServer) -> list[int]:
    """The processes that download for this server."""
    try:
        children = psutil.Process(server.process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [child.pid for child in children if "hugging_llama.store.pull_process" in _command(child)]


def _command(process: Any) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def test_waiters_of_two_servers_share_one_transfer(place: Place, hub: StandInHub) -> None:
    hub.repos["acme/tiny"] = Repo(models.chat_model(SIZE))
    allowance = Allowance(1_200_000)
    hub.faults = [Fault("/_cdn/", "held", allowance, 99)]
    waiters = [_Waiter(server, "acme/tiny") for server in (place.one, place.one, place.two)]
    wait_until(lambda: all(waiter.has_seen(1_000_000) for waiter in waiters))
    waiters[0].leave()
    wait_until(lambda: len(_downloads(place.one)) == len(_downloads(place.two)) == 1)
    for _ in range(4):  # whoever downloads, both see it grow
        seen = max(waiter.most() for waiter in waiters[1:])
        allowance.raise_by(600_000)
        wait_until(lambda: all(waiter.most() > seen for waiter in waiters[1:]))  # noqa: B023
    allowance.raise_to()
    for waiter in waiters[1:]:
        waiter.join()
        assert waiter.events[-1] == {"status": "success"}
        assert len({amount for amount in waiter.amounts() if 0 < amount < SIZE}) > 3
    _check_the_wire(waiters[1].events)
    weights = hub.repos["acme/tiny"].files[WEIGHTS]
    assert hub.sent() <= len(weights) + 10**6  # for the one who left
    assert _stored(place, "acme--tiny") == [weights]


def test_a_second_pull_moves_no_file(place: Place, hub: StandInHub) -> None:
    hub.repos["acme/again"] = Repo(models.chat_model())
    with ollama.Client(place.two.url) as client:
        assert client.pull("acme/again").status == "success"
        hub.seen.clear()
        events = list(client.pull("acme/again", stream=True))
        assert client.pull("acme/again").status == "success"
    assert events[-1].status == "success"
    assert hub.requests("/resolve/") == []
    transfers = [event for event in events if event.digest]
    assert len({event.digest for event in transfers}) == len(transfers) == len(models.KEPT)
    assert all(event.completed == event.total for event in transfers)


def test_a_server_that_is_killed(place: Place, hub: StandInHub) -> None:
    hub.repos["acme/late"] = Repo(models.chat_model(SIZE, seed=1))
    hub.faults = [Fault("/_cdn/", "held", Allowance(2_500_000))]
    waiter = _Waiter(place.one, "acme/late")
    wait_until(lambda: waiter.has_seen(2_300_000))
    (download,) = _downloads(place.one)
    master = psutil.Process(place.one.process.pid)
    for process in (master, *master.children()):  # not the download: it has to notice
        with contextlib.suppress(psutil.NoSuchProcess):  # without their master the others end by themselves
            process.kill()
    place.one.process.wait(60)
    wait_until(lambda: not is_alive(download))
    waiter.join()
    assert waiter.events[-1].get("status") == "downloading"
    with ollama.Client(place.two.url) as client:
        assert "acme/late:latest" not in [model.model for model in client.list().models]
        assert client.pull("acme/late").status == "success"
        assert "acme/late:latest" in [model.model for model in client.list().models]
    weights = hub.repos["acme/late"].files[WEIGHTS]
    assert hub.sent() <= len(weights) + 10**6
    assert _stored(place, "acme--late") == [weights]


def _stored(place: Place, repo: str) -> list[bytes]:
    """The weights that the cache shows; nothing may be half there."""
    assert not list(place.cache.rglob("*.part"))
    return [path.read_bytes() for path in place.cache.glob(f"models--{repo}/snapshots/*/{WEIGHTS}")]


def _check_the_wire(events: list[dict[str, Any]]) -> None:
    assert events[0] == {"status": "pulling manifest", "digest": ""}
    assert [event["status"] for event in events[-3:]] == ["verifying sha256 digest", "writing manifest", "success"]
    transfers = [event for event in events if event["status"] == "downloading"]
    total = transfers[0]["overall_total"]
    for event in transfers:
        assert event.keys() - {"completed"} == {
            "status", "path", "file", "digest", "total", "overall_total", "overall_completed"
        }  # fmt: skip
        assert event.get("completed", 1) > 0  # left out while it is 0, as Ollama does
        assert event["overall_total"] == total
    assert transfers[-1]["overall_completed"] == total
