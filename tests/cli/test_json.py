"""`--json`: what programs read."""

import json
from pathlib import Path
from typing import Any

import pytest

from hugging_llama_cli.main import COMMANDS, Command
from tests.cli.conftest import Invoke
from tests.cli.stub_server import CHAT_MODEL, EMBEDDING_MODEL, FINAL, StubServer

DEMO = "hugging-llama/demo"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_can(command: Command, invoke: Invoke) -> None:
    if command.name == "completion":
        pytest.skip("prints a script for a shell and nothing else")
    assert "--json" in invoke(command.name, "--help")[1]


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["list"], [CHAT_MODEL, EMBEDDING_MODEL]),
        (["list", "SENT"], [EMBEDDING_MODEL]),
        (["ps"], [CHAT_MODEL | {"ref_count": 1}]),
        (["cp", DEMO, "mine"], {"source": DEMO, "destination": "mine"}),
        (["rm", DEMO], {"deleted": DEMO, "freed_bytes": 12}),
        (["stop", DEMO], {"stopped": DEMO}),
        (["tokenize", DEMO, "hi"], {"tokens": [104, 105], "count": 2}),
        (["run", DEMO, "hi"], {"model": f"{DEMO}:latest", "response": "You said: hi"} | FINAL),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and isinstance(value[0], str) else "",
)
def test_one_value(argv: list[str], told: Any, invoke: Invoke, server: StubServer) -> None:
    server.loaded = [CHAT_MODEL | {"ref_count": 1}]
    server.freed_bytes = 12
    code, out, err = invoke(*argv, "--json")
    assert (code, json.loads(out), err) == (0, told, "")


@pytest.mark.parametrize("argv", [["pull", "org/new"], ["push", "me/mine"], ["create", "mine", "--from", DEMO]])
def test_progress_is_an_object_a_line(argv: list[str], invoke: Invoke, server: StubServer) -> None:
    events: list[dict[str, Any]] = [
        {"status": "pulling a", "file": "a", "total": 5, "completed": 2},
        {"status": "success"},
    ]
    server.pull_events, server.push_events, server.create_events = ([dict(e) for e in events] for _ in range(3))
    code, out, err = invoke(*argv, "--json")
    assert (code, [json.loads(line) for line in out.splitlines()], err) == (0, events, "")


def test_versions_with_and_without_a_server(invoke: Invoke, server: StubServer) -> None:
    told = json.loads(invoke("version", "--json")[1])
    assert (told["server"], told["url"]) == ("0.99.1", server.url)
    code, out, err = invoke("version", "--json", "--url", "127.0.0.1:1")
    assert (code, json.loads(out)["server"], err) == (0, None, "")


def test_keys(invoke: Invoke, tmp_path: Path) -> None:
    assert json.loads(invoke("keys", "list", "--json")[1]) == []
    made = json.loads(invoke("keys", "add", "ci", "--role", "use", "--json")[1])
    (listed,) = json.loads(invoke("keys", "list", "--json")[1])
    assert listed == {name: value for name, value in made.items() if name != "key"}
    assert "sha256" not in listed
    assert json.loads(invoke("keys", "revoke", "ci", "--json")[1]) == {"revoked": "ci", "id": made["id"]}


def test_a_failure_is_a_line_on_stderr(invoke: Invoke) -> None:
    code, out, err = invoke("cp", "no/such", "mine", "--json")
    assert (code, out) == (1, "")
    assert err.startswith("Error: ")
    assert invoke("serve", "--json")[0] == 2
