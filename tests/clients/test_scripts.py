"""Every script in scripts/ is run against a real server."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.live_server import LiveServer

SCRIPTS = Path(__file__).parents[2] / "scripts"
NEEDS_A_HUB = {"pull.sh", "push.sh"}


def run(server: LiveServer, name: str, **more: str) -> str:
    environ = {**server.environ, "HUGGING_LLAMA_URL": server.url, "PULL_MODEL": "acme/nothing", **more}
    done = subprocess.run(
        ["sh", str(SCRIPTS / name)], env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", sorted(path.name for path in SCRIPTS.glob("*.sh")))
def test_every_script_gets_an_answer(server: LiveServer, name: str) -> None:
    if name == "delete.sh":
        run(server, "create.sh")
    more = {"NAME": "acme/my-demo", "HF_TOKEN": "hf_none"} if name == "push.sh" else {}
    if more:
        run(server, "create.sh", **more)
    output = run(server, name, **more)
    if name == "metrics.sh":
        assert "hugging_llama_engine_up" in output
        return
    if name in ("copy.sh", "delete.sh"):
        assert output == "200\n"
        return
    lines = [json.loads(line) for line in output.splitlines()]
    assert lines
    if name not in NEEDS_A_HUB:
        assert all("error" not in line for line in lines)


def test_every_endpoint_has_a_script(server: LiveServer) -> None:
    texts = "".join(path.read_text() for path in SCRIPTS.glob("*.sh"))
    endpoints = "generate chat embed tokenize detokenize pull push create blobs copy delete tags models ps show version"
    for endpoint in endpoints.split():
        assert f"$URL/api/{endpoint}" in texts
