"""A server that was started by hand ends with its terminal; one that was started with nohup does not."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.live_server import free_port
from tests.process.servers import GUNICORN, HERE, Server, engine_pids, stop, wait_until

COMMAND = [*GUNICORN, "-c", "scripted_gunicorn.py", "tiny_app:app"]
# what a shell does for a program in the foreground: the terminal becomes the controlling one of its session
IN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize("nohup", [False, True])
def test_closing_the_terminal(tmp_path: Path, nohup: bool, request: pytest.FixtureRequest) -> None:
    # not below pytest's folder: a socket's path may have 107 bytes only
    run_dir = Path(tempfile.mkdtemp(prefix="hl-"))
    port = free_port()
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("OLLAMA_", "HUGGING_"))}
    environ |= {"HUGGING_LLAMA_RUN_DIR": str(run_dir), "HUGGING_LLAMA_PORT": str(port), "HOME": str(tmp_path)}
    ours, theirs = os.openpty()
    launch = [sys.executable, "-c", IN_TERMINAL, *(["nohup"] if nohup else []), *COMMAND]
    log = tmp_path / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            launch, cwd=HERE, env=environ, stdin=theirs, stdout=sink, stderr=sink, start_new_session=True
        )
    os.close(theirs)
    server = Server(process, port, run_dir, log)
    request.addfinalizer(lambda: shutil.rmtree(run_dir))
    request.addfinalizer(lambda: stop(server))
    wait_until(lambda: is_up(server))
    os.close(ours)
    if nohup:
        os.kill(process.pid, signal.SIGHUP)
        wait_until(lambda: is_up(server))
        assert process.poll() is None
    else:
        assert process.wait(60) == 0
        wait_until(lambda: not engine_pids(server))


def is_up(server: Server) -> bool:
    try:
        return bool(server.get("/health"))
    except OSError:
        return False
