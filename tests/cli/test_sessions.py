"""Chats that are kept and go on."""

import json
from pathlib import Path

import pytest

from hugging_llama_cli.sessions import SessionStore
from tests.cli.conftest import MODULE, Invoke
from tests.cli.stub_server import StubServer
from tests.cli.terminal_session import CTRL_D, IDLE_PROMPT, TerminalSession

HOME = Path(".cache", "hugging-llama")


def test_a_chat_goes_on(environ: dict[str, str], server: StubServer, tmp_path: Path, invoke: Invoke) -> None:
    argv = [*MODULE, "run", "demo", "--session", "trip"]
    with TerminalSession(argv, environ) as first:
        first.expect_screen(IDLE_PROMPT)
        first.say("/set system Be brief")
        first.say("/set parameter temperature 0.5")
        first.say("think")
        assert invoke("run", "demo", "--session", "trip", "x") == (
            1, "", "Error: the session 'trip' is open in another chat\n"
        )  # fmt: skip
        first.send(CTRL_D)
        assert first.finish() == 0
    path = tmp_path / HOME / "sessions" / "trip.json"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert invoke("run", "demo", "--session", "trip", "second") == (0, "You said: second\n", "")
    with TerminalSession(argv, environ) as third:
        third.expect_screen(
            f"The session 'trip' goes on after 4 messages.\n>>> second\nYou said: second\n\n{IDLE_PROMPT}"
        )
        third.say("third")
    body = server.bodies("/api/chat")[-1]
    assert body["options"] == {"temperature": 0.5}
    assert [(m["role"], m["content"]) for m in body["messages"]] == [
        ("system", "Be brief"),
        ("user", "think"),
        ("assistant", "You said: think"),
        ("user", "second"),
        ("assistant", "You said: second"),
        ("user", "third"),
    ]
    assert body["messages"][2]["thinking"] == "Let me see."


def test_what_is_cleared_is_not_kept(environ: dict[str, str], invoke: Invoke) -> None:
    def counts() -> dict[str, int]:
        return {each["name"]: each["messages"] for each in json.loads(invoke("sessions", "list", "--json")[1])}

    for name in ("bob", "new"):
        with TerminalSession([*MODULE, "run", "demo", "--session", name], environ) as chat:
            chat.expect_screen(IDLE_PROMPT)
            if name == "bob":
                chat.say("first")
                assert counts() == {"bob": 2}
            assert chat.say("/clear") == "Cleared session context\n"
            chat.send(CTRL_D)
            assert chat.finish() == 0
    assert counts() == {"bob": 0}, "and a chat in which nothing was said makes none"


@pytest.fixture
def kept(invoke: Invoke) -> None:
    for name, text in (("a", "think"), ("a", "tool"), ("b", "hi")):
        assert invoke("run", "demo", "--session", name, text)[0] == 0


@pytest.mark.usefixtures("kept")
def test_they_are_listed_and_deleted(invoke: Invoke, tmp_path: Path) -> None:
    code, out, err = invoke("sessions")
    assert (code, err) == (0, "")
    rows = [line.split("    ") for line in out.splitlines()]
    assert [row[0].strip() for row in rows] == ["NAME", "a", "b"]
    assert rows[1][1].strip() == "hugging-llama/demo:latest"
    listed = json.loads(invoke("sessions", "list", "--json")[1])
    assert [(s["name"], s["messages"]) for s in listed] == [("a", 4), ("b", 2)]
    assert invoke("sessions", "rm", "b") == (0, "deleted 'b'\n", "")
    assert invoke("sessions", "rm", "b")[2] == "Error: there is no session 'b' (see 'hugging-llama sessions list')\n"
    assert SessionStore(tmp_path / HOME).names() == ["a"]
    assert [path.name for path in (tmp_path / HOME / "sessions").iterdir() if "b" in path.name] == []


@pytest.mark.usefixtures("kept")
def test_export(invoke: Invoke, tmp_path: Path) -> None:
    code, out, _ = invoke("sessions", "export", "a")
    assert code == 0
    assert out.startswith("# a\n\nModel: `hugging-llama/demo:latest`, 2")
    assert (
        "## You\n\nthink\n\n## Assistant\n\n<details><summary>Thinking</summary>\n\nLet me see.\n\n</details>\n\n"
        "You said: think\n\n## You\n\ntool\n\n## Assistant\n\nYou said: tool\n\n```json\n{" in out
    )
    messages = json.loads(invoke("sessions", "export", "a", "--json")[1])["messages"]
    assert messages[3]["tool_calls"][0]["function"]["name"] == "get_weather"
    target = tmp_path / "a.md"
    assert invoke("sessions", "export", "a", "-o", str(target)) == (0, "", "")
    assert target.read_text() == out
    assert target.stat().st_mode & 0o777 == 0o600
    assert invoke("sessions", "export", "a", "-o", str(target))[0] == 1, "a file that is there stays"


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 2}', '{"format": 1, "messages": [1], "options": {}}'])
def test_a_damaged_one_is_told_and_left_alone(invoke: Invoke, tmp_path: Path, text: str) -> None:
    folder = tmp_path / HOME / "sessions"
    folder.mkdir(parents=True)
    (folder / "bad.json").write_text(text)
    code, _, err = invoke("run", "demo", "--session", "bad", "hi")
    assert (code, err.count("\n")) == (1, 1)
    assert "is no session of this version" in err
    assert (folder / "bad.json").read_text() == text
    assert invoke("sessions")[0] == 0


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "x" * 65])
def test_names_are_no_paths(invoke: Invoke, name: str, tmp_path: Path) -> None:
    assert invoke("run", "demo", "--session", name, "hi")[0] == 2
    assert invoke("sessions", "rm", name)[0] == 2
    assert not (tmp_path / HOME / "sessions").exists()


def test_a_failed_turn_is_not_kept(invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("run", "demo", "--session", "s", "fail")[0] == 1
    assert SessionStore(tmp_path / HOME).names() == []
