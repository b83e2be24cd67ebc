"""A server that is started as systemd starts one with a socket unit: the socket is its descriptor 3."""

import os
import socket
import subprocess
from pathlib import Path
from typing import BinaryIO

from tests.live_server import free_port

_AS_SYSTEMD = 'exec 3<&"$1"; shift; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'


def start_with(
    listener: socket.socket, folder: Path, run_dir: str, command: list[str], log: BinaryIO, **settings: str
) -> "subprocess.Popen[bytes]":
    """`command` with HOME in `folder`; `settings` become HUGGING_LLAMA_* variables."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("OLLAMA_", "HF_", "HUGGING_"))}
    # a port that is not the socket's: what is given counts
    environ |= {"HOME": str(folder), "HUGGING_LLAMA_RUN_DIR": run_dir, "HUGGING_LLAMA_PORT": str(free_port())}
    environ |= {f"HUGGING_LLAMA_{name.upper()}": value for name, value in settings.items()}
    return subprocess.Popen(
        ["bash", "-c", _AS_SYSTEMD, "bash", str(listener.fileno()), *command],
        cwd=folder, env=environ, pass_fds=[listener.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=log,
    )  # fmt: skip
