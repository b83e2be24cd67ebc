"""How long the engine's clients wait, and what they do where no engine answers."""

import math
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
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
from hugging_llama_config.launch import socket_path
from hugging_llama_config.settings import Settings
from tests.process.scripted_engine import ScriptedFacade
from tests.unit.clients_world import FOR_EVER, MODEL, listens, request, serving, short_run_dir, within


@pytest.fixture
def settings() -> Iterator[Settings]:
    with short_run_dir() as settings:
        yield settings


def test_the_first_and_the_next_event_have_time_limits(settings: Settings) -> None:
    impatient = replace(settings, first_event_timeout_s=0.2, idle_event_timeout_s=0.1)
    with serving(impatient):
        remote = RemoteEngine(impatient)
        for text, num_before in ((FOR_EVER, 0), ("n=5&tick_ms=600000", 1)):
            stream = remote.generate(request(text))
            assert [next(stream) for _ in range(num_before)] == [TextDelta("xxxxx")] * num_before
            with pytest.raises(GenerationError, match="no event"):
                next(stream)
            assert within(lambda: remote.status(10).num_running == 0)
        remote.close()


def test_questions_start_no_engine(settings: Settings) -> None:
    remote = RemoteEngine(settings)
    with pytest.raises(EngineDiedError):
        remote.status(0.5)
    assert remote.loaded() == []
    remote.unload(ModelRef(name="demo", path="demo"))
    remote.close()
    assert os.listdir(settings.run_dir) == []


def test_an_engine_that_does_not_answer_hangs_nobody(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_module, "HANDSHAKE_TIMEOUT_S", 0.1)
    monkeypatch.setattr(remote_module, "LIST_TIMEOUT_S", 0.1)
    asks: list[Callable[[RemoteEngine], Any]] = [
        lambda remote: next(remote.generate(request("n=1"))),
        lambda remote: remote.status(0.1),
        lambda remote: remote.loaded(),
        lambda remote: remote.unload(ModelRef(name="demo", path="demo")),
    ]
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(socket_path(settings))
        stopped.listen()
        for ask in asks:
            started_at = time.monotonic()
            with pytest.raises(EngineDiedError):
                ask(RemoteEngine(settings))
            # not the five seconds that a request may take
            assert time.monotonic() - started_at < 3


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
        assert within(lambda: second.status(10).pid > 0)
        first.close()
        assert first.status(10).pid > 0
    with serving(settings):
        assert second.status(10).pid > 0
        assert told.get(timeout=60) == "second"
        assert first.status(10).pid > 0
        assert told.empty()
        first.close()
        second.close()


def test_every_engine_is_preloaded_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    preloaded: queue.SimpleQueue[AppContext] = queue.SimpleQueue()
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
    with serving(settings, linger_s=0.1):
        remote = RemoteEngine(settings)
        assert remote.loaded()
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
