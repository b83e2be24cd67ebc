"""The table of commands, help, usage errors and how failures end."""

import json
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hugging_llama_cli.main import COMMANDS, Command
from tests.cli.conftest import MODULE, Invoke, RunCli
from tests.cli.stub_server import StubServer

_HEAVY = ("torch", "transformers", "flask", "requests", "rich", "prompt_toolkit", "urllib3", "gunicorn", "gevent")


@pytest.mark.parametrize("argv", [["--help"], [], ["help"], ["run", "--help"], ["catalog", "--all"], ["serve", "-h"]])
def test_light_commands_import_nothing_heavy(argv: list[str], environ: dict[str, str]) -> None:
    code = (
        "import sys, atexit; sys.argv[0] = 'hugging-llama'\n"
        "from hugging_llama_cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"loaded = [name for name in {_HEAVY!r} if name in sys.modules]\n"
        "print(loaded, file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *argv], env=environ, capture_output=True, text=True, check=True, timeout=120
    )
    allowed = ["requests", "urllib3"] if argv[:1] == ["run"] else []
    assert json.loads(result.stderr.splitlines()[-1].replace("'", '"')) == allowed
    assert result.stdout


def test_help_is_quick(environ: dict[str, str]) -> None:
    def cpu_seconds(*argv: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *argv], env=environ, stdout=subprocess.DEVNULL, check=True, timeout=120)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # the best of several, beside an interpreter that does nothing; CPU time, as a busy machine stretches the other
    runs = [(cpu_seconds("-c", "pass"), cpu_seconds("-m", "hugging_llama_cli", "--help")) for _ in range(5)]
    assert min(ours for _, ours in runs) - min(bare for bare, _ in runs) < 0.1


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_help(command: Command, invoke: Invoke) -> None:
    name = command.name
    code, out, _ = invoke(name, "--help")
    assert code == 0
    assert out.startswith(f"usage: hugging-llama {name}")
    assert "--url" in out


def test_help_lists_commands_and_aliases(invoke: Invoke) -> None:
    code, out, _ = invoke("--help")
    assert code == 0
    for command in COMMANDS:
        assert f"  {command.name} " in out
        assert command.help in out
    assert "(also: ls)" in out
    assert invoke()[1] == out
    assert invoke("help")[1] == out
    assert invoke("help", "run")[1] == invoke("run", "--help")[1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["rnu"], "unknown command 'rnu'; did you mean 'run'?"),
        (["qqqq"], "unknown command 'qqqq'; see 'hugging-llama --help'"),
        (["run"], "the following arguments are required: MODEL (see 'hugging-llama run --help')"),
        (["run", "demo", "--no-such"], "unrecognized arguments: --no-such (see 'hugging-llama run --help')"),
        (
            ["run", "demo", "--think=hard", "x"],
            "think must be true, false or one of high, medium, low, max, not 'hard'",
        ),
        (["run", "demo", "--format", "{", "x"], "the format must be 'json', a JSON schema or a file with one"),
        (
            ["run", "demo", "--insecure", "hi"],
            "--insecure is not supported: the Hub's address, http or https, is a setting",
        ),
        (["pull", "demo", "--insecure"], "--insecure is not supported: the Hub's address, http or https, is a setting"),
        (["push", "demo", "--insecure=true"], "--insecure is not supported: the Hub's address, http or https, is a"),
        (["create", "m", "--draft-quantize", "q4"], "--draft-quantize is not supported: PARAMETER draft_num_predict"),
        (["launch", "codex", "-y"], "-y is not supported: nothing is asked here"),
        (["launch", "codex", "--restore"], "--restore is not supported: --write says where"),
        (["create", "m", "--experimental"], "--experimental is not supported: there is one way"),
        (["run", "demo", "--truncate=maybe", "x"], "argument --truncate: invalid choice: 'maybe'"),
        (["embed", "demo"], "no text to embed (see 'hugging-llama embed --help')"),
        (["catalog", "--memory", "lots"], "--memory: 'lots' is not a size; write for example 24GB or 512MiB"),
        (["catalog", "--context", "0"], "--context must be at least 1"),
        (["--no-such", "list"], "unrecognized arguments"),
    ],
)
def test_usage_errors(argv: list[str], message: str, invoke: Invoke) -> None:
    code, out, err = invoke(*argv)
    assert (code, out) == (2, "")
    assert err.startswith(f"Error: {message}")
    assert err.count("\n") == 1


def test_a_switch_that_is_off_asks_for_nothing(invoke: Invoke) -> None:
    assert invoke("run", "demo", "--insecure=false", "hi") == (0, "You said: hi\n", "")


def test_errors_of_the_server_are_one_line(cli: RunCli) -> None:
    result = cli("pull", "some/gated")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "Error: access to 'gated' is restricted\n"


