"""The audit log: one line an action, whoever writes and however it ends, and nothing of what is said to a model."""

import contextlib
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import requests
from flask.testing import FlaskClient

from hugging_llama.dialects.base import EXTENSION
from hugging_llama.errors import ModelLoadError
from hugging_llama.neutral.callers import Caller
from hugging_llama.store.audit_file import append
from hugging_llama_config.env import ConfigError, load_settings
from hugging_llama_config.keys import new_key
from tests.functional.conftest import MakeClient
from tests.hub_server import GOOD_TOKEN, Repo, StandInHub
from tests.live_server import live_server
from tests.security.conftest import COMMAND
from tests.store import models

PROMPT = "words that nobody else may read"
DIGEST = "sha256:" + "0" * 64
SAID_ALWAYS = {"time", "who", "address", "action", "outcome", "request_id", "duration_s"}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def lines(log: Path) -> list[Any]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def ends(log: Path) -> list[Any]:
    return [line for line in lines(log) if line["outcome"] != "begun"]


def told(log: Path) -> list[tuple[str, str, str]]:
    return [(line["action"], line.get("model") or line["digest"], line["outcome"]) for line in ends(log)]


def test_off_unless_the_operator_names_a_file(make_client: MakeClient, tmp_path: Path) -> None:
    client, _ = make_client()
    assert load_settings(environ={}).audit_log == ""
    before = sorted(tmp_path.rglob("*.jsonl"))
    client.post("/api/copy", json={"source": "demo", "destination": "mine"})
    assert sorted(tmp_path.rglob("*.jsonl")) == before


def test_what_is_done_to_models_is_told(make_client: MakeClient, log: Path, hub: StandInHub, tmp_path: Path) -> None:
    hub.repos["acme/tiny"] = Repo(models.chat_model(20_000))
    client, _ = make_client(
        audit_log=str(log), hub_endpoint=hub.endpoint, hub_cache=str(tmp_path / "own"), hub_token=GOOD_TOKEN
    )
    client.post("/api/pull", json={"model": "acme/tiny", "stream": False})
    client.post("/api/create", json={"model": "me/mine", "from": "acme/tiny", "system": PROMPT, "stream": False})
    client.post("/api/copy", json={"source": "me/mine", "destination": "other"})
    client.post("/api/push", json={"model": "me/mine", "stream": False})
    client.post("/api/generate", json={"model": "other"})
    client.post("/api/generate", json={"model": "other", "keep_alive": 0})
    client.delete("/api/delete", json={"model": "other"})
    client.post("/api/blobs/sha256:" + "0" * 64, data=b"x")
    demo = "acme/tiny"
    assert told(log) == [
        ("pull", demo, "done"),
        ("create", "me/mine", "done"),
        ("copy", "me/mine", "done"),
        ("push", "me/mine", "done"),
        ("load", "other:latest", "done"),
        ("unload", "other:latest", "done"),
        ("delete", "other", "done"),
        ("upload", DIGEST, "invalid_request"),
    ]
    assert ends(log)[2]["to"] == "other"
    assert all(line.keys() >= SAID_ALWAYS and line["duration_s"] >= 0 for line in ends(log))
    begun = [line for line in lines(log) if line["outcome"] == "begun"]
    assert [line["action"] for line in begun] == ["pull", "create", "push", "delete"]
    for line in begun:
        (end,) = (end for end in ends(log) if end["request_id"] == line["request_id"])
        assert lines(log).index(line) < lines(log).index(end)
        assert {**line, "outcome": "done", "time": "", "duration_s": 0} == {**end, "time": "", "duration_s": 0}
    assert PROMPT not in log.read_text()
    assert GOOD_TOKEN not in log.read_text()


def test_what_is_read_or_said_is_not_told(make_client: MakeClient, log: Path) -> None:
    client, _ = make_client(audit_log=str(log))
    chat = {"model": "demo", "messages": [{"role": "user", "content": PROMPT}], "stream": False}
    assert client.post("/api/chat", json=chat).status_code == 200
    assert client.post("/api/generate", json={"model": "demo", "prompt": PROMPT}).status_code == 200
    for path in ("/api/tags", "/api/ps", "/health", "/metrics"):
        client.get(path)
    assert client.post("/api/show", json={"model": "demo"}).status_code == 200
    assert lines(log) == []


