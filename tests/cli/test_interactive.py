"""The chat, on a pseudo-terminal."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import MODULE
from tests.cli.stub_server import CHAT_MODEL, StubServer
from tests.cli.terminal_session import CTRL_C, CTRL_D, CTRL_G, IDLE_PROMPT, TAB, UP, TerminalSession


@pytest.fixture
def chat(environ: dict[str, str]) -> Iterator[TerminalSession]:
    with TerminalSession([*MODULE, "run", "demo"], environ) as session:
        session.expect_screen(IDLE_PROMPT)
        yield session


def test_turns_are_remembered_until_cleared(chat: TerminalSession, server: StubServer) -> None:
    assert chat.say("first") == "You said: first\n\n"
    assert chat.say("second") == "You said: second\n\n"
    assert chat.say("/clear") == "Cleared session context\n"
    chat.say("third")
    chat.send("/bye\r")
    assert chat.finish() == 0
    assert server.bodies("/api/generate") == [{"model": "hugging-llama/demo:latest", "prompt": "", "stream": False}]
    bodies = server.bodies("/api/chat")
    assert [m["content"] for m in bodies[1]["messages"]] == ["first", "You said: first", "second"]
    assert [m["role"] for m in bodies[1]["messages"]] == ["user", "assistant", "user"]
    assert [m["content"] for m in bodies[2]["messages"]] == ["third"]


def test_thinking_is_dimmed_between_its_lines(chat: TerminalSession) -> None:
    shown = chat.say("think")
    assert shown == "Thinking...\nLet me see.\n...done thinking.\n\nYou said: think\n\n"
    assert chat.say("/show thinking") == "Let me see.\n"
    assert re.search(r"\x1b\[2mThinking\.\.\.\r\nLet me \x1b\[0m\x1b\[2msee\.\x1b\[0m", chat.raw)


def test_thinking_folds_into_a_line(chat: TerminalSession) -> None:
    assert chat.say("/set nothinking") == "Set 'nothinking' mode.\n"
    assert re.fullmatch(r"Thought(?: for [1-9][0-9.]*m?s)?\.\n\nYou said: think\n\n", chat.say("think"))
    assert chat.say("/show thinking") == "Let me see.\n"
    assert chat.say("/set thinking") == "Set 'thinking' mode.\n"
    assert chat.say("think").startswith("Thinking...\nLet me see.\n")


def _set_tools(chat: TerminalSession, path: Path) -> None:
    chat.send(f"/set tools {path}\r")  # which may need two lines
    chat.expect("Set tools: get_weather.")
    chat.expect_screen(IDLE_PROMPT)


def test_the_user_plays_the_tools(chat: TerminalSession, server: StubServer, tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
    (tmp_path / "tools.json").write_text(json.dumps([tool]))
    _set_tools(chat, tmp_path / "tools.json")
    chat.send("tool\r")
    chat.expect("What does get_weather answer? (empty: nothing) ")
    chat.send("18 degrees\r")
    chat.expect("You said: 18 degrees")
    chat.expect_screen(IDLE_PROMPT)
    body = server.bodies("/api/chat")[-1]
    assert body["tools"] == [tool]
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "tool"]
    assert body["messages"][-1] == {"role": "tool", "tool_name": "get_weather", "content": "18 degrees"}
    chat.say("/save mine")
    saved = server.bodies("/api/create")[-1]["messages"]
    assert [message["role"] for message in saved] == ["user", "assistant"], "there are no turns of tools in a model"
    assert chat.say("/set notools") == "Disabled tools.\n"
    assert (
        chat.say("/set tools /nowhere")
        == "Error: the tools' file '/nowhere' can't be read: No such file or directory\n"
    )


def test_a_tool_without_an_answer_leaves_the_word_to_the_user(
    chat: TerminalSession, server: StubServer, tmp_path: Path
) -> None:
    (tmp_path / "tool.json").write_text('{"type": "function", "function": {"name": "get_weather"}}')
    _set_tools(chat, tmp_path / "tool.json")
    chat.send("tool\r")
    chat.expect("(empty: nothing) ")
    chat.send("\r")
    chat.expect_screen(IDLE_PROMPT)
    assert chat.say("next") == "You said: next\n\n"
    assert [message["role"] for message in server.bodies("/api/chat")[-1]["messages"]] == ["user", "assistant", "user"]


def test_tool_calls_are_shown(chat: TerminalSession, server: StubServer) -> None:
    assert chat.say("tool") == 'Tool call: get_weather(city="Paris", days=2)\nYou said: tool\n\n'
    chat.say("next")
    calls = server.bodies("/api/chat")[1]["messages"][1]["tool_calls"]
    assert calls[0]["function"]["arguments"] == {"city": "Paris", "days": 2}


def test_what_the_server_is_about_is_shown_before_the_first_token(chat: TerminalSession, server: StubServer) -> None:
    for phase in ("waiting, place 3 in the queue", "loading the model", "reading the prompt, 512 of 4000 tokens"):
        server_says = {"waiting": "queue", "loading": "load", "reading": "prompt"}[phase.partition(" ")[0].strip(",")]
        chat.send(f"slowly {server_says}\r")
        chat.expect(phase)
        server.go_on.set()
        chat.expect_screen(f"You said: slowly {server_says}\n\n{IDLE_PROMPT}")


def test_plain_text_on_request(chat: TerminalSession) -> None:
    assert chat.say("**bold** <b>") == "You said: bold <b>\n\n"
    assert chat.say("/set plain") == "Set 'plain' mode.\n"
    assert chat.say("**bold** <b>") == "You said: **bold** <b>\n\n"
    chat.say("/set markdown")
    chat.say("/set format json")
    assert chat.say("**1**") == "You said: **1**\n\n", "JSON is no Markdown"


def test_pictures_by_their_paths(environ: dict[str, str], server: StubServer, tmp_path: Path) -> None:
    (tmp_path / "a cat.png").write_bytes(b"PNG")
    argv = [*MODULE, "run", "demo"]
    with TerminalSession(argv, environ, columns=200) as blind:
        blind.expect_screen(IDLE_PROMPT)
        blind.say(f"what is '{tmp_path}/a cat.png'")
    server.models[0] = server.models[0] | {"capabilities": ["completion", "vision"]}
    with TerminalSession(argv, environ, columns=200) as seeing:
        seeing.expect_screen(IDLE_PROMPT)
        escaped = f"{tmp_path}/a\\ cat.png"
        shown = seeing.say(f"{escaped} and /nowhere.png?")
        assert shown == f"Added image '{tmp_path}/a cat.png'\nYou said: and /nowhere.png?\n\n"
    sent = [body["messages"][0] for body in server.bodies("/api/chat")]
    assert sent == [
        {"role": "user", "content": f"what is '{tmp_path}/a cat.png'"},
        {"role": "user", "content": "and /nowhere.png?", "images": ["UE5H"]},
    ]


def test_a_missing_model_is_pulled_after_a_question(environ: dict[str, str], server: StubServer) -> None:
    argv = [*MODULE, "run", "org/new", "hi"]
    with TerminalSession(argv, environ) as session:
        session.expect_screen("'org/new' is not on the server's disk. Pull it? [Y/n]")
        session.send("n\r")
        assert session.finish() == 1
    assert session.screen.endswith("Error: 'org/new' was not pulled")
    assert server.bodies("/api/pull") == []
    with TerminalSession(argv, environ) as session:
        session.expect_screen("[Y/n]")
        session.send("\r")
        assert session.finish() == 0
    assert session.screen.endswith("You said: hi")


def test_no_colour_on_request(environ: dict[str, str]) -> None:
    with TerminalSession([*MODULE, "run", "demo", "think"], environ | {"NO_COLOR": "1"}) as session:
        assert session.finish() == 0
    assert "...done thinking." in session.raw
    assert "\x1b[2m" not in session.raw


def test_a_chat_without_colours(environ: dict[str, str]) -> None:
    with TerminalSession([*MODULE, "run", "demo"], environ | {"NO_COLOR": "1"}) as session:
        session.expect_screen("Send a message (/? for help)\n>>>")
        session.send("`code` **bold**\r")
        session.expect_screen(">>> `code` **bold**\nYou said: code bold\n\n>>>")
        session.send(CTRL_D)
        assert session.finish() == 0
    assert re.findall(r"\x1b\[[0-9;]*[349][0-7]m", session.raw) == []


def test_a_terminal_that_can_do_nothing(environ: dict[str, str]) -> None:
    with TerminalSession([*MODULE, "run", "demo"], environ | {"TERM": "dumb"}) as session:
        session.expect_screen("Send a message (/? for help)\n>>>")
        session.send("**hi**\r")
        session.expect_screen("You said: **hi**\n\n>>>")
        session.send(CTRL_D)
        assert session.finish() == 0


def test_messages_of_several_lines(chat: TerminalSession, server: StubServer) -> None:
    chat.send('"""one\r')
    chat.expect_screen('>>> """one\n...')
    chat.send("two\r")
    chat.expect_screen("... two\n...")
    chat.send('/bye"""\r')
    chat.expect_screen('... /bye"""\nYou said: one\ntwo\n/bye\n\n' + IDLE_PROMPT)
    assert chat.say('"""short"""') == "You said: short\n\n"
    chat.send('"""given up\r')
    chat.expect_screen("\n...")
    chat.send(CTRL_C)
    chat.expect_screen(IDLE_PROMPT)
    chat.send("one\x1b\rtwo\r")  # Alt + Enter
    chat.expect_screen(">>> one\n... two\nYou said: one\ntwo\n\n" + IDLE_PROMPT)
    contents = [body["messages"][-1]["content"] for body in server.bodies("/api/chat")]
    assert contents == ["one\ntwo\n/bye", "short", "one\ntwo"]


