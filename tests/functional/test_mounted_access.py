"""Whom an application lets in, as its hook says: refusals in the caller's dialect, roles, models, limits, turns."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, abort, request, session
from flask.json.provider import DefaultJSONProvider
from flask.testing import FlaskClient

from hugging_llama import Visitor
from hugging_llama.errors import ForbiddenError
from hugging_llama.neutral.callers import Caller
from hugging_llama.neutral.requests import GenerateRequest
from hugging_llama_config.settings import Settings
from tests.functional.mounted import ENDPOINTS, mounted

VISITORS = {
    "ann": Visitor(id="ann", priority=3),
    "root": Visitor(id="root", roles=("admin",)),
    "some": Visitor(id="some", models=("acme/*",)),
    "slow": Visitor(id="slow/../ä", requests_per_minute=1, tokens_per_minute=1000),
    "guest": Visitor(),
}


def authenticate() -> Visitor | None:
    """By a header, or by the application's own session."""
    name = request.headers.get("X-Name") or session.get("name", "")
    if name == "banned":
        abort(403, "you are banned")
    if name == "ours":
        raise ForbiddenError("not today")
    if name == "odd":
        return True  # type: ignore[return-value]
    return VISITORS.get(name)


def client_of(app: Flask) -> FlaskClient:
    app.secret_key = "secret"
    return app.test_client()


def post(client: FlaskClient, name: str, dialect: str = "ollama", **body: Any) -> Any:
    path, default = ENDPOINTS[dialect]
    return client.post(f"/llm{path}", data=json.dumps({**default, **body}), headers={"X-Name": name})


@pytest.mark.parametrize("dialect", ENDPOINTS)
def test_refusals_are_in_the_callers_dialect(settings: Settings, dialect: str) -> None:
    app, engine = mounted(settings, authenticate=authenticate)
    client = client_of(app)
    for name, status, text in [
        ("nobody", 401, "authentication is required"),
        ("banned", 403, "you are banned"),
        ("ours", 403, "not today"),
        ("odd", 500, "internal server error; the server's log has the details"),
    ]:
        response = post(client, name, dialect)
        error = response.get_json()["error"]
        assert response.status_code == status
        assert (error if dialect == "ollama" else error["message"]) == text
        assert ("WWW-Authenticate" in response.headers) is (status == 401)
    assert engine.requests == []
    assert post(client, "guest", dialect).status_code == 200


def test_every_route_asks_for_it(settings: Settings) -> None:
    app, _ = mounted(settings, authenticate=authenticate)
    client = client_of(app)
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("hugging_llama."):
            for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}:
                assert client.open(rule.rule.replace("<", "").replace(">", ""), method=method).status_code == 401
    assert client.get("/").status_code == 200


def test_a_session_of_the_application_will_do(settings: Settings) -> None:
    app, engine = mounted(settings, authenticate=authenticate)
    app.json = DefaultJSONProvider(app)  # which writes sessions, too
    client = client_of(app)
    with client.session_transaction() as its:
        its["name"] = "ann"
    assert client.post("/llm/api/generate", data=b'{"model": "demo", "prompt": "x"}').status_code == 200
    assert isinstance(engine.requests[0], GenerateRequest)
    assert engine.requests[0].caller == Caller("ann", 3)


def test_roles_and_models_hold_as_those_of_keys(settings: Settings) -> None:
    app, _ = mounted(settings, authenticate=authenticate)
    client = client_of(app)

    def delete(name: str) -> int:
        return client.delete("/llm/api/delete", data=b'{"model": "a/b"}', headers={"X-Name": name}).status_code

    assert [delete(name) for name in ("ann", "root")] == [403, 404]
    assert client.get("/llm/metrics", headers={"X-Name": "ann"}).status_code == 403
    assert client.get("/llm/metrics", headers={"X-Name": "root"}).status_code == 200
    assert post(client, "some").status_code == 403
    assert client.get("/llm/v1/models", headers={"X-Name": "some"}).get_json()["data"] == []
    assert client.get("/llm/health", headers={"X-Name": "some"}).status_code == 200


def test_limits_are_each_visitors_and_shared_by_processes(settings: Settings) -> None:
    """Two applications of the same name stand for two processes of one."""
    clients = [client_of(mounted(settings, authenticate=authenticate)[0]) for _ in range(2)]
    first = post(clients[0], "slow", "openai")
    assert (first.status_code, first.headers["x-ratelimit-limit-requests"]) == (200, "1")
    limited = post(clients[1], "slow", "openai")
    assert (limited.status_code, limited.get_json()["error"]["type"]) == (429, "rate_limit_error")
    assert int(limited.headers["Retry-After"]) >= 1
    assert post(clients[1], "ann").status_code == 200
    assert Path(settings.run_dir).stat().st_mode & 0o777 == 0o700, "sockets come here later"


def test_the_audit_log_knows_who(settings: Settings, tmp_path: Path) -> None:
    settings = replace(settings, audit_log=str(tmp_path / "audit"))
    client = client_of(mounted(settings, authenticate=authenticate)[0])
    for name in ("ann", "root"):
        client.delete("/llm/api/delete", data=b'{"model": "a/b"}', headers={"X-Name": name})
    lines = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    assert [(line["who"], line["outcome"]) for line in lines] == [
        ("ann", "forbidden"), ("root", "begun"), ("root", "model_not_found"),
    ]  # fmt: skip


def test_nobody_is_left_over_from_the_request_before(settings: Settings) -> None:
    """Also in a context that the application's tests push around several requests."""
    app, engine = mounted(settings, authenticate=lambda: VISITORS.get(request.headers.get("X-Name", ""), Visitor()))
    with app.app_context():
        for name in ("ann", "nobody"):
            post(client_of(app), name)
    assert [request.caller.id for request in engine.requests if isinstance(request, GenerateRequest)] == ["ann", ""]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"id": 7}, r"id must be a text, not int: str\(\) makes one"),
        ({"roles": "use"}, "roles must be several texts"),
        ({"roles": ("use", "root")}, "unknown role 'root'; the roles are use, manage, metrics, admin"),
        ({"models": "acme/*"}, "models must be several texts"),
        ({"requests_per_minute": 1.5}, "requests_per_minute must be a whole number"),
        ({"priority": 10**20}, "priority must be from -1000000000 to 1000000000"),
    ],
)
def test_a_visitor_that_makes_no_sense_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        Visitor(**options)
