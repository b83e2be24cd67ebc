"""TERM, HUP and kill -9: who ends, who stays, and what clients see of it."""

import contextlib
import http.client
import json
import os
import re
import signal
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.bar import Note, times
from tests.process.servers import (
    Server,
    Stream,
    engine_pids,
    is_alive,
    serve,
    supervisor_of,
    wait_for_both_workers,
    wait_until,
)

TERMS = times(1, 50)


def last_objects(clients: list[Stream]) -> list[dict[str, Any]]:
    """The last line of each chunked answer; reading ends with the connection or the last chunk."""
    found = []
    for client in clients:
        answer = client.read_until(b"\r\n0\r\n\r\n")
        found.append(json.loads(answer.split(b"\r\n")[-4]))
        client.leave()
    return found


def test_hup_keeps_the_engine_and_running_streams_complete(gevent_server: Server, tmp_path: Path) -> None:
    server = gevent_server
    engine, old_workers = server.status()["pid"], server.workers()
    may_end = tmp_path / "may end"
    clients = [server.open(f"/gen?n=20&tick_ms=5&until={quote(str(may_end))}") for _ in range(8)]
    wait_until(lambda: server.status()["num_running"] == 8)
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len({*server.workers()} - {*old_workers}) == 2)
    assert any(is_alive(pid) for pid in old_workers)
    may_end.touch()
    assert [last["done_reason"] for last in last_objects(clients)] == ["stop"] * 8
    while any(is_alive(pid) for pid in old_workers):
        assert b"pid" in server.get("/health")
    assert server.status()["pid"] == engine
    wait_until(lambda: len(server.workers()) == 2)


def test_hup_does_not_wait_for_a_worker_that_is_still_starting(gevent_server: Server) -> None:
    server = gevent_server
    victim, *_ = server.workers()
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(server.workers()) == 2 and victim not in server.workers())
    old_workers = server.workers()
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: not any(is_alive(pid) for pid in old_workers))
    wait_for_both_workers(server)


def test_many_hups_are_one_and_workers_of_before_serve_until_the_others_have_loaded(tmp_path: Path) -> None:
    held = tmp_path / "held"
    with serve(TEST_LOADS_WITHOUT=str(held)) as server:
        engine, old_workers = server.status()["pid"], set(server.workers())
        held.touch()
        for _ in range(20):  # all but one come while the first one is acted on
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: len(server.workers()) == 4)
        loading = set(server.workers()) - old_workers
        assert {server.status()["worker"] for _ in range(40)} <= old_workers
        # one that is killed while it loads is replaced, and the old ones go on
        os.kill(min(loading), signal.SIGKILL)
        wait_until(lambda: len(set(server.workers()) - old_workers - {min(loading)}) == 2)
        assert {server.status()["worker"] for _ in range(40)} <= old_workers
        held.unlink()
        wait_until(lambda: not any(map(is_alive, old_workers)))
        wait_until(lambda: server.log.read_text().count("Hang up") == 2)
        wait_until(lambda: len(server.workers()) == 2 and server.status()["worker"] not in loading)
        assert server.status()["pid"] == engine


@pytest.mark.parametrize(
    ("cause", "loading_s", "problem"),
    [
        ("TEST_FAILS_WITH", "600", "the new workers fail to start"),
        ("TEST_LOADS_WITHOUT", "5", "the new workers have not started within 5 s"),
    ],
)
def test_where_the_new_workers_can_t_load_those_of_before_go_on(
    tmp_path: Path, cause: str, loading_s: str, problem: str
) -> None:
    bad = tmp_path / "bad"
    with serve(**{cause: str(bad), "TEST_LOADING_S": loading_s}) as server:
        old_workers = set(server.workers())
        client = server.open("/gen?n=5&tick_ms=600000")
        client.read_until(b"x")
        bad.touch()
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: f"not reloaded: {problem}; those of before go on" in server.log.read_text())
        assert set(server.workers()) == old_workers
        assert {server.status()["worker"] for _ in range(20)} <= old_workers
        client.leave()
        bad.unlink()
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: not set(server.workers()) & old_workers and len(server.workers()) == 2)
        assert server.status()["worker"] not in old_workers


