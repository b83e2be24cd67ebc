"""The watch over clients' sockets, without a server."""

import logging
import socket
import threading
from collections.abc import Iterator

import pytest

from hugging_llama.web.disconnect import DisconnectWatch


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("key", ["gunicorn.socket", "werkzeug.socket"])
def test_the_end_of_the_stream_is_noticed_once(pair: tuple[socket.socket, socket.socket], key: str) -> None:
    ours, theirs = pair
    gone = threading.Semaphore(0)
    handle = DisconnectWatch().watch({key: ours}, gone.release)
    assert not gone.acquire(timeout=0.05)
    theirs.close()
    assert gone.acquire(timeout=5)
    assert not gone.acquire(timeout=0.05)
    handle.cancel()
    handle.cancel()


def test_a_cancelled_watch_is_silent_and_the_descriptor_can_be_watched_again(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    watch = DisconnectWatch()
    first, second = threading.Event(), threading.Event()
    watch.watch({"gunicorn.socket": ours}, first.set).cancel()
    watch.watch({"gunicorn.socket": ours}, second.set)
    theirs.close()
    assert second.wait(5)
    assert not first.is_set()


def test_the_next_request_ends_the_watch_and_stays_readable(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    gone = threading.Event()
    handle = DisconnectWatch().watch({"gunicorn.socket": ours}, gone.set)
    theirs.sendall(b"GET")
    theirs.close()
    assert not gone.wait(0.1)
    handle.cancel()
    assert ours.recv(10) == b"GET"


def test_a_callback_that_fails_does_not_end_the_other_watches(
    pair: tuple[socket.socket, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = pair
    watch = DisconnectWatch()
    failed = threading.Event()

    def fail() -> None:
        failed.set()
        raise RuntimeError("boom")

    with caplog.at_level(logging.ERROR):
        watch.watch({"gunicorn.socket": ours}, fail)
        theirs.close()
        assert failed.wait(5)
    again, other = socket.socketpair()
    with again, other:
        gone = threading.Event()
        watch.watch({"gunicorn.socket": again}, gone.set)
        other.close()
        assert gone.wait(5)


def test_one_thread_watches_all(pair: tuple[socket.socket, socket.socket]) -> None:
    before = threading.active_count()
    watch = DisconnectWatch()
    handles = [watch.watch({"gunicorn.socket": pair[0]}, lambda: None) for _ in range(50)]
    assert threading.active_count() == before + 1
    for handle in handles:
        handle.cancel()


def test_what_can_t_be_watched_is_left_alone(pair: tuple[socket.socket, socket.socket]) -> None:
    class TlsSocket:
        def do_handshake(self) -> None: ...

        def fileno(self) -> int:
            return pair[0].fileno()

    closed = socket.socket()
    closed.close()
    before = threading.active_count()
    for environ in ({}, {"gunicorn.socket": None}, {"gunicorn.socket": TlsSocket()}, {"werkzeug.socket": closed}):
        DisconnectWatch().watch(environ, lambda: None).cancel()
    DisconnectWatch(enabled=False).watch({"gunicorn.socket": pair[0]}, lambda: None).cancel()
    assert threading.active_count() == before
