"""How big and how deep a body may be: every route that takes one has both limits, and none answers with a 5xx."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from hugging_llama.dialects.base import SMALL_BODY_BYTES
from hugging_llama.dialects.json_body import MAX_DEPTH
from hugging_llama_config.settings import Settings
from tests.functional.conftest import MakeClient
from tests.functional.field_probes import ENDPOINTS, Endpoint, World

LIMIT = 200_000
NAMES_ONLY = {"/api/copy", "/api/delete", "/api/pull", "/api/push", "/api/show"}
BODILESS = {"/v1/responses/<id>", "/v1/responses/<id>/cancel", "/api/user/keys/<path:key>", "/api/me", "/api/signout"}
OF_THEIR_OWN = {"/api/blobs/<digest>", "/v1/audio/transcriptions"}
TRANSFERS = {"/api/pull", "/api/push"}
CHUNKED, TERMINATED = {"Transfer-Encoding": "chunked"}, {"wsgi.input_terminated": True}
EXPERIMENTAL = "/api/experimental/"


def _routes(world: World) -> Iterator[tuple[str, str]]:
    for rule in world.client.application.url_map.iter_rules():
        for method in (rule.methods or set()) & {"POST", "PUT", "PATCH", "DELETE"}:
            if rule.rule not in BODILESS | OF_THEIR_OWN and not rule.rule.startswith(EXPERIMENTAL):
                yield rule.rule, method


def test_every_route_has_a_limit_of_its_size(make_client: MakeClient, world: World) -> None:
    client, _ = make_client(max_body_bytes=LIMIT)
    routes = list(_routes(world))
    assert len(routes) >= 20
    for path, method in routes:
        limit = min(LIMIT, SMALL_BODY_BYTES) if path in NAMES_ONLY else LIMIT
        for size in (limit, limit + 1):
            body = b'{"model": "nobody/none"}'.ljust(size)
            answers = [
                client.open(path, method=method, data=body),
                client.open(path, method=method, data=body, headers=CHUNKED, environ_overrides=TERMINATED),
            ]
            found = {answer.status_code == 413 for answer in answers}
            assert found == {size > limit}, (path, size, [answer.status_code for answer in answers])


def test_the_limits_are_those_of_the_documentation() -> None:
    found = Settings()
    assert (found.max_body_bytes, found.max_blob_bytes, found.body_timeout_s) == (64 * 2**20, 2**40, 30)


def _nested(depth: int) -> Iterator[Any]:
    for around in ("[%s]", '{"a": %s}', '{"properties": {"a": %s}}', '{"type": "object", "items": [%s]}'):
        per_level = around.count("{") + around.count("[")
        text = "%s"
        for _ in range(depth // per_level):
            text = text % around
        yield json.loads(text % '"x"')


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.path)
def test_every_field_takes_all_the_depth_that_there_is(world: World, endpoint: Endpoint) -> None:
    base = {**endpoint.base, **({"model": ".."} if endpoint.path in TRANSFERS else {})}
    for name in endpoint.fields:
        for value in _nested(MAX_DEPTH - 4):
            bodies = [
                {**base, name: value},
                {**base, name: [value]},
                {**base, name: {"type": "json_schema", "schema": value, "role": "user", "content": value}},
                {**base, name: [{"type": "function", "function": {"name": "f", "parameters": value}}]},
            ]
            for body in bodies:
                response = world.client.open(endpoint.path, method=endpoint.method, json=body)
                assert response.status_code < 500, (name, value, response.text)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.path)
def test_more_depth_is_refused(world: World, endpoint: Endpoint) -> None:
    for depth in (MAX_DEPTH + 1, 900, 30_000):
        body = b'{"model": "demo", "x": ' + b"[" * depth + b"]" * depth + b"}"
        response = world.client.open(endpoint.path, method=endpoint.method, data=body)
        assert response.status_code == 400
        assert "exceeded max depth" in response.text


def test_depth_is_not_mistaken_for_length(world: World) -> None:
    messages = [{"role": "user", "content": "[{" * 50}] * 300
    response = world.client.post("/api/chat", json={"model": "demo", "messages": messages, "stream": False})
    assert response.status_code == 200
