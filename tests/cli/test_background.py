"""Servers in the background: started, told of, stopped; with a stand-in for gunicorn that is quick to start."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from hugging_llama_cli.background import beginning
from tests.cli.conftest import MODULE, RunCli
from tests.cli.terminal_session import TerminalSession
from tests.live_server import free_port

# answers as the server does, and ends on TERM as it does
_GUNICORN = """\
import json, os, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

if os.environ.get("STAND_IN_FAILS"):
    sys.exit("Error: run_dir is not to be liked")
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"models": []}).encode()
        self.send_response(200 if self.path in ("/ready", "/api/tags") else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.send_error(403, "no more of the stand-in")

print("listening", flush=True)
HTTPServer(("127.0.0.1", int(os.environ["HUGGING_LLAMA_PORT"])), Answers).serve_forever()
"""


@pytest.fixture
def machine(environ: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment of a user without a server, with a port that is free."""
    package = tmp_path / "fake" / "gunicorn"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(_GUNICORN)
    port = str(free_port())
    return environ | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "fake"), environ.get("PYTHONPATH", "")]),
        "OLLAMA_HOST": f"127.0.0.1:{port}",
        "HUGGING_LLAMA_PORT": port,
        "HUGGING_LLAMA_RUN_DIR": str(tmp_path / "run"),
    }


def _record(machine: dict[str, str]) -> Path:
    return Path(machine["HUGGING_LLAMA_RUN_DIR"], f"server-{machine['HUGGING_LLAMA_PORT']}.json")


def test_it_is_started_told_of_and_stopped(machine: dict[str, str], cli: RunCli) -> None:
    url = f"http://127.0.0.1:{machine['HUGGING_LLAMA_PORT']}"
    started = cli("serve", "--detach", environ=machine | {"HUGGING_LLAMA_ALLOW_PICKLE": "1"})
    assert started.returncode == 0
    assert started.stderr == "Warning: pickled weights are converted (HUGGING_LLAMA_ALLOW_PICKLE).\n"
    record = json.loads(_record(machine).read_text())
    try:
        assert started.stdout.splitlines()[0] == (
            f"Hugging Llama runs in the background on {url} (pid {record['pid']})"
        )
        assert f"  log      {record['log']}\n" in started.stdout
        assert f"stop-server --url {url}\n" in started.stdout
        assert os.getsid(record["pid"]) == record["pid"], "it must outlive its terminal"
        assert Path(record["log"]).stat().st_mode & 0o777 == _record(machine).stat().st_mode & 0o777 == 0o600
        again = cli("serve", "--detach", environ=machine)
        assert again.returncode == 1
        assert again.stderr.count("\n") == 1
        assert f"port {machine['HUGGING_LLAMA_PORT']} on 127.0.0.1 is taken by" in again.stderr
        elsewhere = cli("stop-server", "--url", "127.0.0.1:1", environ=machine)
        assert elsewhere.stderr.endswith(f" was started in the background; there is {url}: name it with --url\n")
    finally:
        stopped = cli("stop-server", environ=machine)
    assert (stopped.returncode, stopped.stdout) == (0, f"stopped the server at {url}\n")
    assert not psutil.pid_exists(record["pid"]) or psutil.Process(record["pid"]).status() == psutil.STATUS_ZOMBIE
    assert not _record(machine).exists()
    assert cli("stop-server", environ=machine).stderr == f"Error: no server at {url} was started in the background\n"


def test_another_process_of_that_number_is_left_alone(machine: dict[str, str], cli: RunCli) -> None:
    _record(machine).parent.mkdir(mode=0o700)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        began = beginning(bystander.pid)
        for moment in (began - 100, began):  # an older process of that number; this one, which is no server
            told = {"pid": bystander.pid, "began": moment, "url": "http://127.0.0.1:1", "log": "/nowhere"}
            _record(machine).write_text(json.dumps(told))
            result = cli("stop-server", environ=machine)
            assert (result.returncode, result.stdout) == (1, "")
            assert bystander.poll() is None
        bystander.communicate(b"\n")


def test_a_server_that_can_not_start_says_why(machine: dict[str, str], cli: RunCli) -> None:
    result = cli("serve", "--detach", environ=machine | {"STAND_IN_FAILS": "1"})
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "Error: the server ended while it started (status 1): run_dir is not to be liked\n"
    assert not _record(machine).exists()


def test_run_offers_to_start_one(machine: dict[str, str], cli: RunCli) -> None:
    url = f"http://127.0.0.1:{machine['HUGGING_LLAMA_PORT']}"
    argv = [*MODULE, "run", "demo", "hi"]
    with TerminalSession(argv, machine, columns=200) as session:
        session.expect_screen(f"No server runs at {url}. Start one in the background? [Y/n]")
        session.send("n\r")
        assert session.finish() == 1
    assert session.screen.endswith(
        f"could not connect to Hugging Llama at {url}; run 'hugging-llama serve' to start it"
    )
    with TerminalSession(argv, machine, columns=200) as session:
        session.expect_screen("[Y/n]")
        session.send("\r")
        session.expect("Hugging Llama runs in the background")
        assert session.finish() == 1, "the stand-in can do no more"
    assert cli("stop-server", environ=machine).returncode == 0
    # nobody is asked where nobody can answer, nor for a server elsewhere
    assert cli("run", "demo", "hi", environ=machine).stderr.startswith("Error: could not connect")


@pytest.mark.slow
def test_the_real_server(machine: dict[str, str], environ: dict[str, str], cli: RunCli, tmp_path: Path) -> None:
    real = machine | {"PYTHONPATH": environ.get("PYTHONPATH", ""), "HF_HUB_CACHE": str(tmp_path / "hub")}
    del real["HUGGING_LLAMA_RUN_DIR"]  # a socket's path is short
    started = subprocess.run(
        [*MODULE, "serve", "--detach"], env=real, capture_output=True, text=True, timeout=300, check=False
    )
    assert (started.returncode, started.stderr) == (0, "")
    pid = int(started.stdout.partition("(pid ")[2].partition(")")[0])
    try:
        answered = subprocess.run(
            [*MODULE, "run", "demo", "hi"], env=real, capture_output=True, text=True, timeout=300, check=False
        )
        assert answered.returncode == 0
        assert answered.stdout.strip()
        stopped = subprocess.run(
            [*MODULE, "stop-server"], env=real, capture_output=True, text=True, timeout=300, check=False
        )
        assert (stopped.returncode, stopped.stderr) == (0, "")
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    finally:
        if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            os.kill(pid, signal.SIGTERM)
