"""A real server for tests: gunicorn, two gevent workers, the engine process, a Hub cache of its own."""

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import requests

from tests.secrets_in_logs import check_no_secrets

START_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class LiveServer:
    """A running server. `environ` points command line clients at it."""

    url: str
    process: subprocess.Popen[bytes]
    environ: Mapping[str, str]
    log: Path

    def figure(self, name: str) -> float:
        """What the engine says of itself under this name in /metrics; -1 if it says nothing."""
        text = requests.get(f"{self.url}/metrics", timeout=60).text
        found = re.search(rf"^hugging_llama_engine_{name} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else -1.0

    def told(self, name: str) -> float:
        """As `figure`, once an engine that is busy has had the time to tell."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while (found := self.figure(name)) < 0:
            assert time.monotonic() < deadline, "the engine does not tell"
            time.sleep(0.02)
        return found

    def engine(self) -> psutil.Process:
        """The process of the engine that serves, by its socket; another one may stand by."""
        run_dir = self.environ["HUGGING_LLAMA_RUN_DIR"]
        found = [
            process
            for process in psutil.process_iter(["cmdline"])
            if "hugging_llama.engine" in (process.info["cmdline"] or [])[1:4]
            and any(run_dir in address for address in _unix_addresses(process))
        ]
        assert len(found) == 1
        return found[0]

    @contextmanager
    def one_cancelled(self) -> Iterator[None]:
        """A caller leaves a stream inside the block: the engine cancels its sequence, and runs none afterwards."""
        before = self.told("cancelled_total")
        yield
        deadline = time.monotonic() + START_TIMEOUT_S
        while (self.figure("cancelled_total"), self.figure("running")) != (before + 1, 0):
            assert time.monotonic() < deadline, "the sequence was not cancelled"
            time.sleep(0.02)


def _unix_addresses(process: psutil.Process) -> list[str]:
    """None of a process that has ended meanwhile, such as another server's engine."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [str(connection.laddr) for connection in process.net_connections("unix")]
    return []


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now, and that no connection is given before a server has taken it."""
    dice = random.SystemRandom()
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", dice.randrange(15_000, 32_000)))
            return int(probe.getsockname()[1])


@contextmanager
def live_server(
    folder: Path, hub_cache: Path, command: list[str] | None = None, /, **settings: str
) -> Iterator[LiveServer]:
    """`hugging-llama serve` (or `command`) until the block ends; `settings` become HUGGING_LLAMA_* variables."""
    port = free_port()
    # not below `folder`: a socket's path may have 107 bytes only
    with tempfile.TemporaryDirectory(prefix="hl-") as run_dir:
        environ = {
            key: value for key, value in os.environ.items() if not key.startswith(("OLLAMA_", "HF_", "HUGGING_"))
        }
        environ |= {
            "HOME": str(folder),
            "HF_HUB_CACHE": str(hub_cache),
            "HUGGING_LLAMA_RUN_DIR": run_dir,
            "HUGGING_LLAMA_PORT": str(port),
            # by itself it takes what is faster at the moment, and a busy machine says now this and now that
            "HUGGING_LLAMA_DTYPE": "float32",
            # the import of torch, once more, 15 s after the start of each server, is of use to few tests
            "HUGGING_LLAMA_STANDBY_ENGINE": "false",
            "OLLAMA_HOST": f"127.0.0.1:{port}",
        }
        environ |= {f"HUGGING_LLAMA_{name.upper()}": value for name, value in settings.items()}
        log = folder / "server.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                command or [sys.executable, "-m", "hugging_llama_cli", "serve"],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=folder,
            )
        server = LiveServer(url=f"http://127.0.0.1:{port}", process=process, environ=environ, log=log)
        try:
            wait_until_ready(server)
            yield server
        finally:
            stop(process)
            check_no_secrets(log)


def wait_until_ready(server: LiveServer) -> None:
    """Until /ready says so. Raises with the server's log if it does not in time."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.process.poll() is None:
        # refused until the port is open, and slow while a busy machine still starts the workers
        with contextlib.suppress(requests.ConnectionError, requests.Timeout):
            if requests.get(f"{server.url}/ready", timeout=60).ok:
                return
        time.sleep(0.1)
    raise AssertionError(f"the server did not get ready:\n{server.log.read_text()[-5000:]}")


def stop(process: subprocess.Popen[bytes], timeout_s: float = 60.0) -> None:
    """TERM, and KILL if that is not enough."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