def test_who_and_whence(make_client: MakeClient, log: Path) -> None:
    client, _ = make_client(audit_log=str(log), trusted_proxies=("10.0.0.1",))

    def delete(**environ: str) -> Any:
        headers = {"X-Forwarded-For": "203.0.113.9", "X-Request-ID": "abc"}
        client.delete("/api/delete", json={"model": "nobody"}, headers=headers, environ_overrides=environ)
        return lines(log)[-1]

    found = delete(REMOTE_ADDR="192.0.2.1")
    assert (found["who"], found["address"], found["request_id"]) == ("anonymous", "192.0.2.1", "abc")
    extensions = client.application.extensions
    extensions[EXTENSION] = replace(extensions[EXTENSION], caller=lambda: Caller("ci"))
    assert delete(REMOTE_ADDR="10.0.0.1") == lines(log)[-1]
    assert (lines(log)[-1]["who"], lines(log)[-1]["address"]) == ("ci", "203.0.113.9")


def _broken(client: FlaskClient) -> None:
    client.post("/api/generate", json={"model": "demo"})


def _missing(client: FlaskClient) -> None:
    client.delete("/api/delete", json={"model": "nobody/none"})


def _a_bug(client: FlaskClient) -> None:
    client.post("/api/generate", json={"model": "demo", "keep_alive": 0})


@pytest.mark.parametrize(
    ("act", "outcome"), [(_broken, "model_load"), (_missing, "model_not_found"), (_a_bug, "internal")]
)
def test_how_it_ended(
    make_client: MakeClient,
    log: Path,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[FlaskClient], None],
    outcome: str,
) -> None:
    client, engine = make_client(audit_log=str(log), load=[ModelLoadError("broken", model="demo")])

    def unload(model: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(engine, "unload", unload)
    act(client)
    assert [line["outcome"] for line in ends(log)] == [outcome]


def test_who_leaves_is_told_once(make_client: MakeClient, log: Path, hub: StandInHub, tmp_path: Path) -> None:
    """A model that is pulled for another one: two actions of the same request, both left."""
    hub.repos["acme/tiny"] = Repo(models.chat_model(2_000_000))
    hub.fault("/_cdn/", "slow", 100_000)
    client, _ = make_client(audit_log=str(log), hub_endpoint=hub.endpoint, hub_cache=str(tmp_path / "own"))
    response = client.post("/api/create", json={"model": "mine", "from": "acme/tiny"}, headers={"X-Request-ID": "abc"})
    stream = iter(response.response)
    while b"downloading" not in next(stream):
        pass
    response.close()
    assert sorted(told(log)) == [("create", "mine", "left"), ("pull", "acme/tiny", "left")]
    assert {line["request_id"] for line in lines(log)} == {"abc"}


def test_a_name_ends_no_line(make_client: MakeClient, log: Path) -> None:
    client, _ = make_client(audit_log=str(log))
    for name in ('a"\n{"action":"delete"}', "a\u2028b", "\ud800", "x" * 10_000, "a\0b"):
        client.delete("/api/delete", json={"model": name})
    text = log.read_text()
    assert len(lines(log)) == text.count("\n") == 10
    assert text.isascii()
    assert len(text) < 8_000


def test_the_file_is_its_owners_and_can_be_rotated(make_client: MakeClient, log: Path) -> None:
    client, _ = make_client(audit_log=str(log))
    old = os.umask(0)
    try:
        client.delete("/api/delete", json={"model": "a/one"})
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
        log.rename(log.with_suffix(".1"))
        client.delete("/api/delete", json={"model": "a/two"})
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
    finally:
        os.umask(old)
    assert {line["model"] for line in lines(log)} == {"a/two"}
    assert {line["model"] for line in lines(log.with_suffix(".1"))} == {"a/one"}


def test_many_processes_write_whole_lines(log: Path) -> None:
    program = (
        "import sys, json; from hugging_llama.store.audit_file import append\n"
        "for n in range(300): append(sys.argv[1], json.dumps([sys.argv[2], n, 'x' * 3000]).encode() + b'\\n')"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(log), str(number)]) for number in range(4)]
    assert [writer.wait(120) for writer in writers] == [0] * 4
    found = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted((who, number) for who, number, _ in found) == [(str(w), n) for w in range(4) for n in range(300)]


