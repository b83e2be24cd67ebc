"""Processes that neither work nor die: a stopped engine, threads that wait for each other, a step without an end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hugging_llama.engine.step_watch import EXIT_STATUS
from tests.bar import Note, times
from tests.engine.checkpoints import make_checkpoint
from tests.process.servers import Server, engine_pids, is_alive, serve, supervisor_of, wait_until
from tests.process.test_life_cycle import last_objects

pytestmark = pytest.mark.slow

SILENT_S = 1.0
# a busy machine takes its time; without a watchdog nothing happens for ever
NOTICED_S = 15.0
STOPS = times(2, 20)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve(HUGGING_LLAMA_ENGINE_TIMEOUT_S=str(SILENT_S)) as running:
        yield running


def check_service(server: Server) -> None:
    """A new engine serves, and nobody else is left."""
    wait_until(lambda: server.get("/gen?n=1").endswith(b'"stop"}\n'))
    wait_until(lambda: len(engine_pids(server)) == 2)
    wait_until(lambda: server.status()["num_running"] == 0)


def test_a_stopped_engine_is_replaced_and_its_64_streams_end(server: Server, note: Note) -> None:
    worst_s = 0.0
    for _ in range(STOPS):
        engine = server.status()["pid"]
        clients = [server.open("/gen?n=5&tick_ms=600000") for _ in range(64)]
        wait_until(lambda: server.status()["num_running"] == 64)
        os.kill(engine, signal.SIGSTOP)
        assert b"pid" in server.get("/health", timeout_s=5)
        worst_s = max(worst_s, wait_until(lambda engine=engine: not is_alive(engine), NOTICED_S))  # type: ignore[misc]
        assert [last["code"] for last in last_objects(clients)] == ["engine_died"] * 64
        check_service(server)
    note("SIGSTOP engine", STOPS, worst_s=worst_s, more=f"64 streams each; noticed after {SILENT_S:g} s of silence")
    assert "gives no sign of life" in server.log.read_text()


def test_a_thread_of_frames_that_waits_for_ever_is_the_end_of_its_engine(server: Server) -> None:
    engine = server.status()["pid"]
    clients = [server.open("/gen?n=5&tick_ms=600000"), server.open("/gen?hang=1")]
    wait_until(lambda: not is_alive(engine), NOTICED_S)
    assert [last["code"] for last in last_objects(clients)] == ["engine_died"] * 2
    check_service(server)


def test_a_stopped_engine_is_no_obstacle_to_the_end_of_a_server() -> None:
    with serve(HUGGING_LLAMA_GRACEFUL_TIMEOUT_S="2") as server:
        pids = server.pids()
        client = server.open("/gen?n=5&tick_ms=600000")
        wait_until(lambda: server.status()["num_running"] == 1)
        os.kill(pids[-1], signal.SIGSTOP)
        server.process.send_signal(signal.SIGTERM)
        assert last_objects([client])[0]["done_reason"] == "shutdown"
        wait_until(lambda: not any(is_alive(pid) for pid in pids), 20)


def test_an_engine_that_works_in_silence_and_a_supervisor_that_slept_kill_nobody(server: Server) -> None:
    engine = server.status()["pid"]
    supervisor = supervisor_of(engine)
    stream = server.open(f"/gen?n=1&prefill_ms={SILENT_S * 3000:.0f}")
    os.kill(supervisor, signal.SIGSTOP)
    wait_until(lambda: server.status()["num_running"] == 1)
    stream.read_until(b'"stop"}')
    os.kill(supervisor, signal.SIGCONT)
    # both asleep, as in a container that is paused: the supervisor wakes first and finds no sign
    os.kill(supervisor, signal.SIGSTOP)
    os.kill(engine, signal.SIGSTOP)
    time.sleep(SILENT_S * 2)  # the time that passes is what is tested
    os.kill(supervisor, signal.SIGCONT)
    os.kill(engine, signal.SIGCONT)
    stream = server.open(f"/gen?n=1&prefill_ms={SILENT_S * 2000:.0f}")
    stream.read_until(b'"stop"}')
    assert server.status()["pid"] == engine


# the real engine over a tiny model, whose forward waits for ever from the fifth token on, or is merely slow
STEPS = """
import sys, threading, time
from hugging_llama.client.local import LocalEngine
from hugging_llama.engine.engine import Engine
from hugging_llama.engine.loader import Loader
from hugging_llama.engine.model_runner import ModelRunner
from hugging_llama.neutral.events import Finished, TextDelta
from hugging_llama.neutral.models import ModelRef
from hugging_llama.neutral.requests import GenerateRequest, SamplingParams, TextPrompt
from hugging_llama_config.settings import Settings

kind, beams, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
settings = Settings(device="cpu", dtype="float32", kv_cache_bytes=2**25, num_threads=1, step_timeout_s=1.0)
loader, calls, running = Loader(settings), [], threading.Event()

def forward(module, args):
    calls.append(1)
    if running.is_set() and kind == "stuck" and len(calls) > 5:
        threading.Lock().acquire() and threading.Event().wait()
    if running.is_set() and kind == "slow":
        time.sleep(0.25)

run = ModelRunner.run
def run_step(self, batch):  # the batched runner goes past the embedding's hooks
    forward(None, None)
    return run(self, batch)
ModelRunner.run = run_step

def load(path, quantization):
    checkpoint = loader.load(path, quantization)
    checkpoint.model.get_input_embeddings().register_forward_pre_hook(forward)
    return checkpoint

engine = LocalEngine(lambda emit: Engine(settings, emit, load=load))
ref = ModelRef(name="tiny", path=folder)
def generate(n):
    # hot, so that nothing is guessed and a token takes a step
    hot = {"temperature": 100.0, "top_k": 0, "top_p": 1.0, "seed": 1}
    sampling = SamplingParams(max_tokens=n, num_beams=beams, **({"temperature": 0.0} if beams > 1 else hot))
    return list(engine.generate(GenerateRequest(model=ref, prompt=TextPrompt(text="hello"), sampling=sampling)))
generate(1)
calls.clear()
running.set()
print(type(generate(12)[-1]).__name__, flush=True)
engine.close()
"""


@pytest.mark.parametrize("beams", [1, 2], ids=["batched", "generate"])
@pytest.mark.parametrize(("kind", "status"), [("stuck", EXIT_STATUS), ("slow", 0)])
def test_a_step_without_an_end_is_told_from_a_long_answer(tmp_path: Path, kind: str, beams: int, status: int) -> None:
    """Twelve steps of a quarter of a second may take three; one that waits for a lock may take one."""
    folder = make_checkpoint(tmp_path / "tiny")
    command = [sys.executable, "-c", STEPS, kind, str(beams), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stderr[-3000:]
    assert ("Finished" in done.stdout) == (kind == "slow")
    # where it hangs is in the log
    assert (" in forward" in done.stderr) == (kind == "stuck")
