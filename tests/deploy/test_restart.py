"""A restart under load behind nginx, with the socket held by somebody else, as by a socket unit of systemd."""

import socket
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.deploy.nginx_proxy import UNLIMITED, needs_nginx, nginx
from tests.live_server import stop
from tests.process.servers import wait_until
from tests.process.socket_activation import start_with

pytestmark = [needs_nginx, pytest.mark.slow]

CONFIGURATION, APPLICATION = "python:hugging_llama_config.gunicorn", "hugging_llama:create_app()"
COMMAND = [sys.executable, "-m", "gunicorn", "-c", CONFIGURATION, APPLICATION]
ENDLESS = {"num_predict": 100_000, "min_new_tokens": 100_000}
WAIT_S = 120.0


def test_term_and_a_new_start_lose_no_request(tmp_path: Path) -> None:
    settings = {"graceful_timeout_s": "3", "standby_engine": "false"}
    with (
        socket.create_server(("127.0.0.1", 0), backlog=128) as listener,
        nginx(listener.getsockname()[1], UNLIMITED) as proxy,
        tempfile.TemporaryDirectory(prefix="hl-") as run_dir,
        (tmp_path / "log").open("wb") as log,
        ThreadPoolExecutor(12) as pool,
    ):
        ended = threading.Event()
        answered: list[int] = []

        def ask_again_and_again() -> None:
            while not ended.is_set():
                answer = proxy.ask("/api/generate", {"model": "demo", "prompt": "Hi", "options": {"num_predict": 2}})
                assert answer.status == 200, answer.body
                assert answer.lines()[-1]["done"]
                answered.append(answer.status)

        first = start_with(listener, tmp_path, run_dir, COMMAND, log, **settings)
        second = None
        try:
            body = {"model": "demo", "prompt": "Hi", "options": ENDLESS}
            long = [pool.submit(proxy.ask, "/api/generate", body) for _ in range(4)]
            short = [pool.submit(ask_again_and_again) for _ in range(4)]
            wait_until(lambda: len(answered) > 4, WAIT_S)
            stop(first)
            assert first.returncode == 0
            # these had their time
            assert {request.result(WAIT_S).lines()[-1]["done_reason"] for request in long} == {"shutdown"}
            before = len(answered)
            second = start_with(listener, tmp_path, run_dir, COMMAND, log, **settings)
            wait_until(lambda: len(answered) > before + 8, WAIT_S)
        finally:
            ended.set()
            stop(first)
            if second is not None:
                # after the last request: what waits in the socket would wait for a third server
                wait_until(lambda: all(request.done() for request in short), WAIT_S)
                stop(second)
        for request in short:
            request.result()
