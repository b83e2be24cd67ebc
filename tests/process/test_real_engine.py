"""The whole server with torch and the demo model: what the scripted engine shows elsewhere, once more for real."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
import requests

from hugging_llama_config.launch import SPIN_COUNT
from tests.live_server import LiveServer, live_server
from tests.process.servers import HERE, wait_until

GUNICORN = [sys.executable, "-m", "gunicorn", "-c", str(HERE / "patient_gunicorn.py"), "hugging_llama:create_app()"]
DEMO = "hugging-llama/demo"
# no end-of-sequence token may come: an answer does not end by itself, and does not repeat itself
ENDLESS = {"temperature": 100.0, "top_k": 0, "top_p": 1.0, "min_new_tokens": 2000}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One sequence at a time: what comes second waits, however fast the model is."""
    folder = tmp_path_factory.mktemp("live")
    settings = {"max_num_seqs": "1", "graceful_timeout_s": "8", "standby_engine": "true"}
    with live_server(folder, folder / "hub", GUNICORN, **settings) as server:
        assert b"done" in generate(server, num_predict=1).content
        yield server


def generate(live: LiveServer, *, stream: bool = True, num_predict: int = 400) -> requests.Response:
    """A generation; with `stream` only its beginning has been read."""
    body = {
        "model": DEMO,
        "prompt": "Tell me everything.",
        "stream": stream,
        "options": {"num_predict": num_predict, **ENDLESS},
    }
    return requests.post(f"{live.url}/api/generate", json=body, stream=stream, timeout=60)


def test_an_answer_is_streamed_while_the_second_one_waits_for_its_place(live: LiveServer) -> None:
    body = {"model": DEMO, "prompt": "Tell me everything.", "n": 2, "max_tokens": 1900, "stream": True, **ENDLESS}
    with requests.post(f"{live.url}/v1/completions", json=body, stream=True, timeout=60) as answer:
        lines = (line.removeprefix(b"data: ") for line in answer.iter_lines() if line)
        spoken = [json.loads(next(lines))["choices"][0]["index"] for _ in range(5)]
        assert live.figure("waiting") == 1
    assert spoken == [0] * 5
    wait_until(lambda: live.figure("running") + live.figure("waiting") == 0)


def curl(live: LiveServer, *, stream: bool) -> subprocess.Popen[bytes]:
    options = {"num_predict": 2000, **ENDLESS}
    body = json.dumps({"model": DEMO, "prompt": "Hi", "stream": stream, "options": options})
    command = ["curl", "-sN", f"{live.url}/api/generate", "-d", body]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_sequence(live: LiveServer, stream: bool) -> None:
    before = live.told("cancelled_total")
    clients = [curl(live, stream=stream) for _ in range(3)]
    wait_until(lambda: live.figure("running") + live.figure("waiting") >= 2)
    for client in clients:
        client.kill()
        client.wait()
    wait_until(lambda: live.figure("running") + live.figure("waiting") == 0)
    # one may have been served in the meantime
    assert live.told("cancelled_total") >= before + 1


def test_hup_keeps_the_engine_and_its_models(live: LiveServer) -> None:
    engine = live.engine().pid
    workers = psutil.Process(live.process.pid).children()
    live.process.send_signal(signal.SIGHUP)
    wait_until(lambda: not any(worker.is_running() for worker in workers))
    assert live.engine().pid == engine
    (model,) = requests.get(f"{live.url}/api/ps", timeout=60).json()["models"]
    assert model["name"].startswith(DEMO)


def test_web_workers_load_no_torch_and_the_engine_no_flask(live: LiveServer) -> None:
    for worker in psutil.Process(live.process.pid).children():
        assert not any("/torch/" in mapped.path for mapped in worker.memory_maps())
    engine = live.engine()
    assert any("/torch/" in mapped.path for mapped in engine.memory_maps())
    environ = engine.environ()
    assert environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert environ["GOMP_SPINCOUNT"] == SPIN_COUNT
    assert "PROMETHEUS_MULTIPROC_DIR" not in environ


def test_a_killed_engine_fails_its_streams_and_comes_back(live: LiveServer) -> None:
    engine = live.engine()
    answers = [generate(live, num_predict=1800)]
    os.kill(engine.pid, signal.SIGKILL)
    last = json.loads(answers[0].content.splitlines()[-1])
    assert "error" in last
    assert requests.get(f"{live.url}/health", timeout=60).ok
    # a request waits for the new engine, which imports torch and loads the model; one that the old one had taken while
    # it died fails
    wait_until(lambda: json.loads(generate(live, num_predict=2).content.splitlines()[-1]).get("done", False))
    assert live.engine().pid != engine.pid


def test_term_ends_what_runs_and_what_waits_with_a_last_object(live: LiveServer, tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(8)]
    options = {"num_predict": 2000, **ENDLESS}
    body = json.dumps({"model": DEMO, "prompt": "Tell me everything.", "options": options})
    clients = []
    for path in files:
        command = ["curl", "-sN", "-o", str(path), f"{live.url}/api/generate", "-d", body]
        clients.append(subprocess.Popen(command))
    wait_until(lambda: live.figure("running") + live.figure("waiting") == len(files))
    engine = live.engine()
    live.process.send_signal(signal.SIGTERM)
    live.process.wait(60)
    assert [client.wait(60) for client in clients] == [0] * len(files)
    reasons = [json.loads(path.read_bytes().splitlines()[-1])["done_reason"] for path in files]
    assert set(reasons) <= {"stop", "length", "shutdown"}
    assert "shutdown" in reasons
    wait_until(lambda: not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE)
