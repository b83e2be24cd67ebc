"""Admission with real models, in a memory that a test can make small."""

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hugging_llama.engine import memory
from hugging_llama.engine.instances import State
from hugging_llama.errors import InsufficientMemoryError
from hugging_llama.neutral.events import Finished, Loaded, Progress, Started
from hugging_llama.neutral.models import ModelRef
from hugging_llama_config.model_memory import least_load_bytes
from tests.engine.checkpoints import make_checkpoint
from tests.engine.clients import DEMO_REF, EMBED_REF, WAIT_S, Clients
from tests.process.servers import wait_until


class SmallMemory:
    """As if the device had `num_bytes`, of which loaded models take what they say that they hold."""

    def __init__(self, clients: Clients, num_bytes: int) -> None:
        self.clients = clients
        self.num_bytes = num_bytes

    def free_bytes(self, device: object) -> int:
        return self.num_bytes - sum(model.size_bytes for model in self.clients.engine._served)


@pytest.fixture
def clients() -> Iterator[Clients]:
    found = Clients()
    yield found
    found.engine.close()


@pytest.fixture
def other(tmp_path: Path) -> ModelRef:
    """A model of 13 MB, about as large as the demo model."""
    folder = make_checkpoint(tmp_path / "other", hidden_size=256, intermediate_size=1024, num_hidden_layers=3)
    return ModelRef(name="other", path=str(folder), quantization="none")


def _shrink(clients: Clients, monkeypatch: pytest.MonkeyPatch, num_bytes: int) -> None:
    monkeypatch.setattr(memory, "free_bytes", SmallMemory(clients, num_bytes).free_bytes)


def test_what_could_never_fit_is_refused(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    _shrink(clients, monkeypatch, 10_000_000)
    answer = clients.load(DEMO_REF)
    assert isinstance(answer, InsufficientMemoryError)
    assert answer.facts["free_bytes"] == 10_000_000
    size, runtime = clients.engine._loader.measure(DEMO_REF.path)
    assert answer.facts["need_bytes"] == least_load_bytes(size, runtime) > 14_887_936, "its weights in float32"
    assert "more system memory (0.0 GiB) than is available (0.0 GiB)" in answer.message
    assert clients.names == []


def test_an_idle_model_leaves_for_another(clients: Clients, other: ModelRef, monkeypatch: pytest.MonkeyPatch) -> None:
    demo_need, other_need = (clients.engine._memory_need(ref, None) for ref in (DEMO_REF, other))
    _shrink(clients, monkeypatch, demo_need.num_bytes + other_need.num_bytes)
    assert isinstance(clients.load(DEMO_REF), Loaded)
    assert isinstance(clients.load(other), Loaded)
    assert clients.names == ["demo", "other"], "both fit"
    _shrink(clients, monkeypatch, max(demo_need.num_bytes, other_need.num_bytes))
    clients.engine.unload(other)
    assert isinstance(clients.load(other), Loaded)
    assert clients.names == ["other"]


def test_a_load_waits_for_a_busy_model(clients: Clients, other: ModelRef, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = [clients.engine._memory_need(ref, None).least_bytes for ref in (DEMO_REF, other)]
    _shrink(clients, monkeypatch, max(needs))
    registry = clients.engine._registry
    is_there = threading.Event()
    busy = registry.acquire(
        dataclasses.replace(DEMO_REF, quantization="none"), keep_alive_s=None, on_ready=lambda ready: is_there.set()
    )
    assert is_there.wait(WAIT_S)
    asking = clients.send("x", other, tells_progress=True)
    waiting = clients.send("x", other)
    wait_until(lambda: registry._instances[other.identity].state is State.PARKED)
    assert not clients.has_ended(waiting)
    assert isinstance(clients.answers(clients.send("Hello!", DEMO_REF))[-1], Finished), "others are served meanwhile"
    registry.release(busy)
    assert isinstance(clients.answers(waiting)[-1], Finished)
    assert clients.names == ["other"]
    (began,) = [answer for answer in clients.answers(waiting) if isinstance(answer, Started)]
    assert began.queued is not None
    assert began.queued.position == 1
    assert began.queued.waited_ns > 0
    told = [answer for answer in clients.answers(asking) if isinstance(answer, Progress)]
    assert [(progress.phase, progress.position) for progress in told[:3]] == [("load", 0), ("queue", 1), ("load", 0)]
    assert told[1].expected_s > 0, "as long as the first load took"


def test_an_embedding_model_counts_in_float32(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    _shrink(clients, monkeypatch, 80_000_000)
    answer = clients.load(EMBED_REF)
    assert isinstance(answer, InsufficientMemoryError)
    assert answer.facts["need_bytes"] > 90_852_864


def test_a_thread_that_can_not_be_started_is_a_shortage(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    assert clients.text(clients.send("x"))

    def refused(_: threading.Timer) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Timer, "start", refused)
        (answer,) = clients.answers(clients.send("x"))
    assert isinstance(answer, InsufficientMemoryError)
    assert clients.text(clients.send("x"))
