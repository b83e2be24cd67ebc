"""The watch over clients' sockets, without a server."""

import logging
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from hugging_llama.web import disconnect
from hugging_llama.web.disconnect import DisconnectWatch


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def watch() -> Iterator[DisconnectWatch]:
    watch = DisconnectWatch()
    yield watch
    watch.close()


@pytest.mark.parametrize("key", ["gunicorn.socket", "werkzeug.socket"])
def test_the_end_of_the_stream_is_noticed_once(
    pair: tuple[socket.socket, socket.socket], watch: DisconnectWatch, key: str
) -> None:
    ours, theirs = pair
    gone = threading.Semaphore(0)
    handle = watch.watch({key: ours}, gone.release)
    assert not gone.acquire(timeout=0.05)
    theirs.close()
    assert gone.acquire(timeout=60)
    assert not gone.acquire(timeout=0.05)
    handle.cancel()
    handle.cancel()


def test_a_cancelled_watch_is_silent_and_the_descriptor_can_be_watched_again(
    pair: tuple[socket.socket, socket.socket], watch: DisconnectWatch
) -> None:
    ours, theirs = pair
    first, second = threading.Event(), threading.Event()
    watch.watch({"gunicorn.socket": ours}, first.set).cancel()
    watch.watch({"gunicorn.socket": ours}, second.set)
    theirs.close()
    assert second.wait(60)
    assert not first.is_set()


def test_the_next_request_ends_the_watch_and_stays_readable(
    pair: tuple[socket.socket, socket.socket], watch: DisconnectWatch
) -> None:
    ours, theirs = pair
    gone = threading.Event()
    handle = watch.watch({"gunicorn.socket": ours}, gone.set)
    theirs.sendall(b"GET")
    theirs.close()
    assert not gone.wait(0.1)
    handle.cancel()
    assert ours.recv(10) == b"GET"


def test_a_callback_that_fails_does_not_end_the_other_watches(
    pair: tuple[socket.socket, socket.socket], watch: DisconnectWatch, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = pair
    failed = threading.Event()

    def fail() -> None:
        failed.set()
        raise RuntimeError("boom")

    with caplog.at_level(logging.ERROR):
        watch.watch({"gunicorn.socket": ours}, fail)
        theirs.close()
        assert failed.wait(60)
    again, other = socket.socketpair()
    with again, other:
        gone = threading.Event()
        watch.watch({"gunicorn.socket": again}, gone.set)
        other.close()
        assert gone.wait(60)


def test_a_descriptor_that_was_closed_meanwhile_ends_nothing_else(
    pair: tuple[socket.socket, socket.socket], watch: DisconnectWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = threading.Event()
    real = disconnect._peek

    def close_first(fd: int) -> object:
        # as the server may between the selector's return and the look
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, fd)
        os.close(null)
        monkeypatch.undo()
        state = real(fd)
        looked.set()
        return state

    monkeypatch.setattr(disconnect, "_peek", close_first)
    gone = threading.Event()
    watch.watch({"gunicorn.socket": pair[0]}, gone.set)
    pair[1].close()
    assert looked.wait(60)
    again, other = socket.socketpair()
    with again, other:
        second = threading.Event()
        watch.watch({"gunicorn.socket": again}, second.set)
        other.close()
        assert second.wait(60)
    assert not gone.is_set()


def num_watching() -> int:
    """The threads of watches; others of this process, from tests before, may end at any time."""
    return sum(thread.name == "hugging-llama-disconnects" for thread in threading.enumerate())


def test_one_thread_watches_all_and_ends_with_the_watch(
    pair: tuple[socket.socket, socket.socket], watch: DisconnectWatch
) -> None:
    threads, descriptors = num_watching(), set(os.listdir("/proc/self/fd"))
    handles = [watch.watch({"gunicorn.socket": pair[0]}, lambda: None) for _ in range(50)]
    assert num_watching() == threads + 1
    for handle in handles[1:]:
        handle.cancel()
    watch.close()
    assert num_watching() == threads
    assert set(os.listdir("/proc/self/fd")) <= descriptors
    handles[0].cancel()
    watch.close()


def test_a_closed_watch_calls_nobody_and_can_be_used_again(
    pair: tuple[socket.socket, socket.socket], watch: DisconnectWatch
) -> None:
    first, second = threading.Event(), threading.Event()
    watch.watch({"gunicorn.socket": pair[0]}, first.set)
    watch.close()
    watch.watch({"gunicorn.socket": pair[0]}, second.set)
    pair[1].close()
    assert second.wait(60)
    assert not first.is_set()


def test_what_can_t_be_watched_is_left_alone(pair: tuple[socket.socket, socket.socket], watch: DisconnectWatch) -> None:
    class TlsSocket:
        family = socket.AF_UNIX

        def do_handshake(self) -> None: ...

        def fileno(self) -> int:
            return pair[0].fileno()

    closed = socket.socket()
    closed.close()
    before = num_watching()
    for environ in ({}, {"gunicorn.socket": None}, {"gunicorn.socket": TlsSocket()}, {"werkzeug.socket": closed}):
        watch.watch(environ, lambda: None).cancel()
    assert num_watching() == before


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux only")
def test_a_client_that_takes_nothing_has_a_time_limit_also_where_none_is_watched() -> None:
    before = num_watching()
    with socket.socket() as sock:
        off = DisconnectWatch(enabled=False, stalled_timeout_s=7)
        off.watch({"gunicorn.socket": sock}, lambda: None).cancel()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
    assert num_watching() == before
