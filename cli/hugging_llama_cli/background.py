"""A server in the background: started, found again and stopped by this user.

What was started is written into the run directory, one file a port, with the moment in which the process began: the
kernel gives numbers of processes again, so a number alone would stop somebody else's.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]
import requests

from hugging_llama_cli.banner import GUNICORN, program
from hugging_llama_cli.errors import CliError
from hugging_llama_cli.plain import printable
from hugging_llama_cli.port import check_port
from hugging_llama_cli.question import confirmed
from hugging_llama_cli.terminal import Spinner
from hugging_llama_config.client import server_environment
from hugging_llama_config.env import ConfigError, load_settings
from hugging_llama_config.exposure import is_loopback
from hugging_llama_config.host import HostUrl
from hugging_llama_config.launch import LaunchError, prepare_run_dir
from hugging_llama_config.private_file import replace_private_file
from hugging_llama_config.settings import Settings

_OURS = "hugging_llama_config.gunicorn"
_HTTP_PORT = 80
_POLL_S = 0.1
_PROBE_TIMEOUT_S = 5.0
_START_TIMEOUT_S = 300.0
_STOP_MARGIN_S = 15.0
_SHOWN_LOG_LINES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class BackgroundServer:
    """A process that was started here; `began` is when, as `beginning` says."""

    pid: int
    began: float
    url: str
    log: str

    @property
    def process(self) -> psutil.Process | None:
        """The process, if it is still there and still this one."""
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            if (
                beginning(self.pid) == self.began
                and process.status() != psutil.STATUS_ZOMBIE
                and any(_OURS in w for w in process.cmdline())
            ):
                return process
        return None


def beginning(pid: int) -> float:
    """When a process began: on Linux in ticks since the machine did, which no change of its clock can move.

    Raises psutil.NoSuchProcess.
    """
    with contextlib.suppress(OSError):
        return float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return float(psutil.Process(pid).create_time())


def start(settings: Settings, environ: Mapping[str, str], stream: TextIO) -> BackgroundServer:
    """Start a server that outlives this terminal, and wait until it answers. Raises CliError, with its last words."""
    try:
        prepare_run_dir(settings)
    except LaunchError as error:
        raise CliError(str(error)) from None
    url = HostUrl(host=settings.host, port=settings.port).url
    log = Path(settings.run_dir) / f"server-{settings.port}.log"
    with contextlib.suppress(FileNotFoundError):
        os.replace(log, log.with_suffix(".log.1"))  # what an earlier one wrote may still be wanted
    with open(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as sink:
        started = subprocess.Popen(
            [sys.executable, *GUNICORN], env=environ, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
            start_new_session=True,
        )  # fmt: skip
    server = BackgroundServer(pid=started.pid, began=beginning(started.pid), url=url, log=str(log))
    try:
        with Spinner(stream, "starting the server"):
            _wait_until_ready(started, server)
    except BaseException:
        started.terminate()
        started.wait()
        raise
    _write(Path(settings.run_dir), settings.port, server)
    return server


def start_at(url: str, stream: TextIO) -> bool:
    """Start a server where `url` leads, if that is this machine and the user wants it. Raises CliError."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.path or not is_loopback(parts.hostname or ""):
        return False
    if not confirmed(f"No server runs at {url}. Start one in the background?"):
        return False
    environ = server_environment(
        {"HUGGING_LLAMA_HOST": parts.hostname or "", "HUGGING_LLAMA_PORT": str(parts.port or _HTTP_PORT)}
    )
    try:
        settings = load_settings(environ=environ)
    except ConfigError as error:
        raise CliError(str(error)) from None
    check_port(settings.host, settings.port)
    print(described(start(settings, environ, stream)), file=stream)
    return True


def facts(server: BackgroundServer) -> dict[str, Any]:
    """The same for programs."""
    return {"url": server.url, "pid": server.pid, "log": server.log}


def described(server: BackgroundServer) -> str:
    """Where it is, where it writes, and how it ends."""
    return (
        f"Hugging Llama runs in the background on {server.url} (pid {server.pid})\n"
        f"  log      {server.log}\n"
        f"  stop it  {program()} stop-server --url {server.url}"
    )


def find(settings: Settings) -> BackgroundServer | None:
    """The server on the settings' port that `start` started, if it still runs."""
    path = _path(Path(settings.run_dir), settings.port)
    try:
        server = BackgroundServer(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    if server.process is None:
        path.unlink(missing_ok=True)
        return None
    return server


def others(settings: Settings) -> Iterator[BackgroundServer]:
    """All servers that run in the background of this user and home."""
    for path in sorted(Path(settings.run_dir).glob("server-*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError):
            server = BackgroundServer(**json.loads(path.read_text()))
            if server.process is not None:
                yield server


def stop(server: BackgroundServer, settings: Settings, stream: TextIO) -> None:
    """End it as a terminal would: running answers come to their end. Raises CliError if it stays."""
    process = server.process
    if process is not None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)  # psutil, too, looks whether the number is still that process
        with Spinner(stream, "waiting for running answers"):
            try:
                process.wait(settings.graceful_timeout_s + _STOP_MARGIN_S)
            except psutil.TimeoutExpired:
                raise CliError(
                    f"the server (pid {server.pid}) was told to stop and still runs; see {server.log}"
                ) from None
    _path(Path(settings.run_dir), settings.port).unlink(missing_ok=True)


def _wait_until_ready(started: "subprocess.Popen[bytes]", server: BackgroundServer) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    session = requests.Session()
    session.trust_env = False
    while time.monotonic() < deadline:
        if (code := started.poll()) is not None:
            raise CliError(f"the server ended while it started (status {code}): {_last_words(server.log)}")
        with contextlib.suppress(requests.RequestException):
            if session.get(f"{server.url}/ready", timeout=_PROBE_TIMEOUT_S).ok:
                return
        time.sleep(_POLL_S)
    raise CliError(f"the server did not get ready; see {server.log}")


def _last_words(log: str) -> str:
    lines = Path(log).read_text(errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("Error: ")]
    return printable(" ".join(errors or lines[-_SHOWN_LOG_LINES:])).removeprefix("Error: ") or "it said nothing"


def _path(run_dir: Path, port: int) -> Path:
    return run_dir / f"server-{port}.json"


def _write(run_dir: Path, port: int, server: BackgroundServer) -> None:
    replace_private_file(_path(run_dir, port), json.dumps(asdict(server)).encode())
