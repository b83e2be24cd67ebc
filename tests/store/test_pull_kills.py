"""kill -9 of the process that downloads, again and again, at random bytes and at random moments between them."""

import contextlib
import hashlib
import random
import shutil
import threading
import urllib.parse
from collections.abc import Iterator

import pytest

from hugging_llama.errors import TransferError
from hugging_llama.store.pull_stream import PullStream, pull
from tests.hub_server import Fault, Repo
from tests.store import models
from tests.store.conftest import QUICK, Workplace

BYTES_PER_S = 20_000_000  # of each connection


def _repository() -> dict[str, bytes]:
    """20 MB in three files of weights that come at once, and small ones."""
    files = models.chat_model(9_000_000)
    one, two = (
        models.safetensors({name: ("BF16", (size // 2,))}, size) for name, size in (("a", 7_000_000), ("b", 4_000_000))
    )
    return files | {"modules.json": b"[]", "1_Dense/model.safetensors": one, "2_Dense/model.safetensors": two}


def _kept(files: dict[str, bytes]) -> dict[str, str]:
    names = models.KEPT | {"modules.json", "1_Dense/model.safetensors", "2_Dense/model.safetensors"}
    return {name: hashlib.sha256(files[name]).hexdigest() for name in names}


@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_killed_at_random(work: Workplace, kills: int) -> None:
    files = _repository()
    wanted = _kept(files)
    weights = {path: data for path, data in files.items() if path.endswith("model.safetensors")}
    size = sum(map(len, weights.values()))
    work.hub.repos["acme/tiny"] = Repo(files)
    dice, killed = random.Random(7), 0
    while killed < kills:
        shutil.rmtree(work.cache)
        work.cache.mkdir()
        killed_here = arrived = 0
        while not work.refs():
            work.hub.seen.clear()
            kept = {path: _num_kept(work, data) for path, data in weights.items()}
            work.hub.faults = [Fault("/_cdn/", "slow", BYTES_PER_S, 10_000)]
            stream = pull(work.settings, work.store, "acme/tiny", policy=QUICK)
            if dice.random() < 0.3:
                is_killed = _kill_after(stream, dice.uniform(0.0, 0.5))
            else:
                arrived, is_killed = _kill_at(stream, arrived + dice.randrange(size // 4))
            killed_here += is_killed
            assert is_killed or work.refs()
            # what is on disk is not asked for again; what was in the sockets of the killed is lost, however much
            assert all(kept[path] == start for path, start in _asked(work))
            if not work.refs():  # a model is there whole or not at all
                assert [model.ref.name for model in work.store.list()] == ["hugging-llama/demo:latest"]
        found = work.files("acme/tiny")
        assert {path: hashlib.sha256(data).hexdigest() for path, data in found.items()} == wanted
        assert work.parts() == []
        killed += killed_here


def _num_kept(work: Workplace, data: bytes) -> int:
    """How many bytes of this content are in the cache, under its name or as the beginning of it."""
    digest = hashlib.sha256(data).hexdigest()
    return max((path.stat().st_size for path in work.cache.rglob(f"blobs/{digest}*")), default=0)


def _asked(work: Workplace) -> list[tuple[str, int]]:
    """The files that were asked for, and from which byte on."""
    found = []
    for seen in work.hub.requests("GET /_cdn/"):
        path = urllib.parse.urlsplit(seen.path).path.split("/resolve/")[1].partition("/")[2]
        found.append((path, int(seen.range.removeprefix("bytes=").removesuffix("-") or 0)))
    return found


def _kill_at(stream: PullStream, num_bytes: int) -> tuple[int, bool]:
    """Kill the child once so many bytes are there; how many were, and whether it died of that."""
    arrived = 0
    with _death() as death:
        for event in stream:
            arrived = max(arrived, event.overall_completed_bytes)
            if event.overall_total_bytes and arrived >= num_bytes:
                _kill(stream)
    return arrived, bool(death)


def _kill_after(stream: PullStream, seconds: float) -> bool:
    next(stream)
    timer = threading.Timer(seconds, _kill, (stream,))
    timer.start()
    with _death() as death:
        list(stream)
    timer.join()
    return bool(death)


def _kill(stream: PullStream) -> None:
    if connection := stream._connection:
        connection._child.kill()


@contextlib.contextmanager
def _death() -> Iterator[list[TransferError]]:
    """Takes the error of a pull whose process ended, and no other."""
    found: list[TransferError] = []
    try:
        yield found
    except TransferError as error:
        if error.facts["cause"] != "process ended":
            raise
        found.append(error)