@pytest.mark.parametrize(
    ("variables", "argv", "told"),
    [
        ({"HUGGING_LLAMA_HOST": "127.0.0.1:8000"}, ["list"], "http://[127.0.0.1:8000]"),
        ({"HUGGING_LLAMA_HOST": "127.0.0.1:8000", "HF_TOKEN": "hf_x"}, ["push", "x"], "http://[127.0.0.1:8000]"),
        ({}, ["list", "--url", "x" * 300], "http://xxx"),
        ({}, ["list", "--url", "http://a..b:1"], "http://a..b:1"),
    ],
)
def test_an_address_that_is_none(
    variables: dict[str, str], argv: list[str], told: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {"no_proxy": "*", **variables}.items():
        monkeypatch.setenv(name, text)
    code, out, err = invoke(*argv)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"Error: {told}")
    assert "is no address of a server: HUGGING_LLAMA_HOST takes no port, --url and OLLAMA_HOST may have one" in err


def test_nobody_listens(cli: RunCli, environ: dict[str, str]) -> None:
    with socket.socket() as held:  # bound, never listening: nobody else can take it
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        given = cli("list", "--url", url)
        own = cli("list", environ=environ | {"OLLAMA_HOST": url})
    nobody = f"Error: could not connect to Hugging Llama at {url}; "
    assert (given.returncode, given.stdout) == (1, "")
    assert given.stderr == f"{nobody}is it running, and is the address right?\n"
    assert own.stderr == f"{nobody}run 'hugging-llama serve' to start it\n", "it would listen there"


def test_a_server_of_something_else(invoke: Invoke, server: StubServer) -> None:
    url = f"{server.url}/elsewhere"
    expected = (
        f"Error: {url} answers 404 NOT FOUND (404 page not found); is it Hugging Llama, and is the address right?\n"
    )
    assert invoke("list", "--url", url) == (1, "", expected)


def test_url_flag_wins_and_goes_anywhere(invoke: Invoke, server: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    assert invoke("list")[0] == 1
    assert invoke("--url", server.url, "list")[0] == 0
    assert invoke("list", "--url", server.url)[0] == 0
    assert invoke("--url", "127.0.0.1:1", "list", "--url", server.url)[0] == 0


def test_local_port_variable(invoke: Invoke, server: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OLLAMA_HOST")
    monkeypatch.setenv("OLLAMA_LOCAL_PORT", server.url.rpartition(":")[2])
    assert invoke("list")[0] == 0


def test_a_proxy_is_not_asked_for_loopback(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert invoke("list")[0] == 0


def test_broken_pipe_is_quiet(environ: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "close_early.py"
    script.write_text("import os; os.close(0)")
    with subprocess.Popen(
        [*MODULE, "run", "demo", "wait"], env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(7) == b"waiting"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


def test_version(invoke: Invoke, server: StubServer) -> None:
    from importlib.metadata import version

    expected = f"hugging-llama version is {version('hugging-llama')}\n"
    for argv in (["version"], ["--version"], ["-v"]):
        code, out, err = invoke(*argv)
        assert (code, out, err) == (0, expected + f"server at {server.url} speaks Ollama API version 0.99.1\n", "")
    code, out, err = invoke("-v", "--url", "127.0.0.1:1")
    assert (code, out) == (0, expected)
    assert err.startswith("Warning: could not connect")


def test_streams_that_are_closed_or_know_few_characters(environ: dict[str, str]) -> None:
    def run(command: str, **more: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["sh", "-c", command, *MODULE], env=environ | more, capture_output=True, timeout=120, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    ascii_only = run('"$0" "$@" run demo été', PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert (ascii_only.returncode, ascii_only.stdout, ascii_only.stderr) == (0, b"You said: ?t?\n", b"")
    assert run('"$0" "$@" list >&-').returncode == 0
    assert run('"$0" "$@" list nope extra 2>&-').returncode == 2
    full = run('"$0" "$@" run demo hi >/dev/full')
    assert full.returncode == 1
    assert full.stderr.startswith(b"Error: [Errno 28]")
    assert full.stderr.count(b"\n") == 1


@pytest.mark.parametrize("url", ["http://[::1", "ht!tp://x y", "http://", "https://no.such.host.invalid", "a b"])
def test_urls_that_lead_nowhere(url: str, invoke: Invoke) -> None:
    code, out, err = invoke("list", "--url", url)
    assert (code, out) == (1, "")
    assert err.startswith("Error: ")
    assert err.count("\n") == 1


def test_messages_can_not_control_the_terminal(invoke: Invoke) -> None:
    assert invoke("show", "a\x1b[2J\nb")[2].startswith("Error: model 'a[2J b' not found")
