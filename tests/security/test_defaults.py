"""Rows S11 and P3: who can reach what when nobody has configured anything."""

import stat
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from hugging_llama_config.env import load_settings
from tests.live_server import LiveServer


def test_s11_loopback_unless_the_operator_says_more(server: LiveServer) -> None:
    assert load_settings(environ={}).host == "127.0.0.1"
    master = psutil.Process(server.process.pid)
    listening = {
        connection.laddr.ip
        for process in (master, *master.children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_p3_the_sockets_are_one_users(server: LiveServer) -> None:
    run_dir = Path(server.environ["HUGGING_LLAMA_RUN_DIR"])
    assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700
    sockets = [path for path in run_dir.iterdir() if stat.S_ISSOCK(path.stat().st_mode)]
    assert sockets
    assert {stat.S_IMODE(path.stat().st_mode) for path in sockets} == {0o600}
