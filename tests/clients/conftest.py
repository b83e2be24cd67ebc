"""Servers for all tests with real clients."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.classifier_files import make_classifier
from tests.hub_cache import MINILM, add_to_hub_cache, minilm_files
from tests.live_server import LiveServer, live_server

RERANKER, MOOD = "acme/reranker", "acme/mood"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A real server with the demo model and the real all-MiniLM-L6-v2, and no Hub to reach."""
    folder: Path = tmp_path_factory.mktemp("live")
    cache = folder / "hub"
    add_to_hub_cache(cache, MINILM, minilm_files())
    with live_server(folder, cache, hub_endpoint="http://127.0.0.1:9") as running:
        yield running


@pytest.fixture(scope="session")
def classifier_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A real server with a tiny random reranker and a classifier of three labels; its `hub` lies beside its log."""
    folder: Path = tmp_path_factory.mktemp("classifiers")
    add_to_hub_cache(folder / "hub", RERANKER, make_classifier(folder / "reranker"))
    labels = {0: "sad", 1: "so so", 2: "happy"}
    add_to_hub_cache(folder / "hub", MOOD, make_classifier(folder / "mood", id2label=labels))
    with live_server(folder, folder / "hub", hub_endpoint="http://127.0.0.1:9") as running:
        yield running
