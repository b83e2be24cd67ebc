"""Reranking and classification against a real server: real scores, many callers at once, and one who leaves."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
from sentence_transformers import CrossEncoder

from tests.clients.conftest import MOOD, RERANKER
from tests.live_server import LiveServer
from tests.process.servers import wait_until

WAIT_S = 60.0
QUERY = "How many people live in Berlin?"
DOCUMENTS = ["Berlin is known for its museums.", "", "Berlin had 3.5 million inhabitants.", "x" * 300]


@pytest.fixture(scope="module")
def library(classifier_server: LiveServer) -> Any:
    return CrossEncoder(str(Path(classifier_server.environ["HOME"]) / "reranker"), device="cpu")


def post(server: LiveServer, path: str, **body: Any) -> Any:
    response = requests.post(server.url + path, json=body, timeout=60)
    assert response.ok, response.text
    return response.json()


def rerank(server: LiveServer, path: str, query: str, documents: list[str]) -> list[float]:
    """The scores in the order of the documents."""
    results = post(server, path, model=RERANKER, query=query, documents=documents)["results"]
    scores = [result["relevance_score"] for result in results]
    assert scores == sorted(scores, reverse=True)
    found = {result["index"]: result["relevance_score"] for result in results}
    return [found[place] for place in range(len(documents))]


def predict(library: Any, query: str, documents: list[str]) -> Any:
    return library.predict([(query, document) for document in documents], show_progress_bar=False)


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/api/rerank"])
def test_scores(classifier_server: LiveServer, library: Any, path: str) -> None:
    found = rerank(classifier_server, path, QUERY, DOCUMENTS)
    assert found == pytest.approx(predict(library, QUERY, DOCUMENTS).tolist(), abs=1e-5)


def test_labels(classifier_server: LiveServer) -> None:
    answer = post(classifier_server, "/v1/classify", model=MOOD, input=["a", "another text"])
    assert {row["label"] for row in answer["data"]} <= {"sad", "so so", "happy"}
    assert all(sum(row["probs"]) == pytest.approx(1) for row in answer["data"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/rerank", {"model": RERANKER, "query": QUERY, "documents": ["short", "x" * 300]}),
        ("/api/rerank", {"model": RERANKER, "query": QUERY, "documents": ["x" * 300]}),
        ("/v1/classify", {"model": MOOD, "input": ["short", "x" * 300]}),
    ],
)
def test_what_did_not_fit_is_told(classifier_server: LiveServer, path: str, body: dict[str, Any]) -> None:
    whole = requests.post(classifier_server.url + path, json=body, timeout=60)
    assert whole.ok
    assert int(whole.headers["X-Truncated-Tokens"]) > 100


def test_many_callers_get_their_own_scores(classifier_server: LiveServer, library: Any) -> None:
    groups = [(f"query {n}", [f"document {n} {'x ' * (m * n % 40)}" for m in range(1 + n % 9)]) for n in range(64)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda group: rerank(classifier_server, "/v1/rerank", *group), groups))
    for scores, group in zip(found, groups, strict=True):
        assert np.abs(np.array(scores) - predict(library, *group)).max() < 1e-5


def test_a_caller_who_leaves_is_noticed(classifier_server: LiveServer) -> None:
    """Once its scores are being computed; how many thousand there would have been is not waited for."""
    before = metric(classifier_server, "cancelled_total")
    body = json.dumps({"model": RERANKER, "query": QUERY, "documents": ["y" * 300] * 10_000}).encode()
    address = urlsplit(classifier_server.url)
    with socket.create_connection((str(address.hostname), int(address.port or 0))) as connection:
        head = f"POST /v1/rerank HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        wait_until(lambda: metric(classifier_server, "running") == 1, WAIT_S)
    wait_until(lambda: metric(classifier_server, "cancelled_total") == before + 1, WAIT_S)
    assert metric(classifier_server, "running") == 0


def metric(server: LiveServer, name: str) -> float:
    """A figure of the engine; waits while a busy one has no time to tell."""
    found: list[float] = []

    def is_told() -> bool:
        found[:] = [server.figure(name)]
        return found[0] >= 0

    wait_until(is_told, WAIT_S)
    return found[0]
