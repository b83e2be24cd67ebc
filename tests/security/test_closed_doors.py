"""A server that has asked for keys once does so for the rest of its life, whoever dies and whatever is reloaded."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
import requests
from flask import Flask

from hugging_llama import create_blueprint
from hugging_llama.testing import ScriptedEngine
from hugging_llama_config.env import load_settings
from hugging_llama_config.exposure import ExposureError, check_exposure
from hugging_llama_config.keys import add_key, new_key
from hugging_llama_config.settings import Settings
from tests.functional.conftest import MakeClient
from tests.live_server import LiveServer, live_server
from tests.process.servers import wait_until
from tests.security.conftest import COMMAND

PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("doors")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[LiveServer]:
    """One that nobody has told of keys: it asks for them as soon as there is a file in its home."""
    with live_server(home, home / "hub", COMMAND, hub_endpoint="http://127.0.0.1:9", home=str(home)) as running:
        yield running


def workers(server: LiveServer) -> dict[int, psutil.Process]:
    return {child.pid: child for child in psutil.Process(server.process.pid).children()}


def statuses(server: LiveServer, secret: str = "") -> set[int]:
    """Each on a connection of its own, so that all workers are asked."""
    headers = {"Connection": "close", **({"x-api-key": secret} if secret else {})}
    return {requests.get(f"{server.url}/api/tags", headers=headers, timeout=60).status_code for _ in range(12)}


def replace_workers(server: LiveServer) -> None:
    """Kill them all, until others answer."""
    old = workers(server)
    for process in old.values():
        process.kill()
    wait_until(lambda: len(workers(server).keys() - old.keys()) >= len(old), PATIENCE_S)
    wait_until(lambda: is_up(server), PATIENCE_S)


def is_up(server: LiveServer) -> bool:
    try:
        return requests.get(f"{server.url}/health", headers={"Connection": "close"}, timeout=60).ok
    except requests.ConnectionError:
        return False


def make_key(path: Path, name: str) -> str:
    key, secret = new_key(name, roles=("use",))
    add_key(str(path), key)
    return secret


def test_a_worker_that_comes_after_the_file_has_gone_lets_nobody_in(server: LiveServer, home: Path) -> None:
    path = home / "keys.json"
    assert statuses(server) == {200}
    secret = make_key(path, "first")
    assert (statuses(server), statuses(server, secret)) == ({401}, {200})
    path.unlink()
    assert statuses(server) == {401}
    # to a worker that has read them; which one answers is chance, and one that has not lets nobody in
    wait_until(lambda: 200 in statuses(server, secret), PATIENCE_S)
    replace_workers(server)
    # they have never seen the keys, but the server has
    assert (statuses(server), statuses(server, secret)) == ({401}, {401})

    before = set(workers(server))
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: f"not reloaded: {path} is gone" in server.log.read_text(), PATIENCE_S)
    assert set(workers(server)) == before
    path.write_text("{")
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: f"not reloaded: {path} is damaged" in server.log.read_text(), PATIENCE_S)
    assert set(workers(server)) == before
    assert statuses(server, secret) == {401}

    path.unlink()
    secret = make_key(path, "second")
    assert (statuses(server), statuses(server, secret)) == ({401}, {200})
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: not set(workers(server)) & before, PATIENCE_S)
    assert (statuses(server), statuses(server, secret)) == ({401}, {200})


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "HUGGING_LLAMA_KEYS_FILE: there is no file {path}"), ("{", "HUGGING_LLAMA_KEYS_FILE: {path} is damaged")],
)
def test_a_server_does_not_start_without_the_keys_that_it_is_to_ask_for(
    server: LiveServer, tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "none.json"
    if text is not None:
        path.write_text(text)
    environ = {**server.environ, "HUGGING_LLAMA_KEYS_FILE": str(path), "HUGGING_LLAMA_PORT": "0"}
    for command in (COMMAND, [sys.executable, "-m", "hugging_llama_cli", "serve"]):
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert "Error: " + message.format(path=path) in done.stderr
        assert "Traceback" not in done.stderr


def test_an_application_closes_where_a_file_was_named_that_is_not_there(
    make_client: MakeClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.json"
    client, _ = make_client(keys_file=str(path))
    assert client.get("/api/tags").status_code == 401
    assert f"there is no file {path}" in caplog.text
    secret = make_key(path, "k")
    assert client.get("/api/tags", headers={"x-api-key": secret}).status_code == 200


def test_a_mounted_application_asks_for_the_keys_that_were_named(make_client: MakeClient, tmp_path: Path) -> None:
    """Where nobody has named a file its doors are its own."""
    settings = make_client(keys_file=str(tmp_path / "keys.json"))[0].application.extensions["hugging_llama"].settings
    app = Flask(__name__)
    app.add_url_rule("/", view_func=lambda: "theirs")
    app.register_blueprint(create_blueprint(settings, engine=ScriptedEngine()), url_prefix="/llm")
    client = app.test_client()
    assert client.get("/llm/api/tags").status_code == 401
    secret = make_key(tmp_path / "keys.json", "k")
    assert client.get("/llm/api/tags", headers={"x-api-key": secret}).status_code == 200
    assert client.get("/llm/api/tags").status_code == 401
    assert client.get("/llm/api/version").status_code == 200
    assert client.get("/").text == "theirs"


@pytest.mark.parametrize("target", ["not-mounted", "file/below"])
def test_a_file_that_can_not_be_looked_at_counts_as_one(make_client: MakeClient, tmp_path: Path, target: str) -> None:
    """A link to what is not mounted."""
    home = tmp_path / "linked"
    home.mkdir()
    (tmp_path / "file").touch()
    (home / "keys.json").symlink_to(tmp_path / target)
    assert make_client(home=str(home))[0].get("/api/tags").status_code == 401
    settings = load_settings(environ={"HOME": str(tmp_path), "HUGGING_LLAMA_HOME": str(home)})
    assert (settings.keys_file, settings.keys_path) == ("", str(home / "keys.json"))


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_a_key_that_could_not_be_read_is_read_later(make_client: MakeClient, tmp_path: Path, kind: str) -> None:
    """What fails for want of a descriptor, or of a permission, is no damage of the file; nobody waits for a pipe."""
    path = tmp_path / "keys.json"
    if kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    client, _ = make_client(keys_file=str(path))
    assert client.get("/api/tags").status_code == 401
    with pytest.raises(ExposureError, match="is no regular file"):
        check_exposure(Settings(keys_file=str(path)), ["127.0.0.1"])
    if kind == "folder":
        path.rmdir()
    else:
        path.unlink()
    secret = make_key(path, "k")
    assert client.get("/api/tags", headers={"x-api-key": secret}).status_code == 200
