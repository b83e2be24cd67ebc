"""Callers who leave servers that do not show their sockets."""

import asyncio
import queue
import socket
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

import pytest

from hugging_llama.web.disconnect import DisconnectWatch

WAIT_S = 30.0


class Asked:
    """What waitress has in its environment: whether the client is gone."""

    def __init__(self) -> None:
        self.is_gone = False
        self.asked = threading.Semaphore(0)

    def __call__(self) -> bool:
        self.asked.release()
        return self.is_gone


def test_a_server_that_must_be_asked_is_asked_until_the_client_is_gone() -> None:
    watch, gone = DisconnectWatch(), queue.SimpleQueue[str]()
    first, second = Asked(), Asked()
    watch.watch({"waitress.client_disconnected": first}, lambda: gone.put("first"))
    ended = watch.watch({"waitress.client_disconnected": second}, lambda: gone.put("second"))
    for _ in range(2):
        assert first.asked.acquire(timeout=WAIT_S)
    ended.cancel()
    ended.cancel()
    first.is_gone = second.is_gone = True
    assert gone.get(timeout=WAIT_S) == "first"
    # the thread ends with the last of them; another one comes with the next
    third = Asked()
    third.is_gone = True
    watch.watch({"waitress.client_disconnected": third}, lambda: gone.put("third"))
    assert gone.get(timeout=WAIT_S) == "third"
    assert gone.empty()


def test_an_answer_that_fails_ends_one_watch_only(caplog: pytest.LogCaptureFixture) -> None:
    watch, gone = DisconnectWatch(), queue.SimpleQueue[str]()

    def fail() -> bool:
        raise RuntimeError("a server's bug")

    last = Asked()
    watch.watch({"waitress.client_disconnected": fail}, lambda: gone.put("failed"))
    watch.watch({"waitress.client_disconnected": last}, lambda: gone.put("last"))
    assert last.asked.acquire(timeout=WAIT_S)
    last.is_gone = True
    assert gone.get(timeout=WAIT_S) == "last"
    assert gone.empty()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own, as an ASGI server has it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(WAIT_S)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


class Body:
    """What a2wsgi has for a request's body, with the messages of a server."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.waits = threading.Semaphore(0)
        self.cancelled = threading.Event()

    async def receive(self) -> dict[str, Any]:
        self.waits.release()
        try:
            return await self.messages.get()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def say(self, kind: str) -> None:
        self.loop.call_soon_threadsafe(self.messages.put_nowait, {"type": kind})


def test_an_asgi_server_says_that_the_client_left(loop: asyncio.AbstractEventLoop) -> None:
    watch, gone, body = DisconnectWatch(), queue.SimpleQueue[str](), Body(loop)
    watch.watch({"asgi.scope": {}, "wsgi.input": body}, lambda: gone.put("gone"))
    assert body.waits.acquire(timeout=WAIT_S)
    body.say("http.request")  # the empty end of a body that was read by its length
    assert body.waits.acquire(timeout=WAIT_S)
    assert gone.empty()
    body.say("http.disconnect")
    assert gone.get(timeout=WAIT_S) == "gone"


def test_such_a_watch_can_be_ended(loop: asyncio.AbstractEventLoop) -> None:
    body = Body(loop)
    ended = DisconnectWatch().watch({"asgi.scope": {}, "wsgi.input": body}, lambda: None)
    assert body.waits.acquire(timeout=WAIT_S)
    ended.cancel()
    assert body.cancelled.wait(WAIT_S)


def test_uwsgi_tells_the_number_of_its_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    monkeypatch.setitem(sys.modules, "uwsgi", types.SimpleNamespace(connection_fd=ours.fileno))
    watch, gone = DisconnectWatch(), queue.SimpleQueue[str]()
    watch.watch({"uwsgi.version": b"2"}, lambda: gone.put("gone"))
    theirs.close()
    assert gone.get(timeout=WAIT_S) == "gone"
    watch.close()
    ours.close()


def test_who_does_not_want_to_be_watched_is_not() -> None:
    asked = Asked()
    DisconnectWatch(enabled=False).watch({"waitress.client_disconnected": asked}, lambda: None).cancel()
    assert not asked.asked.acquire(blocking=False)
