"""`serve` up to the moment in which it becomes gunicorn."""

import json
import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hugging_llama_cli import port as port_module
from tests.cli.conftest import MODULE, Invoke
from tests.cli.stub_server import StubServer

_GUNICORN = """\
import json, os, sys
settings = {k: v for k, v in os.environ.items() if k.startswith("HUGGING_LLAMA_")}
print(json.dumps({"argv": sys.orig_argv, "pid": os.getpid(), "settings": settings}))
"""


@pytest.fixture
def serve_environ(environ: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """An environment in which gunicorn only tells how it was started."""
    package = tmp_path / "fake" / "gunicorn"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(_GUNICORN)
    kept = {name: value for name, value in environ.items() if name != "OLLAMA_HOST"}
    return kept | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "fake"), kept.get("PYTHONPATH", "")])}


def _serve(environ: Mapping[str, str], *argv: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, what gunicorn was given, and stderr."""
    with subprocess.Popen(
        [*MODULE, *argv], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        out, err = process.communicate(timeout=120)
    told = json.loads(out) if out else {}
    if told:
        assert told["pid"] == process.pid, "signals must reach gunicorn, not a parent of it"
    return process.returncode, told, err


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_flags_become_settings_and_the_process_becomes_gunicorn(serve_environ: dict[str, str]) -> None:
    port = _free_port()
    code, told, err = _serve(
        serve_environ, "serve", "--host", "0.0.0.0", "--port", port, "--max-resident-models", "4",
        "--model-ttl", "900", "--workers", "3", "--preload", "demo", "--preload", "org/b", "--log-level", "debug",
        "--insecure-no-auth",
    )  # fmt: skip
    assert code == 0
    assert told["argv"][1:] == [
        "-m", "gunicorn", "-c", "python:hugging_llama_config.gunicorn", "hugging_llama:create_app()"
    ]  # fmt: skip
    assert told["settings"] == {
        "HUGGING_LLAMA_HOST": "0.0.0.0",
        "HUGGING_LLAMA_PORT": port,
        "HUGGING_LLAMA_MAX_LOADED_MODELS": "4",
        "HUGGING_LLAMA_KEEP_ALIVE_S": "900",
        "HUGGING_LLAMA_WORKERS": "3",
        "HUGGING_LLAMA_PRELOAD": "demo,org/b",
        "HUGGING_LLAMA_LOG_LEVEL": "debug",
        "HUGGING_LLAMA_INSECURE_NO_AUTH": "true",
    }
    assert f"Starting Hugging Llama on http://127.0.0.1:{port}\n" in err
    assert "\n  device   " in err
    assert "\n  models   0 in " in err
    assert err.splitlines()[-1].startswith(f"Warning: whoever reaches port {port} of this machine may use")
    assert f" --url http://127.0.0.1:{port} run demo" in err
    assert f"curl http://127.0.0.1:{port}/api/generate" in err


def test_without_flags_the_environment_stays_as_it_is(serve_environ: dict[str, str]) -> None:
    port = _free_port()
    code, told, err = _serve(serve_environ | {"OLLAMA_LOCAL_PORT": port}, "start")
    assert (code, told["settings"]) == (0, {})
    assert f"Starting Hugging Llama on http://127.0.0.1:{port}\n" in err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--port", "80000"], "--port: must be from 0 to 65535, not 80000"),
        (["--port", "many"], "--port: 'many' is not a whole number"),
        (["--model-ttl", "soon"], "--model-ttl: 'soon' is not a duration; write seconds, or for example 5m or 1h30m"),
        (["--keep-alive-s", "nan"], "--keep-alive-s: 'nan' is not a duration"),
        (["--prefix-cache", "perhaps"], "--prefix-cache: 'perhaps' is neither true nor false"),
        (["--config", "/nowhere/x.toml"], "--config: there is no file /nowhere/x.toml"),
        (["--log-level", "loud"], "--log-level: 'loud' is none of debug, info, warning, error"),
        (["--host", "no.such.host.invalid", "--port", "0"], "'no.such.host.invalid' is no address of this machine"),
        (["--host", "192.0.2.1", "--port", "0"], "'192.0.2.1' is no address of this machine"),
    ],
)
def test_settings_that_can_not_be(argv: list[str], message: str, invoke: Invoke) -> None:
    # what can not be a value is wrong usage; what is wrong with the machine is not
    assert invoke("serve", *argv) == (2 if message.startswith("--") else 1, "", f"Error: {message}\n")


@pytest.mark.parametrize(
    ("flag", "value", "reason"),
    [
        ("--keys-file", "{home}/none.json", "there is no file {home}/none.json: make a key with"),
        ("--keys-file", "{home}", "{home} is no regular file"),
        ("--audit-log", "{home}", "{home} can't be written: it is a folder; name a file in it"),
    ],
)
def test_files_that_can_not_be_used_are_told_by_the_word_that_was_typed(
    flag: str, value: str, reason: str, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, reason = (text.format(home=tmp_path) for text in (value, reason))
    variable = f"HUGGING_LLAMA_{flag[2:].upper().replace('-', '_')}"
    code, _, err = invoke("serve", "--port", "0", flag, value)
    assert (code, err.startswith(f"Error: {flag}: {reason}")) == (1, True), err
    monkeypatch.setenv(variable, value)
    code, _, err = invoke("serve", "--port", "0")
    assert (code, err.startswith(f"Error: {variable}: {reason}")) == (1, True), err


def test_nobody_is_let_in_without_keys_by_mistake(invoke: Invoke, serve_environ: dict[str, str]) -> None:
    argv = ("serve", "--host", "0.0.0.0", "--port", _free_port())
    code, _, err = invoke(*argv)
    assert code == 1
    assert err == (
        "Error: 0.0.0.0 can be reached by others, and there are no keys: make one with 'hugging-llama keys add NAME', "
        "or let everybody in with --insecure-no-auth (HUGGING_LLAMA_INSECURE_NO_AUTH=true)\n"
    )
    assert invoke("keys", "add", "me")[0] == 0
    assert _serve(serve_environ, *argv)[0] == 0


def test_a_port_that_is_taken(invoke: Invoke, server: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_module, "_PROBE_TIMEOUT_S", 60.0)
    port = server.url.rpartition(":")[2]
    code, out, err = invoke("serve", "--port", port)
    assert (code, out) == (1, "")
    assert err.startswith(f"Error: port {port} on 127.0.0.1 is taken by another Hugging Llama server")
    assert err.endswith("; choose another with --port\n")
    assert err.count("\n") == 1


def test_a_port_taken_by_something_silent(invoke: Invoke) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = str(silent.getsockname()[1])
        code, _, err = invoke("serve", "--port", port)
    assert code == 1
    assert err.startswith(f"Error: port {port} on 127.0.0.1 is taken by another program")
