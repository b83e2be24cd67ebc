"""The chat, on a pseudo-terminal."""

import re
import readline
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import MODULE
from tests.cli.stub_server import CHAT_MODEL, StubServer
from tests.cli.terminal_session import CTRL_C, CTRL_D, TerminalSession

_PROMPT = ">>> "


@pytest.fixture
def chat(environ: dict[str, str]) -> Iterator[TerminalSession]:
    with TerminalSession([*MODULE, "run", "demo"], environ) as session:
        session.expect("Send a message (/? for help)")
        session.expect(_PROMPT)
        yield session


def _say(chat: TerminalSession, text: str) -> str:
    """Type a line; gives what comes before the next prompt."""
    chat.send(text + "\r")
    chat.expect(text + "\n")
    return chat.expect(_PROMPT).removesuffix(_PROMPT)


def test_turns_are_remembered_until_cleared(chat: TerminalSession, server: StubServer) -> None:
    assert _say(chat, "first") == "You said: first\n\n"
    assert _say(chat, "second") == "You said: second\n\n"
    assert _say(chat, "/clear") == "Cleared session context\n"
    _say(chat, "third")
    chat.send("/bye\r")
    assert chat.finish() == 0
    assert server.bodies("/api/generate") == [{"model": "hugging-llama/demo:latest", "prompt": "", "stream": False}]
    bodies = server.bodies("/api/chat")
    assert [m["content"] for m in bodies[1]["messages"]] == ["first", "You said: first", "second"]
    assert [m["role"] for m in bodies[1]["messages"]] == ["user", "assistant", "user"]
    assert [m["content"] for m in bodies[2]["messages"]] == ["third"]


def test_thinking_is_dimmed_between_its_lines(chat: TerminalSession) -> None:
    shown = _say(chat, "think")
    assert shown == "Thinking...\nLet me see.\n...done thinking.\n\nYou said: think\n\n"
    assert re.search(r"\x1b\[2mThinking\.\.\.\r\nLet me \x1b\[0m\x1b\[2msee\.\x1b\[0m", chat.raw)


def test_no_colour_on_request(environ: dict[str, str]) -> None:
    with TerminalSession([*MODULE, "run", "demo", "think"], environ | {"NO_COLOR": "1"}) as session:
        assert session.finish() == 0
    assert "...done thinking." in session.raw
    assert "\x1b[2m" not in session.raw


def test_messages_of_several_lines(chat: TerminalSession, server: StubServer) -> None:
    chat.send('"""one\r')
    chat.expect("... ")
    chat.send("two\r")
    chat.expect("... ")
    chat.send('/bye"""\r')
    chat.expect("You said: one\ntwo\n/bye\n")
    chat.expect(_PROMPT)
    assert _say(chat, '"""short"""') == "You said: short\n\n"
    chat.send('"""given up\r')
    chat.expect("... ")
    chat.press(CTRL_C, _PROMPT)
    assert len(server.bodies("/api/chat")) == 2


@pytest.mark.skipif("libedit" in (readline.__doc__ or ""), reason="libedit does not bracket what is pasted")
def test_what_is_pasted_is_one_message(chat: TerminalSession, server: StubServer) -> None:
    chat.send("\x1b[200~one\n/bye\x1b[201~\r")
    chat.expect("You said: one\n/bye\n")
    assert server.bodies("/api/chat")[0]["messages"][0]["content"] == "one\n/bye"


def test_tab_completes_commands(chat: TerminalSession) -> None:
    chat.send("/set sys\t")
    chat.expect("/set system")
    chat.send(" Be brief\r")
    chat.expect("Set system message.")


