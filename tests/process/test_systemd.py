"""What systemd gives and is told, without systemd: a datagram socket in its place, and a socket opened beforehand."""

import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hugging_llama_config import systemd
from tests.live_server import free_port, stop
from tests.process.servers import GUNICORN, HERE, serve, wait_until
from tests.process.socket_activation import start_with

TIMEOUT_S = 60.0
SCRIPTED = [*GUNICORN, "-c", str(HERE / "scripted_gunicorn.py"), "--chdir", str(HERE), "tiny_app:app"]


@pytest.fixture
def told(tmp_path: Path) -> Iterator[socket.socket]:
    """Where a service manager listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(TIMEOUT_S)
        yield listener


@pytest.fixture
def short_folder() -> Iterator[str]:
    """A socket's path may have 107 bytes only."""
    with tempfile.TemporaryDirectory(prefix="hl-") as folder:
        yield folder


def next_other_than_the_watchdog(told: socket.socket) -> str:
    while (state := told.recv(4096).decode()) == "WATCHDOG=1":
        pass
    return state


def test_start_reload_and_end_are_told_and_the_watchdog_is_fed(told: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": str(told.getsockname()), "WATCHDOG_USEC": "200000"}
    with serve(**environ, HUGGING_LLAMA_GRACEFUL_TIMEOUT_S="1") as server:
        assert told.recv(4096).startswith(b"READY=1")
        assert [told.recv(4096) for _ in range(2)] == [b"WATCHDOG=1"] * 2
        server.process.send_signal(signal.SIGHUP)
        assert next_other_than_the_watchdog(told).startswith("RELOADING=1\nMONOTONIC_USEC=")
        # also while it waits for the old workers
        assert told.recv(4096) == b"WATCHDOG=1"
        assert next_other_than_the_watchdog(told) == "READY=1\nSTATUS="
        client = server.open("/gen?n=1000&tick_ms=100")
        client.read_until(b"x")
        server.process.terminate()
        assert next_other_than_the_watchdog(told) == "STOPPING=1"
        assert told.recv(4096) == b"WATCHDOG=1"


def test_a_reload_that_would_let_everybody_in_is_refused(told: socket.socket) -> None:
    with serve(NOTIFY_SOCKET=str(told.getsockname())) as server:
        assert told.recv(4096).startswith(b"READY=1")
        workers = server.workers()
        config = server.run_dir.parent / ".cache" / "hugging-llama" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text('host = "0.0.0.0"\n')
        server.process.send_signal(signal.SIGHUP)
        assert told.recv(4096).startswith(b"STATUS=not reloaded: 0.0.0.0 can be reached by others")
        assert server.workers() == workers
        with socket.socket() as probe:
            # loopback, but not the address that the server was started with
            assert probe.connect_ex(("127.0.0.2", server.port)) != 0


def ask(port: int) -> bytes:
    """The connection is taken by whoever holds the socket, and answered once a server is there."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.mark.slow
def test_a_socket_that_was_given_outlives_a_restart(tmp_path: Path, short_folder: str) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        port = listener.getsockname()[1]
        for _ in range(2):
            with (tmp_path / "log").open("wb") as log:
                process = start_with(listener, tmp_path, short_folder, SCRIPTED, log)
            try:
                # the first one finds no server yet, the second one of each round a running one
                assert ask(port).startswith(b"HTTP/1.1 200 ")
                assert ask(port).startswith(b"HTTP/1.1 200 ")
            finally:
                stop(process)
            assert process.returncode == 0


def test_a_reload_keeps_the_socket_that_was_given(tmp_path: Path, short_folder: str) -> None:
    config = tmp_path / ".config" / "hugging-llama" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("workers = 1\n")
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        port, log = listener.getsockname()[1], tmp_path / "log"
        with log.open("wb") as sink:
            process = start_with(listener, tmp_path, short_folder, SCRIPTED, sink, port="")
        try:
            wait_until(lambda: log.read_text().count("Booting worker") == 1)
            config.write_text(f"workers = 2\nport = {free_port()}\n")
            process.send_signal(signal.SIGHUP)
            wait_until(lambda: log.read_text().count("Booting worker") == 3)
            listener.close()  # now it is the server's alone
            assert ask(port).startswith(b"HTTP/1.1 200 ")
        finally:
            stop(process)


def test_a_socket_that_others_reach_needs_keys(tmp_path: Path, short_folder: str) -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener, (tmp_path / "log").open("wb") as log:
        process = start_with(listener, tmp_path, short_folder, SCRIPTED, log)
        assert process.wait(TIMEOUT_S) == 1
    assert "0.0.0.0 can be reached by others, and there are no keys" in (tmp_path / "log").read_text()


def test_without_systemd_nothing_is_said_or_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_PID"):
        monkeypatch.delenv(name, raising=False)
    systemd.notify("READY=1")
    assert systemd.watchdog() is None
    assert systemd.inherited_hosts() is None


def test_what_is_meant_for_another_process_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getppid()))
    monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert systemd.watchdog() is None
    assert systemd.inherited_hosts() is None
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert systemd.watchdog() == systemd.Watchdog(0.25)