SECRET = "hf_" + "aB3" * 11


def test_a_secret_in_a_name_is_not_told(make_client: MakeClient, log: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "hugging_llama")
    _, key = new_key("a", roles=("use",))
    client, _ = make_client(audit_log=str(log), hub_endpoint="http://127.0.0.1:9")
    headers = {"X-Request-ID": key}
    url = f"https://user:{SECRET}@huggingface.co/acme/x"
    assert client.post("/api/pull", json={"model": url}, headers=headers).headers["X-Request-ID"] == key
    client.post("/api/copy", json={"source": "demo", "destination": url}, headers=headers)
    client.post("/api/pull", json={"model": f"acme/{SECRET}", "stream": False})
    client.get(f"/v1/{key}")
    client.get(f"/v1/models/{SECRET}")
    text = log.read_text() + caplog.text
    assert SECRET not in text
    assert key not in text
    named = [line.get("to") or line["model"] for line in lines(log)]
    assert set(named) == {"https://***@huggingface.co/acme/x", "acme/hf_***"}
    assert "GET /v1/hl-*** 404" in caplog.text


@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_nothing_but_a_file_is_written_to(log: Path, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    if kind == "folder":
        log.mkdir()
    elif kind == "link":
        log.symlink_to(target)
    else:
        os.mkfifo(log)
    with pytest.raises(OSError, match=r"it is a folder|it is a symbolic link|it is no regular file"):
        append(str(log), b"x\n")
    assert not target.exists()


def test_a_server_that_can_not_write_does_not_start(make_client: MakeClient, log: Path) -> None:
    log.mkdir()
    with pytest.raises(ConfigError, match="HUGGING_LLAMA_AUDIT_LOG"):
        make_client(audit_log=str(log))
    for path in ("audit.jsonl", f"{log}/nowhere/audit.jsonl"):
        with pytest.raises(ConfigError, match="HUGGING_LLAMA_AUDIT_LOG"):
            load_settings(environ={"HUGGING_LLAMA_AUDIT_LOG": path})


def test_a_line_that_can_not_be_written_is_in_the_servers_log(
    make_client: MakeClient, log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client, _ = make_client(audit_log=str(log))
    log.unlink()
    log.mkdir()
    assert client.post("/api/copy", json={"source": "demo", "destination": "mine"}).status_code == 200
    (record,) = (record for record in caplog.records if "audit log" in record.getMessage())
    assert '"action": "copy"' in record.getMessage()


def test_workers_of_a_real_server(log: Path, tmp_path: Path, hub: StandInHub) -> None:
    hub.repos["acme/tiny"] = Repo(models.chat_model(2_000_000))
    hub.fault("/_cdn/", "slow", 100_000)
    with live_server(
        tmp_path, tmp_path / "hub", COMMAND, audit_log=str(log), workers="2", hub_endpoint=hub.endpoint
    ) as server:

        def copy(number: int) -> None:
            body = {"source": "demo", "destination": f"copy-{number}"}
            assert requests.post(f"{server.url}/api/copy", json=body, timeout=60).ok

        threads = [threading.Thread(target=copy, args=(number,)) for number in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(line["to"] for line in lines(log)) == sorted(f"copy-{number}" for number in range(40))
        assert {(line["who"], line["address"]) for line in lines(log)} == {("anonymous", "127.0.0.1")}

        # what is cut by a kill has begun, and has no end
        with requests.post(f"{server.url}/api/pull", json={"model": "acme/tiny"}, stream=True, timeout=60) as answer:
            progress = answer.iter_lines(chunk_size=1)
            while b"downloading" not in next(progress):
                pass
            for worker in psutil.Process(server.process.pid).children():
                worker.kill()
            with contextlib.suppress(requests.RequestException):
                for _ in progress:
                    pass
        cut = lines(log)[40:]
        assert [(line["action"], line["model"], line["outcome"]) for line in cut] == [("pull", "acme/tiny", "begun")]
