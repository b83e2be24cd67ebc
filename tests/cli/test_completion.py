"""Shells complete, each by its own means."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hugging_llama_cli.main import COMMANDS
from tests.cli.conftest import Invoke
from tests.cli.stub_server import CHAT_MODEL, StubServer

# what bash sets before it calls the function, its own way of splitting words included
_ASK = """
source "$1"
hugging-llama() {{ "{python}" -m hugging_llama_cli "$@"; }}
COMP_LINE=$2 COMP_POINT=${{#2}}
read -ra COMP_WORDS <<< "${{2//:/ : }}"
[[ $2 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_hugging_llama
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def script(invoke: Invoke, tmp_path: Path) -> Path:
    path = tmp_path / "completion"
    code, out, err = invoke("completion", "bash")
    assert (code, err) == (0, "")
    path.write_text(out)
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("hugging-llama sto", ["stop", "stop-server"]),
        ("hugging-llama --url 127.0.0.1:1 ru", ["run"]),
        ("hugging-llama run --hide", ["--hidethinking"]),
        ("hugging-llama run hug", ["hugging-llama/demo", "hugging-llama/small:int4"]),
        ("hugging-llama rm hugging-llama/small:", ["int4"]),
        ("hugging-llama keys ", ["add", "list", "revoke"]),
        ("hugging-llama completion z", ["zsh"]),
        ("hugging-llama catalog ", [""]),
    ],
)
def test_bash(line: str, offered: list[str], script: Path, environ: dict[str, str], server: StubServer) -> None:
    server.models.append(CHAT_MODEL | {"name": "hugging-llama/small:int4"})
    asked = subprocess.run(
        ["bash", "--norc", "-c", _ASK.format(python=sys.executable), "bash", str(script), line],
        env=environ, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert (asked.stdout.splitlines(), asked.stderr) == (offered, "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_can_read_theirs(shell: str, invoke: Invoke, tmp_path: Path) -> None:
    code, out, err = invoke("completion", shell)
    assert (code, err) == (0, "")
    assert all(command.name in out for command in COMMANDS)
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    path = tmp_path / "script"
    path.write_text(out)
    subprocess.run([shell, "-n", str(path)], check=True, timeout=120)


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish here")
def test_fish(invoke: Invoke, tmp_path: Path, environ: dict[str, str]) -> None:
    path = tmp_path / "script"
    path.write_text(invoke("completion", "fish")[1])
    ask = f"source {path}; complete -C 'hugging-llama sto'; complete -C 'hugging-llama run --hide'"
    asked = subprocess.run(
        ["fish", "-N", "-c", ask], env=environ, capture_output=True, text=True, timeout=120, check=True
    )
    assert [line.split("\t")[0] for line in asked.stdout.splitlines()] == ["stop", "stop-server", "--hidethinking"]
