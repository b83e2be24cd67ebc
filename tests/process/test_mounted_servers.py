"""The blueprint in an application under the servers that people have: streams, callers who leave, bodies in chunks."""

import http.client
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.live_server import free_port
from tests.process.servers import HERE, Server, engine_pids, wait_until

pytestmark = pytest.mark.slow

WAIT_S = 60.0
# a token in ten minutes: whoever sees the first one has a stream, and nothing is written that could fail
STREAM = "n=5&tick_ms=600000"
PREFILL = "n=5&prefill_ms=600000"

GUNICORN = [sys.executable, "-m", "gunicorn", "--no-control-socket", "-b", "127.0.0.1:{port}", "mounted_app:app"]
UWSGI = ["uwsgi", "--master", "--die-on-term", "--enable-threads", "-p", "2", "--threads", "4", "-w", "mounted_app:app"]
COMMANDS = {
    "gevent": [*GUNICORN, "-k", "gevent", "-w", "2"],
    "gthread": [*GUNICORN, "-k", "gthread", "--threads", "8"],
    "sync": [*GUNICORN, "-w", "2"],
    "flask": [sys.executable, "-m", "flask", "--app", "mounted_app", "run", "--port", "{port}"],
    "waitress": [
        sys.executable, "-m", "waitress", "--listen=127.0.0.1:{port}", "--channel-request-lookahead=1",
        "mounted_app:app",
    ],
    "uwsgi": [*UWSGI, "--http-socket", "127.0.0.1:{port}"],
    "uwsgi router": [*UWSGI, "--http", "127.0.0.1:{port}"],
    "a2wsgi": [sys.executable, "-m", "uvicorn", "--factory", "--port", "{port}", "mounted_app:asgi_app"],
}  # fmt: skip
NEEDS = {"waitress": ("waitress",), "a2wsgi": ("a2wsgi", "uvicorn")}


@dataclass(frozen=True, slots=True)
class Mounted:
    """The running server."""

    port: int

    def ask(self, method: str, path: str, body: object = None, **options: Any) -> requests.Response:
        """The answer, whole unless `stream` is given."""
        data = json.dumps(body).encode() if body is not None else None
        if options.pop("chunked", False):
            options["data"] = iter([data])
        return requests.request(
            method, f"http://127.0.0.1:{self.port}{path}", **({"data": data, "timeout": WAIT_S} | options)
        )

    def generate(self, prompt: str, *, stream: bool = False, **options: Any) -> requests.Response:
        body = {"model": "demo", "prompt": prompt, "raw": True, "stream": stream}
        return self.ask("POST", "/llm/api/generate", body, stream=stream, **options)

    def figure(self, name: str) -> float:
        """What the engine says of itself; on a busy machine it may take some time to."""
        figures: dict[str, float] = {}

        def is_told() -> bool:
            text = self.ask("GET", "/llm/metrics").text
            found = re.findall(r"^hugging_llama_engine_(\w+) (\S+)$", text, re.MULTILINE)
            figures.update({each: float(value) for each, value in found})
            return figures["up"] == 1

        wait_until(is_told, WAIT_S)
        return figures[name]


@pytest.fixture(scope="module", params=COMMANDS)
def server(request: pytest.FixtureRequest) -> Iterator[Mounted]:
    kind = request.param
    command = [part.format(port=(port := free_port())) if "{port}" in part else part for part in COMMANDS[kind]]
    missing = [name for name in NEEDS.get(kind, ()) if importlib.util.find_spec(name) is None]
    if missing or shutil.which(command[0]) is None:
        pytest.skip(f"{kind} is not installed")
    # a socket's path may have 107 bytes only, so not below pytest's folder
    with tempfile.TemporaryDirectory(prefix="hl-") as folder:
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("OLLAMA_", "HUGGING_"))}
        environ |= {"HUGGING_LLAMA_RUN_DIR": f"{folder}/run", "HOME": folder, "TEST_LINGER_S": "1"}
        log = Path(folder, "log")
        with log.open("wb") as sink:
            process = subprocess.Popen(
                command, cwd=HERE, env=environ, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT
            )
        mounted = Mounted(port)
        try:
            wait_until(lambda: process.poll() is not None or is_up(mounted), WAIT_S)
            yield mounted
        except BaseException:
            print(log.read_text()[-6000:])
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(WAIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            wait_until(lambda: not engine_pids(Server(process, port, Path(folder, "run"), log)), WAIT_S)


def is_up(mounted: Mounted) -> bool:
    try:
        return "their_hits" in mounted.ask("GET", "/").text
    except requests.RequestException:
        return False


def test_who_asks_whether_it_is_ready_starts_the_engine(server: Mounted) -> None:
    """The first of these tests: nobody has asked for a model yet."""
    assert server.ask("GET", "/llm/ready").status_code == 503
    wait_until(lambda: server.ask("GET", "/llm/ready").status_code == 200, WAIT_S)


def test_what_is_whose(server: Mounted) -> None:
    answer = server.generate("n=2")
    assert (answer.status_code, answer.json()["response"]) == (200, "xxxxx" * 2)
    assert "their_hits_total" in server.ask("GET", "/").text
    assert server.ask("GET", "/nothing").text == "their error"
    assert server.ask("GET", "/llm/nothing").text == "404 page not found"
    refused = server.ask("GET", "/llm/v1/models?banned")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")


def test_a_stream_comes_as_it_is_made_and_ends_with_its_caller(server: Mounted) -> None:
    assert server.generate("n=1").status_code == 200  # there is an engine
    cancelled = server.figure("cancelled_total")
    with server.generate(STREAM, stream=True) as answer:
        lines = answer.iter_lines(chunk_size=1)  # kept, as the connection is closed with it
        assert json.loads(next(lines))["response"] == "xxxxx"
        assert server.figure("running") == 1
    wait_until(lambda: server.figure("running") == 0, WAIT_S)
    assert server.figure("cancelled_total") == cancelled + 1


def test_so_does_an_answer_in_one_piece(server: Mounted, request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["server"] == "uwsgi router":
        pytest.skip("uWSGI's router looks at its client only when it has something to write")
    body = json.dumps({"model": "demo", "prompt": PREFILL, "raw": True, "stream": False})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT_S)
    assert server.generate("n=1").status_code == 200  # there is an engine
    connection.request("POST", "/llm/api/generate", body)
    wait_until(lambda: server.figure("running") == 1, WAIT_S)
    connection.close()
    wait_until(lambda: server.figure("running") == 0, WAIT_S)


def test_a_body_in_chunks_is_read_or_refused_with_a_reason(server: Mounted, request: pytest.FixtureRequest) -> None:
    answer = server.generate("n=2", chunked=True)
    if "uwsgi" in request.node.callspec.params["server"]:
        assert (answer.status_code, "Content-Length" in answer.json()["error"]) == (400, True)
    else:
        assert (answer.status_code, answer.json()["response"]) == (200, "xxxxx" * 2)
