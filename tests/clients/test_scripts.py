"""Every script in scripts/ is run against a real server."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import requests

from tests.clients.conftest import MOOD, RERANKER
from tests.live_server import LiveServer

SCRIPTS = Path(__file__).parents[2] / "scripts"
CLASSIFIERS = {"rerank.sh": {"RERANK_MODEL": RERANKER}, "classify.sh": {"CLASSIFY_MODEL": MOOD}}
WITHOUT_A_SCRIPT = {
    *("/", "/docs", "/docs/{name}", "/openapi.json"),
    *("/api/me", "/api/signout", "/api/status", "/api/user/keys/{key}"),
    *(f"/api/experimental/{name}" for name in ("model-recommendations", "web_fetch", "web_search")),
    *("/v1/audio/transcriptions", "/v1/responses/{id}/cancel"),
}
"""Pages, and what a server without accounts, a cloud, and ears only refuses."""
NEEDS_A_HUB = {"pull.sh", "push.sh"}


def run(server: LiveServer, name: str, **more: str) -> str:
    environ = {**server.environ, "HUGGING_LLAMA_URL": server.url, "PULL_MODEL": "acme/nothing", **more}
    done = subprocess.run(
        ["sh", str(SCRIPTS / name)], env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", sorted(path.name for path in SCRIPTS.glob("*.sh") if path.name not in CLASSIFIERS))
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
        assert all(line.get("error") is None for line in lines)


@pytest.mark.parametrize("name", sorted(CLASSIFIERS))
def test_scripts_for_other_models(classifier_server: LiveServer, name: str) -> None:
    answers = [json.loads(line) for line in run(classifier_server, name, **CLASSIFIERS[name]).splitlines()]
    assert [answer["model"] for answer in answers] == [*CLASSIFIERS[name].values()] * len(answers)
    assert all(len(answer.get("results") or answer["data"]) == 2 for answer in answers)


def test_every_endpoint_has_a_script(server: LiveServer) -> None:
    texts = "".join(path.read_text() for path in SCRIPTS.glob("*.sh"))
    paths = requests.get(f"{server.url}/openapi.json", timeout=60).json()["paths"].keys() - WITHOUT_A_SCRIPT
    assert {"/v1/messages/count_tokens", "/api/embeddings"} < paths
    # with a variable for what a path leaves open
    written = {path: re.sub(r"\{\w+\}", r"\\$\\w+", path.removeprefix("/")) for path in paths}
    without = [path for path in sorted(paths) if not re.search(rf"{written[path]}[\"; ]", texts)]
    assert without == []


def test_no_answer_goes_through_echo() -> None:
    """Some shells' echo writes the \\n of a JSON text as the end of a line."""
    for path in SCRIPTS.glob("*.sh"):
        assert not re.search(r"echo [^|\n]*\$", path.read_text()), path.name
