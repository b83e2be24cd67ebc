"""A server that speaks the documented shapes, and ways to run the client against it."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from hugging_llama_cli.main import main
from tests.cli.stub_server import StubServer

MODULE = (sys.executable, "-m", "hugging_llama_cli")


@pytest.fixture
def server() -> Iterator[StubServer]:
    with StubServer() as stub:
        yield stub


@pytest.fixture
def environ(server: StubServer, tmp_path: Path) -> dict[str, str]:
    """The environment of a user whose server is the stub and whose home is empty."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "PYTHONPATH") if name in os.environ}
    return {**kept, "HOME": str(tmp_path), "OLLAMA_HOST": server.url, "PYTHONUTF8": "1", "TERM": "xterm"}


class RunCli(Protocol):
    """Runs the client as a process, all three streams being pipes."""

    def __call__(
        self, *argv: str, stdin: str = "", environ: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def cli(environ: dict[str, str]) -> RunCli:
    def run(
        *argv: str, stdin: str = "", environ: Mapping[str, str] | None = environ
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*MODULE, *argv], input=stdin, env=environ, capture_output=True, text=True, timeout=120, check=False
        )

    return run


class Invoke(Protocol):
    """Runs the client inside the test's process; gives exit code, stdout and stderr."""

    def __call__(self, *argv: str, stdin: str = "") -> tuple[int, str, str]: ...


@pytest.fixture
def invoke(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Invoke:
    for name in [name for name in os.environ if name.startswith(("OLLAMA_", "HUGGING_LLAMA_"))]:
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    def run(*argv: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        try:
            code = main(argv)
        except SystemExit as error:  # argparse leaves so after --help
            code = int(error.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
