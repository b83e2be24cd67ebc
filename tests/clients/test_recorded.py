"""What clients send that can't be run here, as their sources say, replayed against a real server.

Each file of `recorded/` says which client and version it follows. `schemas` are what that client needs of an answer:
the whole (`answer`), every part of a stream (`each`), its first and last one, and parts of which there must be one
(`some`); what several clients need alike stands in `recorded_schemas.json`. `common` is what all bodies of a path (or
of a kind, `like`) hold unless they say otherwise. Facts and shapes are expected, no fixed texts; the model `steady`
always takes its best token, since many clients leave the sampling to the server.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests

from tests.live_server import LiveServer

HERE = Path(__file__).parent
RECORDED = sorted((HERE / "recorded").glob("*.json"))
SHARED = HERE / "recorded_schemas.json"
EXPECTED = {"status", "content_type", "headers", "text", "answer", "each", "first", "last", "some", "done_line"}


@contextmanager
def models_of(recorded: dict[str, Any], server: LiveServer) -> Iterator[None]:
    """The models that a recording brings along, for as long as it is replayed."""
    made = []
    try:
        for body in recorded.get("models", []):
            answer = requests.post(f"{server.url}/api/create", json={**body, "stream": False}, timeout=60)
            assert answer.json() == {"status": "success"}
            made.append(body["model"])
        yield
    finally:
        for name in made:
            requests.delete(f"{server.url}/api/delete", json={"model": name}, timeout=60)


def parts_of(response: requests.Response) -> list[Any]:
    """The objects of a stream, lines or server-sent events; the line that ends OpenAI's as it is."""
    if response.headers["Content-Type"].startswith("application/x-ndjson"):
        return [json.loads(line) for line in response.text.removesuffix("\n").split("\n")]
    assert response.headers["Content-Type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in response.text.split("\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def check(response: requests.Response, expect: dict[str, Any], schemas: dict[str, Any]) -> None:
    assert expect.keys() <= EXPECTED
    assert response.status_code == expect.get("status", 200), response.text
    assert response.headers["Content-Type"].startswith(expect.get("content_type", ""))
    assert {name: response.headers.get(name) for name in expect.get("headers", {})} == expect.get("headers", {})
    assert response.text == expect.get("text", response.text)

    def fits(value: Any, name: str) -> bool:
        schema = {"$defs": schemas, "$ref": f"#/$defs/{name}"}
        return bool(jsonschema.Draft202012Validator(schema).is_valid(value))

    if name := expect.get("answer"):
        assert fits(response.json(), name), (name, response.json())
    if expect.keys() & {"each", "first", "last", "some", "done_line"}:
        parts = parts_of(response)
        if expect.get("done_line"):
            assert parts.pop() == "[DONE]"
        for part in parts:
            assert fits(part, expect.get("each", "anything")), part
        assert fits(parts[0], expect.get("first", "anything")), parts[0]
        assert fits(parts[-1], expect.get("last", "anything")), parts[-1]
        for name in expect.get("some", []):
            assert any(fits(part, name) for part in parts), (name, parts)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_a_recorded_client_gets_what_it_needs(server: LiveServer, path: Path, request: pytest.FixtureRequest) -> None:
    recorded = json.loads(path.read_text())
    for fixture in recorded.get("needs", []):
        request.getfixturevalue(fixture)
    assert recorded["client"]
    assert recorded["version"]
    assert recorded["follows"]
    schemas = {"anything": True, **json.loads(SHARED.read_text()), **recorded["schemas"]}
    common = recorded.get("common", {})
    with models_of(recorded, server), requests.Session() as session:
        for exchange in recorded["exchanges"]:
            body = (
                {**common.get(exchange.get("like", exchange["path"]), {}), **exchange["body"]}
                if "body" in exchange
                else None
            )
            response = session.request(
                exchange["method"],
                server.url + exchange["path"],
                headers={**recorded.get("headers", {}), **exchange.get("headers", {})},
                data=None if body is None else json.dumps(body),
                timeout=60,
            )
            try:
                check(response, exchange["expect"], schemas)
            except AssertionError as error:
                raise AssertionError(f"{recorded['client']} {exchange['does']}: {error}") from error
