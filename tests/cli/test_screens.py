"""What a person sees at 60, 80 and 200 columns, and when there is no server, or none any more."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from hugging_llama_cli.main import COMMANDS
from tests.cli.conftest import MODULE, Invoke
from tests.cli.stub_server import StubServer
from tests.cli.terminal_session import IDLE_PROMPT, TerminalSession

_REPLY = (
    "## Three *facts*\\nLlamas are **social** animals and live with others in herds; their wool is soft.\\n\\n"
    "1. They hum.\\n2. `spit()`\\n\\n```\\ncode\\n```"
)
_WIDE = [
    "You said: md",
    "",
    "Three facts",
    "",
    "Llamas are social animals and live with others in herds; their wool is soft.",
    "",
    " 1 They hum.",
    " 2 spit()",
    "",
    "code",
]
_NARROW = [
    *_WIDE[:4],
    "Llamas are social animals and live with others in herds;",
    "their wool is soft.",
    *_WIDE[5:],
]


@pytest.mark.parametrize(("columns", "shown"), [(60, _NARROW), (80, _WIDE), (200, _WIDE)])
def test_a_reply(columns: int, shown: list[str], environ: dict[str, str], server: StubServer) -> None:
    server.replies["md"] = "\n\n" + _REPLY.replace("\\n", "\n")
    with TerminalSession([*MODULE, "run", "demo"], environ, columns=columns, rows=40) as session:
        session.expect_screen(IDLE_PROMPT)
        assert session.say("md").rstrip("\n").split("\n") == shown
        long = " ".join(f"word{n}" for n in range(columns // 5))  # longer than a line of this terminal
        session.send(long + "\r")
        session.expect("You said: word0")
        session.expect_screen("\n\n" + IDLE_PROMPT)
    words = [word for line in session.screen.split("\n") for word in line.split() if word.startswith("word")]
    assert words[-(columns // 5) :] == long.split(), "no word of the reply may be torn"


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_tables_and_help_fit(columns: int, environ: dict[str, str], server: StubServer) -> None:
    server.loaded = [server.models[0] | {"expires_at": "2318-01-01T00:00:00Z", "context_length": 2048, "size_vram": 0}]
    for argv in (["list"], ["ps"], ["--help"], ["run", "--help"])[: 4 if columns == 60 else 3]:
        with TerminalSession([*MODULE, *argv], environ, columns=columns, rows=80) as session:
            assert session.finish() == 0
        raw = session.text.rstrip("\n").split("\n")
        assert all(len(line) <= columns for line in raw), argv
        if argv == ["--help"]:
            assert all(f"\n  {command.name} " in session.screen for command in COMMANDS)


# what is asked is read to its end: closing a connection with bytes that nobody has read would take back what was sent
_DYING = """\
import json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer({"models": [{"name": "demo"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not body.get("stream"):
            return self.answer({})
        line = json.dumps({"message": {"content": "Once upon"}, "response": "Once upon", "done": False}) + "\\n"
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(line), line.encode()))
        self.wfile.flush()
        os._exit(1)

    def answer(self, value):
        self.send_response(200)
        self.send_header("Content-Length", str(len(json.dumps(value))))
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    def log_message(self, *args):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def dying(environ: dict[str, str]) -> Iterator[dict[str, str]]:
    """The environment of a user whose server dies after the first words of an answer."""
    with subprocess.Popen([sys.executable, "-c", _DYING], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield environ | {"OLLAMA_HOST": f"127.0.0.1:{int(process.stdout.readline())}"}
        process.kill()


def test_a_server_that_dies_in_mid_stream(dying: dict[str, str]) -> None:
    url = f"http://{dying['OLLAMA_HOST']}"
    with TerminalSession([*MODULE, "run", "demo"], dying, columns=200) as session:
        session.expect_screen(IDLE_PROMPT)
        assert session.say("tell") == f"Once upon\n\nError: the server at {url} broke off its answer\n"
        # the chat is still there, and says what to do
        assert session.say("tell") == (
            f"Error: could not connect to Hugging Llama at {url}; run 'hugging-llama serve' to start it\n"
        )
        session.send("/bye\r")
        assert session.finish() == 0
    assert "Traceback" not in session.raw


def test_one_answer_of_a_server_that_dies(dying: dict[str, str]) -> None:
    result = subprocess.run(
        [*MODULE, "run", "demo", "tell"], env=dying, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (1, "Once upon\n")
    assert result.stderr == f"Error: the server at http://{dying['OLLAMA_HOST']} broke off its answer\n"


@pytest.mark.parametrize(
    "argv",
    [
        ["list"], ["ps"], ["show", "x"], ["pull", "x"], ["rm", "x"], ["cp", "x", "y"], ["stop", "x"],
        ["embed", "x", "y"],
        ["tokenize", "x", "y"], ["create", "y", "--from", "x"], ["push", "x"], ["bench", "x"], ["launch", "codex"],
        ["run", "x", "y"],
    ],
)  # fmt: skip
def test_no_server(argv: list[str], invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    code, out, err = invoke(*argv)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == (
        "Error: could not connect to Hugging Llama at http://127.0.0.1:1; run 'hugging-llama serve' to start it"
    )