def test_ctrl_c_stops_a_reply_and_keeps_what_came(chat: TerminalSession, server: StubServer) -> None:
    chat.send("wait\r")
    chat.expect("waiting ..")
    chat.send(CTRL_C)
    chat.expect(_PROMPT)
    assert server.left.wait(60), "the connection was not closed"
    assert _say(chat, "next") == "You said: next\n\n"
    messages = server.bodies("/api/chat")[1]["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "user"]
    assert messages[1]["content"].startswith("waiting .")


def test_ctrl_c_at_the_prompt_explains_and_ctrl_d_leaves(chat: TerminalSession) -> None:
    chat.press(CTRL_C, "Use Ctrl + d or /bye to exit.\n" + _PROMPT)
    chat.send(CTRL_D)
    assert chat.finish() == 0


def test_an_error_ends_the_turn_and_not_the_chat(chat: TerminalSession, server: StubServer) -> None:
    assert _say(chat, "fail") == "You said: fail\n\nError: the model fell over\n"
    _say(chat, "again")
    assert [m["content"] for m in server.bodies("/api/chat")[1]["messages"]] == ["again"]


def test_settings_go_with_the_next_turn(chat: TerminalSession, server: StubServer) -> None:
    for line, answer in [
        ("/set system Be brief", "Set system message."),
        ("/show system", "Be brief"),
        ("/set parameter temperature 0.5", "Set parameter 'temperature' to '0.5'"),
        ('/set parameter stop END "two words"', "Set parameter 'stop' to 'END two words'"),
        (
            "/show parameters",
            "Model defined parameters:\n  temperature                    0.3\n"
            '  stop                           "<|im_end|>"\n\n'
            "User defined parameters:\n  temperature                    0.5\n"
            "  stop                           ['END', 'two words']",
        ),
        ("/set parameter", "Error: usage: /set parameter NAME VALUE"),
        ("/set think low", "Set 'think' mode to 'low'."),
        ("/set think hard", "Error: think must be true, false or one of high, medium, low, max, not 'hard'"),
        ("/set format json", "Set format to 'json' mode."),
        ("/set nothing", "Unknown command '/set nothing'. Type /? for help"),
        ("/nothing at all", "Unknown command '/nothing'. Type /? for help"),
        ("/set verbose", "Set 'verbose' mode."),
    ]:
        assert _say(chat, line) == answer + "\n"
    assert "eval rate:            20.00 tokens/s\n" in _say(chat, "x")
    assert server.bodies("/api/chat") == [
        {
            "model": "hugging-llama/demo:latest",
            "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "x"}],
            "options": {"temperature": 0.5, "stop": ["END", "two words"]},
            "think": "low",
            "format": "json",
            "stream": True,
        }
    ]
    _say(chat, "/set quiet")
    _say(chat, "/set noformat")
    _say(chat, "/set nothink")
    assert "eval rate" not in _say(chat, "y")
    body = server.bodies("/api/chat")[1]
    assert (body["think"], "format" in body) == (False, False)


def test_a_system_message_of_several_lines(chat: TerminalSession) -> None:
    chat.send('/set system """one\r')
    chat.expect("... ")
    chat.send('two"""\r')
    chat.expect("Set system message.\n" + _PROMPT)
    assert _say(chat, "/show system") == "one\ntwo\n"


def test_show_prints_one_text(chat: TerminalSession) -> None:
    assert _say(chat, "/show template") == "{{ messages }}\n"
    assert _say(chat, "/show license") == "Apache License\n\nVersion 2.0\nand so on\n"
    assert _say(chat, "/show system") == "No system message was specified for this model.\n"
    _say(chat, "/set system Be brief")
    assert _say(chat, "/show modelfile") == "FROM hugging-llama/demo:latest\nSYSTEM Be brief\n"
    usage = "Error: usage: /show [info | license | modelfile | parameters | system | template]\n"
    assert _say(chat, "/show nothing") == usage


def test_save(chat: TerminalSession, server: StubServer) -> None:
    assert _say(chat, "/save") == "Error: usage: /save MODEL\n"
    _say(chat, "first")
    _say(chat, "think")
    _say(chat, "/set system Be brief")
    _say(chat, "/set parameter num_ctx 512")
    assert _say(chat, "/save mine") == "Created new model 'mine'\n"
    assert server.bodies("/api/create") == [
        {
            "model": "mine",
            "from": "hugging-llama/demo:latest",
            "system": "Be brief",
            "parameters": {"num_ctx": 512},
            "messages": [
                {"role": "user", "content": "first"},
                {"role": "assistant", "content": "You said: first"},
                {"role": "user", "content": "think"},
                {"role": "assistant", "content": "You said: think"},
            ],
            "stream": True,
        }
    ]
    server.create_events = [{"error": "invalid model name"}]
    assert _say(chat, "/save ..") == "Error: invalid model name\n"


def test_messages_of_the_model_are_shown_and_saved_but_not_sent(chat: TerminalSession, server: StubServer) -> None:
    before = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello\x1b[2J."}]
    server.models = [*server.models, CHAT_MODEL | {"name": "told", "shown": {"messages": before}}]
    assert _say(chat, "/load told") == "Loaded 'told'\n"
    assert chat.expect(">>> ") == "Hi\nHello[2J.\n\n>>> "
    _say(chat, "/save plain")
    assert "messages" not in server.bodies("/api/create")[0], "the new model has them from the old one"
    _say(chat, "first")
    assert server.bodies("/api/chat")[0]["messages"] == [{"role": "user", "content": "first"}]
    _say(chat, "/save longer")
    assert [turn["content"] for turn in server.bodies("/api/create")[1]["messages"]] == [
        "Hi", "Hello\x1b[2J.", "first", "You said: first"
    ]  # fmt: skip


def test_show_list_load_and_help(chat: TerminalSession, server: StubServer) -> None:
    assert "architecture        llama" in _say(chat, "/show")
    assert _say(chat, "/list").startswith("NAME ")
    assert "/set parameter NAME VALUE" in _say(chat, "/?")
    assert _say(chat, "/load some/gated") == "Error: access to 'gated' is restricted\n"
    _say(chat, "a")
    assert _say(chat, "/load other") == "Loaded 'other'\n"
    _say(chat, "b")
    sent = [(body["model"], len(body["messages"])) for body in server.bodies("/api/chat")]
    assert sent == [("hugging-llama/demo:latest", 1), ("other", 1)]


def test_history_outlives_the_chat_and_is_private(environ: dict[str, str], tmp_path: Path) -> None:
    argv = [*MODULE, "run", "demo"]
    with TerminalSession(argv, environ) as first:
        first.expect(_PROMPT)
        _say(first, "remember me")
        first.send(CTRL_D)
        assert first.finish() == 0
    history = tmp_path / ".hugging_llama_history"
    assert history.stat().st_mode & 0o777 == 0o600
    assert "remember me" in history.read_text()
    with TerminalSession(argv, environ) as second:
        second.expect(_PROMPT)
        second.send("\x1b[A\r")
        second.expect("You said: remember me\n")
    history.unlink()
    with TerminalSession(argv, environ | {"OLLAMA_NOHISTORY": "1"}) as third:
        third.expect(_PROMPT)
        _say(third, "forget me")
        third.send(CTRL_D)
        assert third.finish() == 0
    assert not history.exists()


def test_long_lines_wrap_between_words(environ: dict[str, str]) -> None:
    with TerminalSession([*MODULE, "run", "demo", "long"], environ, columns=30) as session:
        assert session.finish() == 0
    lines = session.text.split("\n")
    # a word that did not fit was taken back and stands on the next line
    assert "\x1b[K\r\nword" in session.raw
    assert all(word in session.text for word in (f"word{i}" for i in range(40)))
    assert len(lines) > 8
    with TerminalSession([*MODULE, "run", "demo", "long", "--nowordwrap"], environ, columns=30) as session:
        assert session.finish() == 0
    assert len(session.text.rstrip().split("\n")) == 1


def test_control_characters_do_not_reach_a_terminal(environ: dict[str, str]) -> None:
    with TerminalSession([*MODULE, "run", "demo", "a\x1b]0;title\x07b"], environ) as session:
        assert session.finish() == 0
    assert "You said: a]0;titleb" in session.raw


def test_one_answer_with_ctrl_c(environ: dict[str, str], server: StubServer) -> None:
    with TerminalSession([*MODULE, "run", "demo", "wait"], environ) as session:
        session.expect("waiting ..")
        session.send(CTRL_C)
        assert session.finish() == 130
    assert "Traceback" not in session.raw
    assert server.left.wait(60)


def test_ps_is_a_table(environ: dict[str, str], server: StubServer) -> None:
    model = server.models[0] | {"expires_at": "2318-01-01T00:00:00Z", "context_length": 2048, "size_vram": 0}
    server.loaded = [model]
    with TerminalSession([*MODULE, "ps"], environ, columns=120) as session:
        assert session.finish() == 0
    assert session.text.splitlines() == [
        "NAME                         ID              SIZE      PROCESSOR    CONTEXT    UNTIL",
        "hugging-llama/demo:latest    ab12cd34ef56    7.6 MB    100% CPU     2048       Forever",
    ]