def test_what_is_pasted_is_one_message(chat: TerminalSession, server: StubServer) -> None:
    chat.send("\x1b[200~one\r\n/bye\x1b[201~ and\r")
    chat.expect_screen("You said: one\n/bye and\n\n" + IDLE_PROMPT)
    assert server.bodies("/api/chat")[0]["messages"][0]["content"] == "one\n/bye and"


def test_tab_completes_commands_and_models(chat: TerminalSession, server: StubServer) -> None:
    chat.send("/set sys" + TAB)
    chat.expect_screen("/set system")
    chat.send(" Be brief\r")
    chat.expect_screen("Set system message.\n" + IDLE_PROMPT)
    chat.send("/load " + TAB)
    shown = chat.expect_screen("sentence-transformers/all-MiniLM-L6-v2\n>>> /load")
    assert shown.split()[-4:-2] == ["hugging-llama/demo", "sentence-transformers/all-MiniLM-L6-v2"]
    chat.send("hug" + TAB)
    chat.expect_screen(">>> /load hugging-llama/demo")
    chat.send("\r")
    chat.expect_screen("Loaded 'hugging-llama/demo'\n" + IDLE_PROMPT)


def test_an_editor_writes_the_message(environ: dict[str, str], tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nprintf "%s, and\\nmore" "$(cat "$1")" > "$1"\n')
    editor.chmod(0o700)
    with TerminalSession([*MODULE, "run", "demo"], environ | {"EDITOR": str(editor)}) as session:
        session.expect_screen(IDLE_PROMPT)
        session.send("begun" + CTRL_G)
        session.expect_screen(">>> begun, and\n... more")
        session.send("\r")
        session.expect_screen("You said: begun, and\nmore\n\n" + IDLE_PROMPT)


def test_ctrl_c_stops_a_reply_and_keeps_what_came(chat: TerminalSession, server: StubServer) -> None:
    chat.send("wait\r")
    chat.expect("waiting ..")
    chat.send(CTRL_C)
    chat.expect_screen(IDLE_PROMPT)
    assert server.left.wait(60), "the connection was not closed"
    assert chat.say("next") == "You said: next\n\n"
    messages = server.bodies("/api/chat")[1]["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "user"]
    assert messages[1]["content"].startswith("waiting .")


def test_ctrl_c_at_the_prompt_explains_and_ctrl_d_leaves(chat: TerminalSession) -> None:
    chat.send("dropped" + CTRL_C)
    chat.expect_screen(f">>> dropped\n{IDLE_PROMPT}")
    chat.send(CTRL_C)
    chat.expect_screen("Use Ctrl + d or /bye to exit.\n" + IDLE_PROMPT)
    chat.send(CTRL_D)
    assert chat.finish() == 0


def test_an_error_ends_the_turn_and_not_the_chat(chat: TerminalSession, server: StubServer) -> None:
    assert chat.say("fail") == "You said: fail\n\nError: the model fell over\n"
    chat.say("again")
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
        ("/set parameter mirostat 1", "Error: parameter 'mirostat' is deprecated and has no effect"),
        ("/set parameter temprature 1", "Error: unknown parameter 'temprature'; did you mean 'temperature'?"),
        ("/set think low", "Set 'think' mode to 'low'."),
        ("/set think hard", "Error: think must be true, false or one of high, medium, low, max, not 'hard'"),
        ("/set format json", "Set format to 'json' mode."),
        ("/set nothing", "Unknown command '/set nothing'. Type /? for help"),
        ("/nothing at all", "Unknown command '/nothing'. Type /? for help"),
        ("/set verbose", "Set 'verbose' mode."),
    ]:
        assert chat.say(line) == answer + "\n"
    assert "eval rate:            20.00 tokens/s\n" in chat.say("x")
    assert server.bodies("/api/chat") == [
        {
            "model": "hugging-llama/demo:latest",
            "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "x"}],
            "options": {"temperature": 0.5, "stop": ["END", "two words"]},
            "think": "low",
            "format": "json",
            "progress": True,
            "stream": True,
        }
    ]
    chat.say("/set quiet")
    chat.say("/set noformat")
    chat.say("/set nothink")
    assert "eval rate" not in chat.say("y")
    body = server.bodies("/api/chat")[1]
    assert (body["think"], "format" in body) == (False, False)


def test_a_parameter_that_nobody_knows_is_refused_with_the_list(environ: dict[str, str]) -> None:
    with TerminalSession([*MODULE, "run", "demo"], environ, columns=1000) as wide:
        wide.expect_screen(IDLE_PROMPT)
        shown = wide.say("/set parameter foo 1")
        assert shown.startswith("Error: unknown parameter 'foo'; there are bad_words, bad_words_ids, ")
        assert shown.endswith(", typical_p, use_cache, use_mmap\n")
        assert "User defined" not in wide.say("/show parameters")


def test_set_alone_tells_what_there_is(chat: TerminalSession) -> None:
    shown = chat.say("/set")
    assert shown.startswith("Settings:\n")
    assert shown == chat.say("/help set")


def test_a_system_message_of_several_lines(chat: TerminalSession) -> None:
    chat.send('/set system """one\r')
    chat.expect_screen('/set system """one\n...')
    chat.send('two"""\r')
    chat.expect_screen("Set system message.\n" + IDLE_PROMPT)
    assert chat.say("/show system") == "one\ntwo\n"


def test_show_prints_one_text(chat: TerminalSession) -> None:
    assert chat.say("/show template") == "{{ messages }}\n"
    assert chat.say("/show license") == "Apache License\n\nVersion 2.0\nand so on\n"
    assert chat.say("/show system") == "No system message was specified for this model.\n"
    chat.say("/set system Be brief")
    assert chat.say("/show modelfile") == "FROM hugging-llama/demo:latest\nSYSTEM Be brief\n"
    usage = "Error: usage: /show [info | TEXT] (/help show says which)\n"
    assert chat.say("/show nothing") == usage


def test_save(chat: TerminalSession, server: StubServer) -> None:
    assert chat.say("/save") == "Error: usage: /save MODEL\n"
    chat.say("first")
    chat.say("think")
    chat.say("/set system Be brief")
    chat.say("/set parameter num_ctx 512")
    assert chat.say("/save mine") == "Created new model 'mine'\n"
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
    assert chat.say("/save ..") == "Error: invalid model name\n"


def test_messages_of_the_model_are_shown_and_saved_but_not_sent(chat: TerminalSession, server: StubServer) -> None:
    before = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello\x1b[2J."}]
    server.models = [*server.models, CHAT_MODEL | {"name": "told", "shown": {"messages": before}}]
    assert chat.say("/load told") == "Loaded 'told'\n>>> Hi\nHello[2J.\n\n"
    chat.say("/save plain")
    assert "messages" not in server.bodies("/api/create")[0], "the new model has them from the old one"
    chat.say("first")
    assert server.bodies("/api/chat")[0]["messages"] == [{"role": "user", "content": "first"}]
    chat.say("/save longer")
    assert [turn["content"] for turn in server.bodies("/api/create")[1]["messages"]] == [
        "Hi", "Hello\x1b[2J.", "first", "You said: first"
    ]  # fmt: skip


def test_messages_of_the_model_wrap_between_words(environ: dict[str, str], server: StubServer) -> None:
    told = " ".join(f"word{i}" for i in range(40))
    before = [{"role": "user", "content": told}, {"role": "assistant", "content": told}]
    server.models = [*server.models, CHAT_MODEL | {"name": "told", "shown": {"messages": before}}]
    for flags, is_whole in (((), True), (("--nowordwrap",), False)):
        with TerminalSession([*MODULE, "run", "demo", *flags], environ, columns=60) as session:
            session.expect_screen(IDLE_PROMPT)
            shown = session.say("/load told").removeprefix("Loaded 'told'\n>>> ")
        assert (shown.split() == told.split() * 2) == is_whole


def test_show_list_load_and_help(chat: TerminalSession, server: StubServer) -> None:
    assert "architecture        llama" in chat.say("/show")
    assert chat.say("/list").startswith("NAME ")
    assert "/set parameter NAME VALUE" in chat.say("/?")
    assert chat.say("/load some/gated") == "Error: access to 'gated' is restricted\n"
    chat.say("a")
    assert chat.say("/load other") == "Loaded 'other'\n"
    chat.say("b")
    sent = [(body["model"], len(body["messages"])) for body in server.bodies("/api/chat")]
    assert sent == [("hugging-llama/demo:latest", 1), ("other", 1)]


def test_history_outlives_the_chat_and_is_private(environ: dict[str, str], tmp_path: Path) -> None:
    argv = [*MODULE, "run", "demo"]
    with TerminalSession(argv, environ) as first:
        first.expect_screen(IDLE_PROMPT)
        first.say("remember me")
        first.say("/set nohistory")
        first.say("a secret")
        first.send(CTRL_D)
        assert first.finish() == 0
    history = tmp_path / ".hugging_llama_history"
    assert history.stat().st_mode & 0o777 == 0o600
    assert "+remember me\n" in history.read_text()
    assert "a secret" not in history.read_text()
    with TerminalSession(argv, environ) as second:
        second.expect_screen(IDLE_PROMPT)
        second.send(UP + UP)
        second.expect_screen(">>> remember me")
        second.send("\r")
        second.expect_screen("You said: remember me\n\n" + IDLE_PROMPT)
    history.unlink()
    with TerminalSession(argv, environ | {"OLLAMA_NOHISTORY": "1"}) as third:
        third.expect_screen(IDLE_PROMPT)
        third.say("forget me")
        third.send(CTRL_D)
        assert third.finish() == 0
    assert not history.exists()


def test_long_lines_wrap_between_words(environ: dict[str, str]) -> None:
    with TerminalSession([*MODULE, "run", "demo", "long"], environ, columns=30) as session:
        assert session.finish() == 0
    words = [word for line in session.screen.split("\n") for word in line.split()]
    assert words == [*(f"word{i}" for i in range(40)), "You", "said:", "long"]
    assert len(session.screen.split("\n")) > 8
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
