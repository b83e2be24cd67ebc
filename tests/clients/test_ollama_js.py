"""Ollama's official JavaScript client against a real server."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.hub_cache import MINILM
from tests.live_server import LiveServer

FOLDER = Path(__file__).parent / "js"


@pytest.mark.skipif(
    shutil.which("node") is None or not (FOLDER / "node_modules" / "ollama").exists(),
    reason="needs Node.js; `make test` installs the client where npm is there",
)
def test_the_javascript_client(server: LiveServer) -> None:
    done = subprocess.run(
        ["node", str(FOLDER / "talk.js"), server.url, "hugging-llama/demo", MINILM],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["generate"]
    assert found["generateStream"] == found["generate"]
    assert "Paris" in found["chat"]
    assert found["chatStream"] == found["chat"]
    assert found["embed"] == [384, 384]
    assert "hugging-llama/demo:latest" in found["list"]
    assert "hugging-llama/demo:latest" in found["ps"]
    assert found["version"]
    assert found["missing"] == {"message": "model 'no/such-model' not found", "status": 404}
    assert found["pull"]
    assert found["pullStream"]
