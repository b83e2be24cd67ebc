"""The contract of EngineClient, kept by the client of another process and by the one of this process alike."""

import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from hugging_llama.client.base import EngineClient
from hugging_llama.client.local import LocalEngine
from hugging_llama.client.remote import RemoteEngine
from hugging_llama.engine import peer
from hugging_llama.errors import (
    EngineDiedError,
    EngineShutdownError,
    GenerationError,
    InvalidRequestError,
    ProtocolError,
)
from hugging_llama.ipc import messages as wire
from hugging_llama.ipc.channel import FrameReader, frame
from hugging_llama.ipc.codec import decode_items, encode_command, wire_generate
from hugging_llama.neutral.events import Classified, Embeddings, EventStream, Finished, FinishReason, Loaded, TextDelta
from hugging_llama.neutral.models import ModelRef
from hugging_llama.neutral.requests import ClassifyRequest, EmbedRequest, LoadRequest, SamplingParams
from hugging_llama_config.launch import LaunchError, engine_settings, prepare_run_dir, socket_path
from hugging_llama_config.settings import Settings
from tests.process.scripted_engine import ScriptedFacade
from tests.unit.clients_world import FOR_EVER, MODEL, request, serving, short_run_dir, within

A_DAY_S = 86_400.0


@pytest.fixture
def settings() -> Iterator[Settings]:
    with short_run_dir() as settings:
        yield settings


@pytest.fixture
def remote(settings: Settings) -> Iterator[RemoteEngine]:
    with serving(settings):
        client = RemoteEngine(settings)
        yield client
        client.close()


@pytest.fixture(params=["remote", "local"])
def client(request: pytest.FixtureRequest) -> Iterator[EngineClient]:
    if request.param == "remote":
        yield request.getfixturevalue("remote")
    else:
        local = LocalEngine(ScriptedFacade)
        yield local
        local.close()


def test_a_generation_is_its_events_and_ends_in_one_finished(client: EngineClient) -> None:
    events = list(client.generate(request("n=3")))
    assert events[:3] == [TextDelta("xxxxx")] * 3
    (finished,) = events[3:]
    assert isinstance(finished, Finished)
    assert finished.usage.num_output_tokens == 3


def test_embed_classify_and_load_have_one_answer(client: EngineClient) -> None:
    (vectors,) = client.embed(EmbedRequest(model=MODEL, inputs=("ab", "c")))
    assert isinstance(vectors, Embeddings)
    assert [list(vector) for vector in vectors.vectors] == [[2.0, 0.5], [1.0, 0.5]]
    (classified,) = client.classify(ClassifyRequest(model=MODEL, inputs=("abc", ("q", "d"))))
    assert isinstance(classified, Classified)
    assert [list(row) for row in classified.scores] == [[3.0], [2.0]]
    assert (classified.labels, classified.num_prompt_tokens) == (("LABEL_0",), 2)
    (loaded,) = client.load(LoadRequest(model=MODEL))
    assert isinstance(loaded, Loaded)
    assert loaded.model.expires_at_s == math.inf
    assert [model.name for model in client.loaded()] == ["demo:latest"]
    client.unload(ModelRef(name="demo", path="demo"))


def test_a_failed_generation_raises_its_error_after_its_events(client: EngineClient) -> None:
    stream = client.generate(request("n=1&error=boom"))
    assert next(stream) == TextDelta("xxxxx")
    with pytest.raises(GenerationError, match="boom"):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)


def test_close_wakes_a_blocked_next_and_frees_the_engine(client: EngineClient) -> None:
    stream = client.generate(request(FOR_EVER))
    events: list[Any] = []
    reader = threading.Thread(target=lambda: events.extend(stream))
    reader.start()
    assert within(lambda: client.status(60).num_running == 1)
    stream.close()
    reader.join(60)
    assert not reader.is_alive()
    assert events == []
    assert within(lambda: client.status(60).num_running == 0)
    stream.close()
    assert client.status(60).cancelled_total == 1


def test_closing_a_stream_that_ended_cancels_nothing(client: EngineClient) -> None:
    stream = client.generate(request("n=1"))
    assert len(list(stream)) == 2
    stream.close()
    assert client.status(60).cancelled_total == 0


def test_a_caller_who_does_not_read_is_cut_off(client: EngineClient) -> None:
    stream = client.generate(request("n=1000000"))
    assert within(lambda: client.status(60).cancelled_total == 1)
    with pytest.raises(GenerationError, match="does not read"):
        list(stream)


def test_closing_the_client_ends_its_open_streams_with_an_error(client: EngineClient) -> None:
    stream = client.generate(request(FOR_EVER))
    client.close()
    with pytest.raises(EngineDiedError):
        next(stream)


def test_what_can_t_be_sent_is_raised_by_the_stream(remote: RemoteEngine) -> None:
    stream = remote.generate(request("\ud800"))
    with pytest.raises(InvalidRequestError):
        next(stream)


def test_an_engine_that_ends_fails_its_streams_and_the_next_one_is_found(settings: Settings) -> None:
    remote = RemoteEngine(settings)
    with serving(settings):
        stream = remote.generate(request(FOR_EVER))
        assert within(lambda: remote.status(60).num_running == 1)
    with pytest.raises(EngineDiedError):
        next(stream)
    with serving(settings):
        assert len(list(remote.generate(request("n=1")))) == 2
        remote.close()


def test_an_engine_with_other_settings_is_refused(settings: Settings) -> None:
    with serving(settings, fingerprint="another"):
        remote = RemoteEngine(settings)
        with pytest.raises(ProtocolError, match="other settings"):
            next(remote.generate(request("n=1")))
        with pytest.raises(EngineDiedError):
            remote.status(60)


