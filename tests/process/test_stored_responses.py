"""Responses outlive the server that kept them, and what is too old goes when the next one starts."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import requests

from tests.live_server import live_server

WAIT_S = 60.0


def test_a_restart(tmp_path: Path) -> None:
    body = {"model": "hugging-llama/demo", "input": "Hi", "max_output_tokens": 4}
    with live_server(tmp_path, tmp_path / "hub") as server:
        old, kept = (requests.post(f"{server.url}/v1/responses", json=body, timeout=60).json() for _ in range(2))
    path = tmp_path / ".cache" / "hugging-llama" / "responses.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE responses SET created_s = 0 WHERE id = ?", (old["id"],))
    with live_server(tmp_path, tmp_path / "hub") as server:
        answer = requests.get(f"{server.url}/v1/responses/{kept['id']}", timeout=60)
        assert answer.json() == kept
        deadline = time.monotonic() + WAIT_S
        while (ids := _ids(path)) != [kept["id"]]:
            assert time.monotonic() < deadline, ids
            time.sleep(0.05)
        more = {**body, "previous_response_id": kept["id"]}
        assert requests.post(f"{server.url}/v1/responses", json=more, timeout=60).status_code == 200


def _ids(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [id for (id,) in connection.execute("SELECT id FROM responses")]
