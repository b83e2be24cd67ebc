"""How long the engine's clients wait, and what they do where no engine answers."""

import contextlib
import math
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from flask import Flask

from hugging_llama import create_app, create_blueprint
from hugging_llama.client import remote as remote_module
from hugging_llama.client.local import LocalEngine
from hugging_llama.client.remote import RemoteEngine
from hugging_llama.client.streams import QueueStream, Waits
from hugging_llama.errors import EngineDiedError, GenerationError, ModelLoadError
from hugging_llama.neutral.events import GenerateEvent, Progress, TextDelta
from hugging_llama.neutral.models import ModelRef
from hugging_llama.neutral.requests import LoadRequest
from hugging_llama.operations import residency
from hugging_llama.operations.context import AppContext
from hugging_llama.web import health
from hugging_llama_config.launch import socket_path
from hugging_llama_config.settings import Settings
from tests.process.scripted_engine import ScriptedFacade
from tests.unit.clients_world import FOR_EVER, MODEL, listens, request, serving, short_run_dir, within


@pytest.fixture
def settings() -> Iterator[Settings]:
    with short_run_dir() as settings:
        yield settings


def test_the_first_and_the_next_event_have_time_limits(settings: Settings) -> None:
    # one limit at a time is short: what has to come in time is never what the short one is for
    at_first = replace(settings, first_event_timeout_s=0.2, idle_event_timeout_s=600.0)
    between = replace(settings, first_event_timeout_s=600.0, idle_event_timeout_s=0.1)
    with serving(settings):
        for limits, text, num_before in ((at_first, FOR_EVER, 0), (between, "n=5&tick_ms=600000", 1)):
            remote = RemoteEngine(limits)
            stream = remote.generate(request(text))
            assert [next(stream) for _ in range(num_before)] == [TextDelta("xxxxx")] * num_before
            with pytest.raises(GenerationError, match="no event"):
                next(stream)
            assert within(partial(is_idle, remote))
            remote.close()


def is_idle(remote: RemoteEngine) -> bool:
    return remote.status(60).num_running == 0


def test_questions_start_no_engine(settings: Settings) -> None:
    remote = RemoteEngine(settings)
    with pytest.raises(EngineDiedError):
        remote.status(0.5)
    assert remote.loaded() == []
    remote.unload(ModelRef(name="demo", path="demo"))
    remote.close()
    assert os.listdir(settings.run_dir) == []


def test_an_engine_that_does_not_answer_hangs_nobody(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    # the limits that are not its own would keep an ask for minutes
    own, other = 0.1, 600.0
    asks: list[tuple[float, float, Callable[[RemoteEngine], Any]]] = [
        (own, other, lambda remote: next(remote.generate(request("n=1")))),
        (other, other, lambda remote: remote.status(own)),
        (other, own, lambda remote: remote.loaded()),
        (other, own, lambda remote: remote.unload(ModelRef(name="demo", path="demo"))),
    ]
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(socket_path(settings))
        stopped.listen()
        for handshake_s, list_s, ask in asks:
            monkeypatch.setattr(remote_module, "HANDSHAKE_TIMEOUT_S", handshake_s)
            monkeypatch.setattr(remote_module, "LIST_TIMEOUT_S", list_s)
            started_at = time.monotonic()
            with pytest.raises(EngineDiedError):
                ask(RemoteEngine(settings))
            assert time.monotonic() - started_at < 60


def test_a_place_where_nobody_listens_any_more_is_no_engine(settings: Settings) -> None:
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(socket_path(settings))
    assert RemoteEngine(settings).loaded() == []


def test_a_caller_waits_for_a_load_as_long_as_the_settings_say(settings: Settings) -> None:
    impatient = replace(settings, load_timeout_s=0.1)
    with serving(impatient):
        remote = RemoteEngine(impatient)
        with pytest.raises(ModelLoadError, match="timed out waiting for the model to load"):
            next(remote.load(LoadRequest(model=replace(MODEL, path="never"))))
        assert len(list(remote.generate(request("n=1&prefill_ms=300")))) == 2
        remote.close()


def test_the_first_process_at_an_engine_is_told_so(settings: Settings) -> None:
    told: queue.SimpleQueue[str] = queue.SimpleQueue()
    first, second = RemoteEngine(settings), RemoteEngine(settings)
    first.on_new_engine, second.on_new_engine = lambda: told.put("first"), lambda: told.put("second")
    with serving(settings):
        first.start()
        assert told.get(timeout=60) == "first"
        second.start()
        assert within(lambda: is_answered(second))
        first.close()
        assert is_answered(first)
    with serving(settings):
        # until its receiver has seen the end of the last one, it asks that
        assert within(lambda: is_answered(second))
        assert told.get(timeout=60) == "second"
        assert within(lambda: is_answered(first))
        assert told.empty()
        first.close()
        second.close()


def is_answered(remote: RemoteEngine) -> bool:
    with contextlib.suppress(EngineDiedError):
        return remote.status(60).pid > 0
    return False


def test_every_engine_is_preloaded_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    preloaded: queue.SimpleQueue[AppContext] = queue.SimpleQueue()
    monkeypatch.setattr(health, "READY_TIMEOUT_S", 60.0)
    monkeypatch.setattr(residency, "preload", preloaded.put)
    settings = replace(settings, preload=("demo",), hub_cache=settings.run_dir)
    with serving(settings):
        apps = [create_app(settings) for _ in range(3)]
        mounted = Flask("theirs")
        mounted.register_blueprint(create_blueprint(settings))
        assert preloaded.get(timeout=60).settings == settings
        for app in (*apps, mounted):
            assert app.test_client().get("/ready").status_code == 200
        assert preloaded.empty()
        for app in (*apps, mounted):
            app.extensions["hugging_llama"].engine.close()
    with serving(settings):
        assert mounted.test_client().get("/ready").status_code == 200
        assert preloaded.get(timeout=60).engine is mounted.extensions["hugging_llama"].engine
        mounted.extensions["hugging_llama"].engine.close()


def test_an_engine_that_nobody_is_connected_to_leaves(settings: Settings) -> None:
    with serving(settings, linger_s=600.0) as server:
        remote = RemoteEngine(settings)
        assert remote.loaded()
        server._linger_s = 0.1  # it would be over before a slow machine has connected
        remote.close()
        assert within(lambda: not listens(settings))


def test_infinite_time_limits_are_no_limits() -> None:
    local = LocalEngine(ScriptedFacade, Waits(math.inf, math.inf))
    assert len(list(local.generate(request("n=2&prefill_ms=20")))) == 3
    local.close()


def test_progress_is_not_the_first_event_in_earnest() -> None:
    """A place in a long queue may not change for longer than two tokens may lie apart."""
    stream: QueueStream[GenerateEvent] = QueueStream(Waits(math.inf, 0.0), lambda: None)
    later = threading.Timer(0.05, lambda: stream.put(TextDelta("Hi")))
    stream.put(Progress(phase="queue", position=3))
    assert next(stream) == Progress(phase="queue", position=3)
    later.start()
    assert next(stream) == TextDelta("Hi"), "it waits as for a first event"
    with pytest.raises(GenerationError):
        next(stream)
