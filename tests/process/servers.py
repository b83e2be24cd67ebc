"""Real servers over the scripted engine, and plain HTTP clients for them."""

import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from tests.live_server import free_port
from tests.secrets_in_logs import check_no_secrets

HERE = Path(__file__).parent
START_TIMEOUT_S = 120.0

GUNICORN = [sys.executable, "-m", "gunicorn"]
KINDS = {
    "gevent": [*GUNICORN, "-c", "scripted_gunicorn.py", "tiny_app:app"],
    "gthread": [*GUNICORN, "-k", "gthread", "--threads", "40", "--no-control-socket", "tiny_app:app"],
    "flask": [sys.executable, "-m", "flask", "--app", "tiny_app", "run"],
}


@dataclass(slots=True)
class Server:
    """A running server and the ways to look at its processes."""

    process: subprocess.Popen[bytes]
    port: int
    run_dir: Path
    log: Path
    clients: list["Stream"] = field(default_factory=list)

    def open(self, path: str, receive_buffer: int = 0) -> "Stream":
        """A client of its own connection, closed with the server at the latest."""
        client = Stream(self.port, path, receive_buffer)
        self.clients.append(client)
        return client

    def get(self, path: str, timeout_s: float = 60.0) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def lines(self, path: str, timeout_s: float = 60.0) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.get(path, timeout_s).splitlines()]

    def status(self) -> dict[str, Any]:
        found = json.loads(self.get("/status"))
        assert isinstance(found, dict)
        return found

    def workers(self) -> list[int]:
        return [child.pid for child in psutil.Process(self.process.pid).children()]

    def has_connection_to(self, client: "Stream") -> bool:
        """Whether a worker still holds the connection of this client."""
        return self.worker_of(client) is not None

    def worker_of(self, client: "Stream") -> int | None:
        """The worker that holds the connection of this client."""
        port = client.sock.getsockname()[1]
        for worker in map(psutil.Process, self.workers()):
            if any(c.raddr and c.raddr.port == port for c in worker.net_connections("tcp")):
                return int(worker.pid)
        return None

    def pids(self) -> list[int]:
        """Master, workers, supervisor and engine."""
        engine = self.status()["pid"]
        return [self.process.pid, *self.workers(), supervisor_of(engine), engine]


def supervisor_of(engine: int) -> int:
    return int(psutil.Process(engine).ppid())


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> float:
    """The seconds until `condition` held. Fails the test if that takes longer than `timeout_s`."""
    started_at = time.monotonic()
    while not condition():
        if time.monotonic() - started_at > timeout_s:
            raise AssertionError(f"not within {timeout_s} s")
        time.sleep(0.005)
    return time.monotonic() - started_at


@contextmanager
def serve(kind: str = "gevent", **settings: str) -> Iterator[Server]:
    """A server of `kind` until the block ends; `settings` are environment variables."""
    port = free_port()
    command = list(KINDS[kind])
    if kind == "gthread":
        command += ["-b", f"127.0.0.1:{port}", "-w", "2"]
    elif kind == "flask":
        command += ["--port", str(port)]
    # a socket's path may have 107 bytes only, so not below pytest's folder
    with tempfile.TemporaryDirectory(prefix="hl-") as folder:
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("OLLAMA_", "HUGGING_"))}
        environ |= {"HUGGING_LLAMA_RUN_DIR": f"{folder}/run", "HUGGING_LLAMA_PORT": str(port), "TEST_LINGER_S": "1"}
        environ |= {"HOME": folder, "HUGGING_LLAMA_WORKERS": "2", **settings}
        log = Path(folder, "log")
        with log.open("wb") as sink:
            process = subprocess.Popen(
                command, cwd=HERE, env=environ, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT
            )
        server = Server(process, port, Path(folder, "run"), log)
        try:
            wait_until(lambda: answers(server), START_TIMEOUT_S)
            if kind != "flask":
                wait_for_both_workers(server)
            yield server
        except BaseException:
            print(log.read_text()[-6000:])
            raise
        finally:
            for client in server.clients:
                client.leave()
            stop(server)
            check_no_secrets(log)


def answers(server: Server) -> bool:
    """Whether it is up, the engine included. Starts the engine where the first request does that."""
    assert server.process.poll() is None
    try:
        return server.get("/gen?n=1").endswith(b'"stop"}\n')
    except (OSError, http.client.HTTPException):
        return False


def wait_for_both_workers(server: Server) -> None:
    """Both have answered: the second of two may start much later than the first."""
    seen: set[bytes] = set()

    def both() -> bool:
        seen.add(server.get("/health"))
        return len(seen) == 2

    wait_until(both, START_TIMEOUT_S)


def stop(server: Server) -> None:
    """TERM, and KILL if that is not enough. A mounted engine leaves by itself."""
    if server.process.poll() is None:
        server.process.send_signal(signal.SIGTERM)
        try:
            server.process.wait(60)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()
    wait_until(lambda: not engine_pids(server))


def engine_pids(server: Server) -> list[int]:
    """Supervisors and engines of this server, by the socket's path in their command lines."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = " ".join(process.info["cmdline"] or [])
        if str(server.run_dir) in command and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return found


class Stream:
    """A client that reads line by line and can leave in the two ways that TCP has."""

    def __init__(self, port: int, path: str, receive_buffer: int = 0) -> None:
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(60)
        self.sock.connect(("127.0.0.1", port))
        self.sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def read_until(self, text: bytes) -> bytes:
        seen = b""
        while text not in seen:
            data = self.sock.recv(65536)
            assert data, f"the connection ended after {seen[-500:]!r}"
            seen += data
        return seen

    def read_to_end_or_last_chunk(self) -> bytes:
        """Until the connection ends, or until the answer does on one that is kept alive."""
        seen = b""
        while not seen.endswith(b"\r\n0\r\n\r\n") and (data := self.sock.recv(65536)):
            seen += data
        return seen

    def leave(self, *, reset: bool = False) -> None:
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
