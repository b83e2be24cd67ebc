"""The same client without our gunicorn hooks: threads, `flask run`, and many processes that want an engine at once."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from hugging_llama_config import launch
from hugging_llama_config.launch import engine_environment, num_threads
from hugging_llama_config.settings import Settings
from tests.process.servers import HERE, Server, engine_pids, is_alive, supervisor_of, wait_until

PATCH = "from gevent import monkey; monkey.patch_all()\n"
ONE_REQUEST = """
import sys, tiny_app
client = tiny_app.app.test_client()
print(client.get("/gen?n=2").get_data(as_text=True).count('"done":'), tiny_app.engine.status(60).pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("command", [launch.ENGINE_COMMAND, launch.SUPERVISOR_COMMAND], ids=["engine", "supervisor"])
def test_files_of_the_application_are_not_taken_for_libraries(command: tuple[str, ...], tmp_path: Path) -> None:
    """The engine begins where the application was started, which may have a socket.py of its own."""
    (tmp_path / "socket.py").write_text("open('imported', 'w')")
    ended = subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert ended.returncode != 0  # nobody has told it what to do
    assert not (tmp_path / "imported").exists()


def test_twenty_four_clients_stream_at_once(mounted_server: Server) -> None:
    server = mounted_server
    ends: list[str] = []
    clients = [
        threading.Thread(target=lambda: ends.append(server.lines("/gen?n=20&tick_ms=20")[-1]["done_reason"]))
        for _ in range(24)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join(60)
    assert ends == ["stop"] * 24


def test_a_killed_supervisor_is_replaced_by_a_request(mounted_server: Server) -> None:
    server = mounted_server
    engine = server.status()["pid"]
    os.kill(supervisor_of(engine), signal.SIGKILL)
    wait_until(lambda: not is_alive(engine))
    # a request sent while the engine is dying may fail, the next one is served
    wait_until(lambda: server.lines("/gen?n=1")[-1].get("done_reason") == "stop")
    wait_until(lambda: len(engine_pids(server)) == 2)


def test_six_processes_that_race_for_an_engine_get_exactly_one() -> None:
    with tempfile.TemporaryDirectory(prefix="hl-") as folder:
        environ = {**os.environ, "HUGGING_LLAMA_RUN_DIR": folder, "HOME": folder, "TEST_LINGER_S": "2"}
        racers = [
            subprocess.Popen(
                [sys.executable, "-c", patch + ONE_REQUEST],
                cwd=HERE,
                env=environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for patch in [PATCH, ""] * 3
        ]
        try:
            found = [racer.stdout.readline().split() for racer in racers if racer.stdout]
        finally:
            for racer in racers:
                racer.communicate(timeout=120)
        assert [tokens for tokens, _ in found] == ["3"] * 6
        (engine,) = {int(pid) for _, pid in found}
        # nobody is connected any more: the engine leaves, and its supervisor does not start another
        wait_until(lambda: not is_alive(engine))
        wait_until(lambda: [path.suffix for path in Path(folder).iterdir()] == [".lock"])


def test_the_supervisor_loads_nothing_heavy() -> None:
    code = "import sys, json, hugging_llama.client.supervisor; print(json.dumps(list(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60).stdout
    loaded = {name.partition(".")[0] for name in json.loads(output)}
    ours = {name for name in loaded if name.startswith("hugging_llama")}
    assert ours == {"hugging_llama", "hugging_llama_config"}
    assert loaded - ours <= set(sys.stdlib_module_names) | {"__main__"} | site_hooks(loaded)


def site_hooks(loaded: set[str]) -> set[str]:
    """What path files in site-packages import at every start of Python, whoever runs."""
    bare = subprocess.run(
        [sys.executable, "-c", "import sys, json; print(json.dumps(list(sys.modules)))"],
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout
    return loaded & {name.partition(".")[0] for name in json.loads(bare)}


def test_the_engine_gets_no_secrets_and_sleeps_soon_while_it_waits() -> None:
    environ = {
        "PATH": "/bin",
        "HF_TOKEN": "secret",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "PROMETHEUS_MULTIPROC_DIR": "/x",
        "HUGGING_LLAMA_HUB_TOKEN": "secret",
        "OMP_WAIT_POLICY": "ACTIVE",
        "CUDA_VISIBLE_DEVICES": "1",
    }
    made = engine_environment(Settings(num_threads=3), environ)
    assert "secret" not in made.values()
    assert "PROMETHEUS_MULTIPROC_DIR" not in made
    assert made["OMP_WAIT_POLICY"] == "PASSIVE"
    assert made["GOMP_SPINCOUNT"] == launch.SPIN_COUNT
    assert engine_environment(Settings(), {"GOMP_SPINCOUNT": "9"})["GOMP_SPINCOUNT"] == "9"
    assert made["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == launch.PRIMITIVES
    assert made["LRU_CACHE_CAPACITY"] == launch.PREPARED_PRODUCTS
    mine = engine_environment(Settings(), {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "9", "LRU_CACHE_CAPACITY": "8"})
    assert (mine["ONEDNN_PRIMITIVE_CACHE_CAPACITY"], mine["LRU_CACHE_CAPACITY"]) == ("9", "8")
    assert made["OMP_NUM_THREADS"] == "3"
    assert made["HF_HUB_OFFLINE"] == "1"
    assert made["CUDA_VISIBLE_DEVICES"] == "1"


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 2), (3, 2), (16, 15)])
def test_a_core_is_left_to_the_workers_where_there_are_three(
    cores: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    monkeypatch.setattr(launch, "own_groups", lambda: [])
    assert num_threads(Settings()) == threads


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", 64), ("200000 100000", 2), ("50000 100000", 1)])
def test_the_quota_of_a_container_counts(
    quota: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    monkeypatch.setattr(launch, "own_groups", lambda: [tmp_path / "none", tmp_path])
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert launch.available_cores() == cores
