"""Runs the scripts of `js/`, each of which talks to a server with one JavaScript client."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.hub_cache import MINILM
from tests.live_server import LiveServer

FOLDER = Path(__file__).parent / "js"
DEMO = "hugging-llama/demo"


def needs(package: str) -> pytest.MarkDecorator:
    """Skips a test where its client is not installed."""
    is_missing = shutil.which("node") is None or not (FOLDER / "node_modules" / package).exists()
    reason = f"needs Node.js and the npm package {package}; `make test` installs it where npm is there"
    return pytest.mark.skipif(is_missing, reason=reason)


def command(script: str, *arguments: str) -> list[str]:
    return ["node", str(FOLDER / script), *arguments]


def talk(script: str, server: LiveServer, endless: str) -> dict[str, Any]:
    """What the script found out. It leaves one stream early, of the model `endless`."""
    with server.one_cancelled():
        done = subprocess.run(
            command(script, server.url, DEMO, MINILM, endless),
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found