def test_term_does_not_wait_for_new_workers(tmp_path: Path) -> None:
    held = tmp_path / "held"
    with serve(TEST_LOADS_WITHOUT=str(held)) as server:
        held.touch()
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(server.workers()) == 4)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        held.unlink()


@pytest.mark.parametrize("victim", ["engine", "supervisor"])
def test_a_killed_engine_or_supervisor_hangs_nobody_and_service_is_back(gevent_server: Server, victim: str) -> None:
    server = gevent_server
    engine = server.status()["pid"]
    supervisor = supervisor_of(engine)
    clients = [server.open("/gen?n=5&tick_ms=600000") for _ in range(8)]
    wait_until(lambda: server.status()["num_running"] == 8)
    os.kill(engine if victim == "engine" else supervisor, signal.SIGKILL)
    assert [last["code"] for last in last_objects(clients)] == ["engine_died"] * 8
    wait_until(lambda: server.get("/gen?n=1").endswith(b'"stop"}\n'))
    wait_until(lambda: not is_alive(engine))
    wait_until(lambda: len(engine_pids(server)) == 2)


def test_a_killed_worker_costs_its_own_streams_only_and_the_engine_frees_them(
    gevent_server: Server, tmp_path: Path
) -> None:
    server = gevent_server
    victim, other = server.workers()
    may_end = tmp_path / "may end"
    clients: dict[int, list[Stream]] = {victim: [], other: []}
    while not all(clients.values()):  # which worker takes a connection is chance
        client = server.open(f"/gen?n=20&tick_ms=5&until={quote(str(may_end))}")
        client.read_until(b"xxxxx")
        worker = server.worker_of(client)
        assert worker is not None
        clients[worker].append(client)
    num_clients = len(clients[victim]) + len(clients[other])
    wait_until(lambda: server.status()["num_running"] == num_clients)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: server.status()["num_running"] == len(clients[other]))
    may_end.touch()
    ends = {pid: [c.read_to_end_or_last_chunk().endswith(b"0\r\n\r\n") for c in clients[pid]] for pid in clients}
    assert not any(ends[victim])
    assert all(ends[other])
    assert is_alive(other)
    wait_until(lambda: server.status()["num_running"] == 0)
    wait_until(lambda: len(server.workers()) == 2)


def test_a_crashed_worker_says_where_it_was_and_is_replaced(gevent_server: Server) -> None:
    server = gevent_server
    victim, other = server.workers()
    os.kill(victim, signal.SIGSEGV)
    wait_until(lambda: len(server.workers()) == 2 and victim not in server.workers())
    wait_for_both_workers(server)
    assert other in server.workers()
    assert re.search(r"Fatal Python error: Segmentation fault\n\n.*\n +File ", server.log.read_text())


def test_sixty_four_clients_stream_at_once_while_health_is_polled(gevent_server: Server, tmp_path: Path) -> None:
    server = gevent_server
    failures: list[object] = []
    may_end = tmp_path / "may end"

    def stream() -> None:
        lines = server.lines(f"/gen?n=50&tick_ms=5&until={quote(str(may_end))}", timeout_s=120)
        if len(lines) != 51 or lines[-1]["done_reason"] != "stop":
            failures.append(lines[-1])

    clients = [threading.Thread(target=stream) for _ in range(64)]
    for client in clients:
        client.start()
    wait_until(lambda: server.status()["num_running"] == 64)
    for _ in range(50):
        assert b"pid" in server.get("/health")
    assert server.status()["num_running"] == 64
    may_end.touch()
    while any(client.is_alive() for client in clients):
        assert b"pid" in server.get("/health")
    assert failures == []
    assert server.status()["max_batch_size"] >= 64


