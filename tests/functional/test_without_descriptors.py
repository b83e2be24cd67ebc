"""A process that may open nothing more says so: what it can't see is not gone."""

import contextlib
import os
import resource
from collections.abc import Iterator

import pytest

from tests.functional.conftest import MakeClient
from tests.hub_cache import MINILM


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/tags", None),
        ("GET", "/v1/models", None),
        ("POST", "/api/show", {"model": "hugging-llama/demo"}),
        ("POST", "/api/generate", {"model": "hugging-llama/demo", "prompt": "x"}),
        ("POST", "/v1/chat/completions", {"model": "demo", "messages": [{"role": "user", "content": "x"}]}),
        ("POST", "/v1/messages", {"model": "demo", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}),
        ("POST", "/api/embed", {"model": MINILM, "input": "x"}),
    ],
)
def test_models_are_not_said_to_be_gone(
    make_client: MakeClient, method: str, path: str, body: dict[str, object] | None
) -> None:
    client, _ = make_client()
    assert client.open(path, method=method, json=body).status_code == 200
    with no_descriptors():
        answer = client.open(path, method=method, json=body)
    # what was read before is known, as long as its folder says that nothing has changed
    if answer.status_code != 200 or path in ("/api/tags", "/v1/models"):
        assert answer.status_code in (503, 529), answer.text
        assert answer.headers["Retry-After"] == "1"
    assert client.open(path, method=method, json=body).status_code == 200


def test_nor_are_those_that_nobody_has_asked_for_yet(make_client: MakeClient) -> None:
    client, _ = make_client()
    assert client.post("/api/show", json={"model": "demo"}).status_code == 200  # the file of keys is read
    with no_descriptors():
        answer = client.post("/api/show", json={"model": MINILM})
    assert answer.status_code == 503, answer.text
    assert client.post("/api/show", json={"model": MINILM}).status_code == 200
    assert client.post("/api/show", json={"model": "acme/none"}).status_code == 404
