"""How requests and models end in the whole engine: cancels, evictions, unloads, shutdown."""

import math
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hugging_llama.engine.loader import Checkpoint, Loader
from hugging_llama.errors import (
    EngineShutdownError,
    ProtocolError,
)
from hugging_llama.neutral.events import Finished, FinishReason
from hugging_llama.neutral.formats import JsonObject
from hugging_llama.neutral.models import ModelRef
from hugging_llama.neutral.requests import (
    LoadRequest,
)
from hugging_llama_config.settings import Settings
from tests.engine.checkpoints import byte_tokenizer, make_checkpoint
from tests.engine.clients import DEMO_REF, EMBED_REF, SETTINGS, WAIT_S, Clients, GatedLoad

FOR_EVER = {"max_tokens": None, "min_tokens": 100_000, "temperature": 1.0}


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    found = Clients()
    yield found
    found.engine.close()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    folder = make_checkpoint(
        tmp_path_factory.mktemp("models") / "tiny", byte_tokenizer(markers=("<think>", "</think>"))
    )
    return ModelRef(name="tiny", path=str(folder), digest="d" * 64)


def test_a_key_in_use_is_refused(tiny: ModelRef) -> None:
    gate = GatedLoad()
    clients = Clients(load=gate)
    key = clients.send("x", tiny)
    with pytest.raises(ProtocolError):
        clients.engine.load(key, LoadRequest(model=tiny))
    gate.may_go.set()
    assert clients.text(key) is not None
    clients.engine.close()


def test_cancel_in_the_middle(clients: Clients, tiny: ModelRef) -> None:
    key = clients.send("x", tiny, sampling=FOR_EVER)
    clients.wait_for_text(key)
    clients.engine.cancel(key)
    end = clients.answers(key)[-1]
    assert end == Finished(reason=FinishReason.ABORT, usage=end.usage) if isinstance(end, Finished) else False
    clients.engine.cancel(key)
    clients.engine.cancel((99, 99))


def test_cancel_during_a_load(tiny: ModelRef) -> None:
    gate = GatedLoad()
    clients = Clients(load=gate)
    stream, load = clients.send("x", tiny), clients.key()
    clients.engine.load(load, LoadRequest(model=tiny))
    gate.started.get(timeout=WAIT_S)
    assert clients.engine.loaded()[0].runner == "loading"
    assert clients.engine.status().num_waiting == 2
    clients.engine.cancel(stream)
    clients.engine.cancel(load)
    end = clients.answers(stream)[-1]
    assert isinstance(end, Finished)
    assert end.reason is FinishReason.ABORT
    gate.may_go.set()
    assert clients.text(clients.send("x", tiny)) is not None
    assert not clients.has_ended(load)
    assert clients.engine.loaded()[0].ref_count == 0
    clients.engine.close()


def test_a_connection_that_goes_takes_its_requests_along(clients: Clients, tiny: ModelRef) -> None:
    gone = [clients.send("x", tiny, connection=5, sampling=FOR_EVER) for _ in range(3)]
    stays = clients.send("x", tiny, connection=6)
    clients.engine.cancel_connection(5)
    assert clients.text(stays) is not None
    for key in gone:
        end = clients.answers(key)[-1]
        assert isinstance(end, Finished)
        assert end.reason is FinishReason.ABORT


def test_a_load_does_not_stall_the_streams_of_others(tiny: ModelRef) -> None:
    gate = GatedLoad()
    loader = Loader(SETTINGS)
    clients = Clients(load=lambda path, *rest: gate(path, *rest) if path == tiny.path else loader.load(path, *rest))
    clients.load(DEMO_REF)
    waiting = [clients.send("x", tiny) for _ in range(20)]
    gate.started.get(timeout=WAIT_S)
    assert clients.text(clients.send("Hi"))
    assert not any(clients.has_ended(key) for key in waiting)
    gate.may_go.set()
    assert len({clients.text(key) for key in waiting}) == 1
    assert gate.started.empty()
    clients.engine.close()


def test_keep_alive_eviction_and_unload(tiny: ModelRef, tmp_path: Path) -> None:
    clients = Clients(Settings(device="cpu", dtype="float32", kv_cache_bytes=2**24, max_loaded_models=2))
    other = ModelRef(name="other", path=str(make_checkpoint(tmp_path / "other")))
    clients.load(DEMO_REF, keep_alive_s=math.inf)
    clients.load(tiny)
    assert clients.names == ["demo", "tiny"]
    by_name = {model.name: model for model in clients.engine.loaded()}
    assert by_name["demo"].expires_at_s == math.inf
    assert by_name["tiny"].expires_at_s < math.inf
    clients.load(other)
    assert clients.names == ["demo", "other"]
    assert clients.text(clients.send("Hi", keep_alive_s=0.0))
    clients.engine.unload(other)
    clients.engine.unload(ModelRef(name="nowhere", path="/nowhere"))
    clients.load(other)  # waits for the unload before it
    counts = clients.engine.status()
    assert counts.output_tokens_total >= 8
    clients.engine.close()
    assert clients.names == []


def test_unloading_gives_the_weights_back(tiny: ModelRef) -> None:
    weights: list[weakref.ref[Any]] = []
    loader = Loader(SETTINGS)

    def load(path: str, quantization: str) -> Checkpoint:
        checkpoint = loader.load(path, quantization)
        weights.append(weakref.ref(checkpoint.model))
        return checkpoint

    clients = Clients(load=load)
    refs = [tiny, DEMO_REF, EMBED_REF]
    clients.text(clients.send("x", tiny, format=JsonObject()))
    clients.text(clients.send("x"))
    clients.embed(EMBED_REF, "x")
    for ref in refs:
        clients.engine.unload(ref)
    for ref in refs:
        clients.load(ref)  # waits for the unload before it
    assert [weight() is None for weight in weights] == [True] * 3 + [False] * 3
    clients.engine.close()


def test_a_short_keep_alive_runs_out(tiny: ModelRef) -> None:
    clients = Clients()
    is_unloaded = threading.Event()
    unload = clients.engine._registry._unload

    def watched(model: Any) -> None:
        unload(model)
        is_unloaded.set()

    clients.engine._registry._unload = watched
    clients.load(tiny, keep_alive_s=0.05)
    assert is_unloaded.wait(WAIT_S)
    clients.engine.close()


def test_close_ends_everything(tiny: ModelRef) -> None:
    gate = GatedLoad()
    loader = Loader(SETTINGS)
    clients = Clients(load=lambda path, *rest: gate(path, *rest) if path == tiny.path else loader.load(path, *rest))
    clients.load(DEMO_REF)
    running = clients.send("Hi", sampling={"max_tokens": None, "temperature": 1.0})
    loading = clients.send("x", tiny)
    gate.started.get(timeout=WAIT_S)
    closing = threading.Thread(target=clients.engine.close)
    closing.start()
    end = clients.answers(running)[-1]
    assert isinstance(end, Finished | EngineShutdownError)
    assert isinstance(clients.answers(loading)[-1], EngineShutdownError)
    late = clients.send("x", tiny)
    assert isinstance(clients.answers(late)[-1], EngineShutdownError)
    gate.may_go.set()  # the load that nobody waits for ends before the engine does
    closing.join(WAIT_S)
    assert not closing.is_alive()
    assert clients.names == []