def test_a_long_header_is_taken_and_an_endless_one_is_not(gevent_server: Server) -> None:
    # browsers send a page's requests to localhost with the cookies of all that runs there
    for length, status in ((30_000, 200), (100_000, 431)):
        connection = http.client.HTTPConnection("127.0.0.1", gevent_server.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", "/status", headers={"Cookie": "x" * length})
            assert connection.getresponse().status == status


def test_term_ends_running_streams_with_a_last_object(tmp_path: Path, note: Note) -> None:
    for number in range(TERMS):
        term_once(tmp_path / f"may end {number}")
    note("SIGTERM server", TERMS, more="8 streams each: the short ones whole, the others told; nobody stays")


def test_ctrl_c_tells_streams_at_once_and_leaves_no_traceback() -> None:
    with serve(HUGGING_LLAMA_GRACEFUL_TIMEOUT_S="600") as server:
        pids = server.pids()
        long = [server.open("/gen?n=100000&tick_ms=100") for _ in range(4)]
        wait_until(lambda: server.status()["num_running"] == 4)
        for pid in [*server.workers(), server.process.pid]:  # as a terminal does
            os.kill(pid, signal.SIGINT)
        assert [last["done_reason"] for last in last_objects(long)] == ["shutdown"] * 4
        assert server.process.wait(60) == 0
        wait_until(lambda: not any(map(is_alive, pids)))
        assert "Traceback" not in server.log.read_text()


def term_once(may_end: Path) -> None:
    with serve(HUGGING_LLAMA_GRACEFUL_TIMEOUT_S="8") as server:
        pids = server.pids()
        short = [server.open(f"/gen?n=5&tick_ms=5&until={quote(str(may_end))}") for _ in range(2)]
        long = [server.open("/gen?n=1000&tick_ms=100") for _ in range(4)]
        stuck = [server.open("/gen?n=5&prefill_ms=600000") for _ in range(2)]
        wait_until(lambda: server.status()["num_running"] == 8)
        server.process.send_signal(signal.SIGTERM)
        may_end.touch()
        assert [last["done_reason"] for last in last_objects(short)] == ["stop"] * 2
        assert [last["done_reason"] for last in last_objects(long + stuck)] == ["shutdown"] * 6
        assert server.process.wait(60) == 0
        wait_until(lambda: not any(map(is_alive, pids)))
        # only the lock stays: a lock file that is removed can be held twice
        assert [path.suffix for path in server.run_dir.iterdir()] == [".lock"]


def test_hup_with_other_engine_settings_replaces_the_engine() -> None:
    with serve() as server:
        engine = server.status()["pid"]
        config = server.run_dir.parent / ".cache" / "hugging-llama" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text("max_num_seqs = 7\n")
        client = server.open("/gen?n=10&tick_ms=50")
        client.read_until(b"xxxxx")
        server.process.send_signal(signal.SIGHUP)
        assert last_objects([client])[0]["done_reason"] == "stop"
        wait_until(lambda: not is_alive(engine))
        assert server.status()["pid"] != engine
        wait_until(lambda: len(engine_pids(server)) == 2)


def test_a_killed_master_leaves_nobody() -> None:
    with serve() as server:
        pids = server.pids()
        server.process.kill()
        wait_until(lambda: not any(is_alive(pid) for pid in pids))


def test_a_client_that_does_not_read_is_cut_off(gevent_server: Server) -> None:
    server = gevent_server
    before = server.status()["cancelled_total"]
    client = server.open("/gen?n=1000000&size=1000&tick_ms=0.1", receive_buffer=4096)
    client.read_until(b"xxxxx")
    # the engine stops at the bounded queue; the worker's write, which would block for ever, is ended by the kernel
    wait_until(lambda: server.status()["cancelled_total"] > before)
    wait_until(lambda: not server.has_connection_to(client))
