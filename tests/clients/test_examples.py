"""The examples of the documents are run, page by page and block after block, against a real server."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from hugging_llama_cli.main import COMMANDS
from tests.clients.conftest import MOOD, RERANKER
from tests.documents.blocks import DOCUMENTS, ROOT, RUNNABLE, Block, blocks_of
from tests.live_server import LiveServer

ADDRESS = "127.0.0.1:11434"
# models that are not on this machine, and those of the same kind that are
CLASSIFIERS = {
    "cross-encoder/ms-marco-MiniLM-L6-v2": RERANKER,
    "distilbert/distilbert-base-uncased-finetuned-sst-2-english": MOOD,
}
# what curl says of a status is not enough: an error may come in a stream
ERRORS = ('{"error"', "event: error", "Error: ")
PROGRAMS = {
    "hugging-llama": [sys.executable, "-m", "hugging_llama_cli"],
    "python": [sys.executable],
    "curl": [shutil.which("curl") or "curl", "--no-progress-meter", "--fail-with-body", "--max-time", "280"],
}


def _run_here(block: Block) -> bool:
    return block.language in RUNNABLE and not block.reason


PAGES = [document for document in DOCUMENTS if any(map(_run_here, blocks_of(document)))]


def _page_id(document: Path) -> str:
    return str(document.relative_to(ROOT))


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with the programs of the examples: this command line, this Python, and a curl that minds the status."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, command in PROGRAMS.items():
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        path.chmod(0o755)
    return folder


class World:
    """A server with all models that the examples use, and an empty folder of the reader's own."""

    def __init__(self, server: LiveServer, folder: Path, programs: Path, models: dict[str, str]) -> None:
        self._server, self._models = server, models
        self._folder = folder / "reader"
        self._folder.mkdir()
        # a home of its own: with the first key in the server's the server would be closed to the other tests
        self._environ = {
            **server.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(self._folder),
            "HUGGING_LLAMA_HOME": str(self._folder / "home"),
        }

    def run(self, block: Block) -> subprocess.CompletedProcess[str]:
        code = block.code.replace(ADDRESS, self._server.url.removeprefix("http://"))
        for name, other in self._models.items():
            code = code.replace(name, other)
        command = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else [sys.executable, "-c"]
        return subprocess.run(
            [*command, code], cwd=self._folder, env=self._environ, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    def models(self) -> set[str]:
        answer = requests.get(f"{self._server.url}/api/tags", timeout=60)
        return {model["name"] for model in answer.json()["models"]}


def _lacks(need: str) -> bool:
    """Whether this command line has no such command, or no such flag of it."""
    _, name, *flags = need.split()
    if all(name not in (command.name, *command.aliases) for command in COMMANDS):
        return True
    command_line = [*PROGRAMS["hugging-llama"], name, "--help"]
    shown = subprocess.run(command_line, capture_output=True, text=True, timeout=120, check=True).stdout
    return any(flag not in shown for flag in flags)


@pytest.mark.parametrize("document", PAGES, ids=_page_id)
def test_examples_of_a_page(document: Path, tmp_path: Path, programs: Path, request: pytest.FixtureRequest) -> None:
    models = CLASSIFIERS if "rerank" in document.name else {}
    server = request.getfixturevalue("classifier_server" if models else "server")
    world = World(server, tmp_path, programs, models)
    before = world.models()
    for block in filter(_run_here, blocks_of(document)):
        if any(map(_lacks, block.needs)):
            continue
        done = world.run(block)
        said = f"{block.place}\n{block.code}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, said
        assert not any(line.startswith(ERRORS) for line in (done.stdout + done.stderr).splitlines()), said
        assert done.stdout or block.language == "python" or ">" in block.code or "eval" in block.code, said
    for name in world.models() - before:
        assert requests.delete(f"{server.url}/api/delete", json={"model": name}, timeout=60).ok


def test_an_example_that_fails_is_seen(server: LiveServer, tmp_path: Path, programs: Path) -> None:
    world = World(server, tmp_path, programs, {})

    def ended(language: str, code: str) -> int:
        return world.run(Block(ROOT / "README.md", 1, language, code)).returncode

    assert ended("bash", f"curl http://{ADDRESS}/api/version") == 0
    assert ended("bash", f"curl http://{ADDRESS}/api/nothing\ntrue") != 0
    assert ended("bash", "hugging-llama show nothing | cat\ntrue") != 0
    assert ended("python", "raise SystemExit(1)") != 0