def test_garbage_costs_its_own_connection_only(remote: RemoteEngine, settings: Settings) -> None:
    stream = remote.generate(request("n=20&tick_ms=10"))
    for garbage in (b"\xff" * 8, frame(b"\xc1"), frame(encode_command(wire.Cancel(1)))):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.settimeout(60)
            stranger.connect(socket_path(settings))
            stranger.sendall(garbage)
            while stranger.recv(65536):
                pass
    assert len(list(stream)) == 21


def test_a_request_that_can_t_be_read_fails_alone(remote: RemoteEngine) -> None:
    """A web worker that has let something through must not cost the others whose requests share its connection."""
    stream = remote.generate(request("n=20&tick_ms=10"))
    assert next(stream)
    wrong_type: Any = "a"
    unreadable = replace(request("n=1"), sampling=SamplingParams(max_thinking_tokens=wrong_type))
    with pytest.raises(GenerationError, match="max_thinking_tokens"):
        next(remote.generate(unreadable))
    assert len(list(stream)) == 20
    assert len(list(remote.generate(request("n=1")))) == 2


def test_a_worker_that_does_not_read_is_dropped(
    remote: RemoteEngine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "MAX_BACKLOG_BYTES", 100_000)
    monkeypatch.setattr(peer, "STALLED_S", 0.1)
    hello = wire.Hello(wire.PROTOCOL_VERSION, engine_settings(settings).fingerprint, 1)
    flood = wire.Generate(1, wire_generate(request("n=1000000&size=1000")))
    with socket.socket(socket.AF_UNIX) as stuck:
        stuck.connect(socket_path(settings))
        stuck.sendall(frame(encode_command(hello)) + frame(encode_command(flood)))
        assert within(lambda: remote.status(60).cancelled_total == 1)
    assert len(list(remote.generate(request("n=1")))) == 2


def test_a_worker_that_reads_more_slowly_than_is_computed_keeps_its_connection(
    remote: RemoteEngine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One answer may be larger than what may wait for a worker that hangs, and others come behind it."""
    monkeypatch.setattr(peer, "MAX_BACKLOG_BYTES", 100_000)
    hello = wire.Hello(wire.PROTOCOL_VERSION, engine_settings(settings).fingerprint, 1)
    large = wire.Generate(1, wire_generate(request("n=300&size=10000")))
    with socket.socket(socket.AF_UNIX) as slow:
        slow.settimeout(60)
        slow.connect(socket_path(settings))
        slow.sendall(frame(encode_command(hello)) + frame(encode_command(large)))
        frames, replies = FrameReader(), list[Any]()
        while not replies:
            replies += [reply for data in frames.feed(slow.recv(1)) for _, reply in decode_items(data)]
        assert within(lambda: remote.status(60).num_running == 0)
        while not isinstance(replies[-1], Finished):
            data = slow.recv(65_536)
            assert data, "the connection is gone"
            replies += [reply for payload in frames.feed(data) for _, reply in decode_items(payload)]
    assert sum(len(reply.text) for reply in replies if isinstance(reply, TextDelta)) == 3_000_000


def test_what_waits_for_a_worker_that_reads_is_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "MOST_BACKLOG_BYTES", 1_000_000)
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
        worker = peer.Peer(1, ours)
        assert worker.enqueue(bytes(2_000_000))
        assert worker.flush()
        assert not worker.enqueue(b"more")
        worker.close()


def test_a_drain_lets_streams_end_until_its_deadline_and_then_ends_them(remote: RemoteEngine) -> None:
    long, short = remote.generate(request("n=100000&tick_ms=10")), remote.generate(request("n=3&tick_ms=10"))
    remote.start_drain(time.monotonic() + A_DAY_S)
    late = remote.generate(request("n=1"))
    assert [last_reason(stream) for stream in (short, late)] == [FinishReason.STOP, FinishReason.STOP]
    deadline = time.monotonic() + 0.3
    remote.start_drain(deadline)
    assert last_reason(long) is FinishReason.SHUTDOWN
    assert time.monotonic() >= deadline
    for refused in (remote.generate(request("n=1")), remote.load(LoadRequest(model=MODEL))):
        with pytest.raises(EngineShutdownError):
            next(refused)
    assert within(lambda: remote.status(60).num_running == 0)


def last_reason(stream: EventStream[Any]) -> FinishReason:
    *_, last = stream
    assert isinstance(last, Finished)
    return last.reason


def test_a_forked_child_has_a_connection_of_its_own(settings: Settings) -> None:
    script = f"""
import os, sys
from tests.unit.test_engine_clients import RemoteEngine, Settings, request
remote = RemoteEngine(Settings(run_dir={settings.run_dir!r}))
stream = remote.generate(request("n=20&tick_ms=10"))
next(stream)
child = os.fork()
print(len(list(stream if child else remote.generate(request("n=5")))), flush=True)
if child:
    os.waitpid(child, 0)
    print(len(list(remote.generate(request("n=2")))), flush=True)
os._exit(0)
"""
    with serving(settings):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert sorted(done.stdout.split()) == ["20", "3", "6"], done.stderr


def test_a_directory_that_others_can_write_to_is_refused(settings: Settings) -> None:
    os.chmod(settings.run_dir, 0o777)
    with pytest.raises(LaunchError):
        prepare_run_dir(settings)


def test_a_path_too_long_for_a_socket_is_refused() -> None:
    with pytest.raises(LaunchError):
        socket_path(Settings(run_dir="/" + "x" * 100))
    with pytest.raises(EngineDiedError):
        RemoteEngine(Settings(run_dir="/" + "x" * 100)).status(0.1)
