"""Servers for all tests with real clients."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.engine.checkpoints import byte_tokenizer, make_checkpoint
from tests.engine.classifier_files import make_classifier
from tests.hub_cache import MINILM, add_to_hub_cache, minilm_files
from tests.live_server import LiveServer, live_server
from tests.process.servers import wait_until

RERANKER, MOOD = "acme/reranker", "acme/mood"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A real server with the demo model and the real all-MiniLM-L6-v2, and no Hub to reach."""
    folder: Path = tmp_path_factory.mktemp("live")
    cache = folder / "hub"
    add_to_hub_cache(cache, MINILM, minilm_files())
    with live_server(folder, cache, hub_endpoint="http://127.0.0.1:9") as running:
        yield running


@pytest.fixture
def endless(server: LiveServer) -> Iterator[str]:
    """A model whose answers do not end before a caller has had the time to leave."""
    made = {"model": "endless", "from": "demo", "parameters": {"min_new_tokens": 100000, "num_predict": 100000}}
    assert requests.post(f"{server.url}/api/create", json={**made, "stream": False}, timeout=60).ok
    yield "endless"
    assert requests.delete(f"{server.url}/api/delete", json={"model": "endless"}, timeout=60).ok


@pytest.fixture
def coder(server: LiveServer, tmp_path: Path) -> Iterator[str]:
    """A model with a tokenizer for code; gone from memory and disk when the test is over."""
    markers = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")
    files = make_checkpoint(tmp_path / "coder", byte_tokenizer(markers=markers))
    snapshot = add_to_hub_cache(Path(server.environ["HF_HUB_CACHE"]), "acme/coder", files)
    yield "acme/coder"
    assert requests.post(f"{server.url}/api/generate", json={"model": "acme/coder", "keep_alive": 0}, timeout=60).ok
    wait_until(lambda: "acme/coder:latest" not in requests.get(f"{server.url}/api/ps", timeout=60).text)
    shutil.rmtree(snapshot.parent.parent)


@pytest.fixture(scope="session")
def classifier_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A real server with a tiny random reranker and a classifier of three labels; its `hub` lies beside its log."""
    folder: Path = tmp_path_factory.mktemp("classifiers")
    add_to_hub_cache(folder / "hub", RERANKER, make_classifier(folder / "reranker"))
    labels = {0: "sad", 1: "so so", 2: "happy"}
    add_to_hub_cache(folder / "hub", MOOD, make_classifier(folder / "mood", id2label=labels))
    with live_server(folder, folder / "hub", hub_endpoint="http://127.0.0.1:9") as running:
        yield running
