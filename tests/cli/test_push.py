"""The command `push`: progress, and whose token goes where."""

from pathlib import Path

import pytest

from hugging_llama_cli.commands.push import _is_open_to_others
from tests.cli.conftest import MODULE, Invoke, RunCli
from tests.cli.stub_server import StubServer
from tests.cli.terminal_session import TerminalSession

_DIGEST = "sha256:" + "a" * 64


def _event(completed: int, total: int = 4_900_000_000) -> dict[str, object]:
    status = {"status": "pushing aaaaaaaaaaaa", "digest": _DIGEST, "file": "model.safetensors", "total": total}
    return status | ({"completed": completed} if completed else {})


@pytest.fixture
def server(server: StubServer) -> StubServer:
    server.push_events = [{"status": "retrieving manifest"}, _event(0), _event(10_000_000), _event(4_900_000_000)]
    server.push_events += [{"status": "pushing manifest"}, {"status": "success"}]
    return server


def test_lines(cli: RunCli, server: StubServer) -> None:
    result = cli("push", "me/mine", "--private")
    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr.splitlines() == [
        "retrieving manifest",
        "uploading model.safetensors 0 B/4.9 GB",
        "uploaded model.safetensors (4.9 GB)",
        "pushing manifest",
        "success",
    ]
    assert server.bodies("/api/push") == [{"model": "me/mine", "private": True, "stream": True}]
    assert server.hub_tokens == [None]


def test_bars(environ: dict[str, str], server: StubServer) -> None:
    with TerminalSession([*MODULE, "push", "me/mine"], environ) as session:
        session.expect("retrieving manifest")
        assert session.finish() == 0
    assert "100% ▕████████▏ 4.9 GB" in session.text
    assert session.text.rstrip().endswith("success")


def test_the_token_of_this_machine(
    invoke: Invoke, server: StubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    (tmp_path / "token").write_text("hf_login\n")
    for value in ("hf_variable", ""):
        monkeypatch.setenv("HF_TOKEN", value)
        code, out, err = invoke("push", "me/mine")
        assert (code, out) == (0, "")
        assert "hf_" not in err
        assert "Warning" not in err
    assert server.hub_tokens == ["hf_variable", "hf_login"]
    monkeypatch.setenv("HF_TOKEN", "hf_a b")
    assert invoke("push", "me/mine")[0] == 2
    assert len(server.hub_tokens) == 2


def test_only_a_push_sends_it(invoke: Invoke, server: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_variable")
    for argv in (["pull", "org/name"], ["list"], ["show", "demo"]):
        invoke(*argv)
    assert server.hub_tokens == []


@pytest.mark.parametrize(
    ("url", "is_open"),
    [
        ("http://127.0.0.1:11434", False),
        ("http://[::1]:11434", False),
        ("http://localhost:11434", False),
        ("https://llama.example", False),
        ("http://llama.example", True),
        ("http://10.0.0.8:11434", True),
    ],
)
def test_when_a_warning_is_due(url: str, is_open: bool) -> None:
    assert _is_open_to_others(url) is is_open


def test_failures(invoke: Invoke, server: StubServer) -> None:
    code, _, err = invoke("push", "me/mine", "--insecure")
    assert (code, err.count("\n")) == (2, 1)
    assert server.requests == []
    server.push_events = [{"status": "retrieving manifest"}, {"error": "the Hub does not let this token write"}]
    code, _, err = invoke("push", "me/mine")
    assert (code, err.splitlines()[-1]) == (1, "Error: the Hub does not let this token write")
    server.push_events = [{"status": "retrieving manifest"}]
    assert "run it again" in invoke("push", "me/mine")[2]
