"""`create -f` and the other commands of the library, end to end: our client, a real server, a real model."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.clients.test_named_models import DEMO, QUESTION
from tests.live_server import LiveServer

_DEMO_FOLDER = Path(__file__).parents[2] / "app" / "hugging_llama" / "demo_model"
_GREEDY = "PARAMETER temperature 0\nPARAMETER num_predict 24\n"


@pytest.fixture
def cli(server: LiveServer, tmp_path: Path) -> Iterator["Cli"]:
    """Run in a folder of its own; what it made is deleted at the end."""
    cli = Cli(server, tmp_path)
    yield cli
    for name in cli.made:
        cli("rm", name)


class Cli:
    """Our client as a process."""

    def __init__(self, server: LiveServer, folder: Path) -> None:
        self._server = server
        self.folder = folder
        self.made: list[str] = []

    def __call__(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hugging_llama_cli", *argv], env=dict(self._server.environ), cwd=self.folder,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def create(self, name: str, modelfile: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "Modelfile").write_text(modelfile)
        self.made.append(name)
        return self("create", name)

    def answer(self, name: str) -> str:
        done = self("run", name, QUESTION, "--think=false")
        assert done.returncode == 0, done.stderr
        return done.stdout


def test_a_folder_becomes_a_model_that_answers_as_its_source(cli: Cli) -> None:
    shutil.copytree(_DEMO_FOLDER, cli.folder / "weights")
    weights = cli.folder / "weights" / "model.safetensors"
    # not those that another test of this server has uploaded
    save_file(load_file(weights), weights, metadata={"format": "pt", "of": "this test"})
    made = cli.create("uploaded", f"FROM ./weights\n{_GREEDY}")
    assert (made.returncode, made.stdout) == (0, "created 'uploaded'\n"), made.stderr
    assert "uploading model.safetensors (7.4 MB)" in made.stderr
    assert cli.create("named", f"FROM {DEMO}\n{_GREEDY}").returncode == 0
    answer = cli.answer("uploaded")
    assert "Paris" in answer
    assert answer == cli.answer("named")
    again = cli.create("uploaded", f"FROM ./weights\nSYSTEM Be brief.\n{_GREEDY}")
    assert (again.returncode, "uploading" in again.stderr) == (0, False), "the server has the files"


def test_what_show_prints_makes_the_same_model_again(cli: Cli) -> None:
    text = (
        f'FROM {DEMO}\n{_GREEDY}PARAMETER stop "<end>"\nPARAMETER stop two words\nSYSTEM """Be brief.\n"Always."\n"""\n'
        'MESSAGE user Hi\nMESSAGE assistant """Hello,\nthere."""\nLICENSE Mine.\n'
    )
    assert cli.create("first", text).returncode == 0
    shown = cli("show", "first", "--modelfile").stdout
    second = cli.create("second", shown)
    assert second.returncode == 0, second.stderr
    texts = [json.loads(cli("show", name, "--json").stdout) for name in ("first", "second")]
    for key in ("parameters", "system", "template", "license", "messages"):
        assert texts[0].get(key) == texts[1].get(key), key
    assert cli.answer("first") == cli.answer("second")


def test_errors_of_a_modelfile_say_what_to_do(cli: Cli) -> None:
    for text, error in (
        ("SYSTEM x\n", "no FROM line"),
        (f"FROM {DEMO}\nPARAMETER temprature 1\n", "unknown parameter 'temprature'"),
        (f"FROM {DEMO}\nPARAMETER temperature hot\n", 'option "temperature" must be of type float32'),
    ):
        done = cli.create("bad", text)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.splitlines()[-1].startswith(f"Error: {error}")
    assert "bad" not in cli("list").stdout


def test_an_embedding_model_is_stopped_like_any_other(cli: Cli) -> None:
    name = "sentence-transformers/all-MiniLM-L6-v2"
    assert cli("embed", name, "a cat").returncode == 0
    assert name in cli("ps").stdout
    assert cli("stop", name).stdout == ""
    assert name not in cli("ps").stdout


def test_a_copy_is_made_used_and_deleted(cli: Cli) -> None:
    assert cli("cp", "demo", "copied").stdout == "copied 'demo' to 'copied'\n"
    assert "Paris" in cli.answer("copied")
    assert cli("cp", "copid", "other").stderr == "Error: model \"copid\" not found; did you mean 'copied'?\n"
    gone = cli("rm", "copied")
    assert gone.returncode == 0
    assert re.fullmatch(r"deleted 'copied' \(\d+ B freed\)\n", gone.stdout)
    assert "copied" not in cli("list").stdout + cli("ps").stdout
