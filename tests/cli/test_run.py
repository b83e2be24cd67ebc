"""`run` with a prompt: one answer, through pipes."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import MODULE, Invoke, RunCli
from tests.cli.stub_server import StubServer


def test_a_prompt_is_answered(cli: RunCli, server: StubServer) -> None:
    result = cli("run", "demo", "hello", "there")
    assert (result.returncode, result.stdout, result.stderr) == (0, "You said: hello there\n", "")
    assert server.bodies("/api/generate") == [
        {"model": "hugging-llama/demo:latest", "prompt": "hello there", "stream": True}
    ]


def test_piped_text_comes_before_the_prompt(invoke: Invoke) -> None:
    assert invoke("run", "demo", "sum", "it", "up", stdin="line 1\nline 2\n")[1] == (
        "You said: line 1\nline 2\n\nsum it up\n"
    )
    assert invoke("run", "demo", stdin="only this")[1] == "You said: only this\n"


def test_options_go_to_the_server(invoke: Invoke, server: StubServer) -> None:
    invoke("run", "--format", "json", "demo", "--keepalive", "10m", "a", "--think", "b")
    invoke("run", "demo", "x", "--think=low", "--keepalive", "60", "--format", '{"type": "object"}', "--nowordwrap")
    invoke("run", "demo", "--", "--think", "-1")
    first, second, third = server.bodies("/api/generate")
    assert (first["prompt"], first["format"], first["keep_alive"], first["think"]) == ("a b", "json", "10m", True)
    assert (second["format"], second["keep_alive"], second["think"]) == ({"type": "object"}, 60.0, "low")
    assert third["prompt"] == "--think -1"
    assert "think" not in third


def test_a_schema_may_lie_in_a_file(invoke: Invoke, server: StubServer, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "array"}')
    assert invoke("run", "demo", "x", "--format", str(schema))[0] == 0
    assert server.bodies("/api/generate")[0]["format"] == {"type": "array"}
    schema.write_text("{")
    code, _, err = invoke("run", "demo", "x", "--format", str(schema))
    assert code == 2
    assert err.startswith(f"Error: the format's file '{schema}' holds no JSON: ")


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        ([], "You said: think\n"),
        (["--think"], "Thinking...\nLet me see.\n...done thinking.\n\nYou said: think\n"),
        (["--think", "--hidethinking"], "You said: think\n"),
        (["--think=false"], "You said: think\n"),
    ],
)
def test_thinking_through_a_pipe_only_when_asked_for(flags: list[str], shown: str, invoke: Invoke) -> None:
    assert invoke("run", "demo", "think", *flags)[1] == shown


def test_verbose(invoke: Invoke) -> None:
    code, out, err = invoke("run", "demo", "hi", "--verbose")
    assert (code, out) == (0, "You said: hi\n")
    assert err.splitlines() == [
        "total duration:       1.5s",
        "load duration:        50ms",
        "prompt eval count:    26 token(s)",
        "prompt eval duration: 130ms",
        "prompt eval rate:     200.00 tokens/s",
        "eval count:           10 token(s)",
        "eval duration:        500ms",
        "eval rate:            20.00 tokens/s",
    ]


@pytest.mark.parametrize(
    ("prompt", "message"), [("fail", "the model fell over"), ("cut", "the server broke off its answer")]
)
def test_a_stream_that_fails(prompt: str, message: str, invoke: Invoke) -> None:
    assert invoke("run", "demo", prompt) == (1, f"You said: {prompt}\n", f"Error: {message}\n")


def test_a_missing_model_is_pulled_first(cli: RunCli, server: StubServer) -> None:
    server.pull_events = [{"status": "pulling manifest"}, {"status": "success"}]
    result = cli("run", "org/new", "hi")
    assert (result.returncode, result.stdout) == (0, "You said: hi\n")
    assert result.stderr.splitlines() == ["pulling manifest", "success"]
    assert [path for path, _ in server.requests] == [
        "/api/tags", "/api/show", "/api/pull", "/api/tags", "/api/generate"
    ]  # fmt: skip


def test_a_model_that_can_not_be_pulled(invoke: Invoke, server: StubServer) -> None:
    server.pull_events = [{"error": "pull model manifest: file does not exist"}]
    assert invoke("run", "nowhere", "hi") == (1, "", "Error: pull model manifest: file does not exist\n")


def test_an_embedding_model_prints_a_vector(invoke: Invoke) -> None:
    assert invoke("run", "all-MiniLM-L6-v2", "some text")[:2] == (0, "[0.25, -0.5]\n")
    code, _, err = invoke("run", "all-MiniLM-L6-v2")
    assert code == 1
    assert err.startswith("Error: 'sentence-transformers/all-MiniLM-L6-v2:latest' makes vectors")


def test_an_embedding_model_takes_ollamas_flags(invoke: Invoke, server: StubServer) -> None:
    for flags in (["--truncate"], ["--truncate=false", "--dimensions", "3", "--keepalive", "5m"]):
        assert invoke("run", "all-MiniLM-L6-v2", *flags, "some text")[:2] == (0, "[0.25, -0.5]\n")
    body = {"model": "sentence-transformers/all-MiniLM-L6-v2:latest", "input": "some text"}
    assert server.bodies("/api/embed") == [
        body | {"truncate": True},
        body | {"truncate": False, "dimensions": 3, "keep_alive": "5m"},
    ]
    for flags in (["--truncate"], ["--dimensions", "3"]):
        assert invoke("run", "demo", *flags, "hi") == (
            2, "", "Error: --dimensions and --truncate are for models that make vectors; "
            "'hugging-llama/demo:latest' answers\n",
        )  # fmt: skip


def test_text_arrives_as_it_is_made_and_ctrl_c_ends_it(environ: dict[str, str], server: StubServer) -> None:
    with subprocess.Popen(
        [*MODULE, "run", "demo", "wait"], env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(9) == b"waiting ."
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read() == b""
    assert server.left.wait(60), "the connection was not closed"


def test_control_characters_pass_through_a_pipe(invoke: Invoke) -> None:
    assert invoke("run", "demo", "a\x1b[1mb")[1] == "You said: a\x1b[1mb\n"


def test_one_answer_with_tools_is_a_chat(invoke: Invoke, server: StubServer, tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
    (tmp_path / "tools.json").write_text(json.dumps([tool]))
    code, out, _ = invoke("run", "demo", "--tools", str(tmp_path / "tools.json"), "tool")
    assert code == 0
    assert json.loads(out.splitlines()[0]) == {
        "name": "get_weather",
        "arguments": {"city": "Paris", "days": 2},
    }
    assert server.bodies("/api/chat")[-1]["tools"] == [tool]


@pytest.mark.parametrize(
    ("text", "words"), [("{", "holds no JSON"), ("[]", "must hold tools"), ('[{"name": "x"}]', "must hold tools")]
)
def test_a_file_without_tools_is_refused(invoke: Invoke, text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "tools.json").write_text(text)
    code, _, error = invoke("run", "demo", "--tools", str(tmp_path / "tools.json"), "x")
    assert (code, words in error) == (2, True)
