"""What is counted and logged of requests in an application that exists already, whoever answers them."""

import logging
from typing import Any

import pytest
from flask import Flask, Response, abort, request

from hugging_llama import Visitor, create_blueprint
from hugging_llama.testing import ScriptedEngine
from hugging_llama_config.settings import Settings
from tests.scrape import Scrape

BODY = {"model": "demo", "prompt": "x"}


def host(settings: Settings) -> Flask:
    """Its hooks do what the header says; two mounts."""
    app = Flask("theirs")
    for name in ("a", "b"):
        app.register_blueprint(create_blueprint(settings, engine=ScriptedEngine(), name=name), url_prefix=f"/{name}")

    @app.before_request
    def in_front() -> Response | None:
        what = request.headers.get("X-Host")
        if what == "abort":
            abort(403)
        return Response("no", 403) if what == "answer" else None

    @app.after_request
    def behind(response: Response) -> Response:
        if request.headers.get("X-Host") == "fail":
            raise LookupError("a bug behind us")
        return response

    return app


def scrape(app: Flask) -> Scrape:
    return Scrape.of(app.test_client().get("/b/metrics").text)


@pytest.mark.parametrize(
    ("method", "path", "what", "body", "counted"),
    [
        ("POST", "/a/api/generate", "", BODY, {("/a/api/generate", "200"): 1}),
        ("POST", "/a/api/generate", "abort", BODY, {}),
        ("POST", "/a/api/generate", "answer", BODY, {}),
        ("POST", "/a/api/generate", "fail", BODY, {("/a/api/generate", "500"): 1}),
        # it was over before their hook failed
        ("POST", "/a/api/generate", "fail", BODY | {"stream": False}, {("/a/api/generate", "200"): 1}),
        ("GET", "/a/nothing", "", None, {("/a/<path:unknown>", "404"): 1}),
        ("GET", "/a/api/generate", "", None, {("/a/<path:unknown>", "405"): 1}),
        ("OPTIONS", "/a/api/generate", "", None, {("/a/api/generate", "200"): 1}),
        ("HEAD", "/a/api/tags", "", None, {("/a/api/tags", "200"): 1}),
    ],
)
def test_each_request_ends_once(
    settings: Settings, method: str, path: str, what: str, body: Any, counted: dict[tuple[str, str], float]
) -> None:
    app = host(settings)
    before = scrape(app)
    with app.test_client().open(path, method=method, json=body, headers={"X-Host": what}) as response:
        assert response.data is not None
    after = scrape(app)
    gained = after.gained(before, "requests_total", "endpoint", "status")
    assert gained.pop(("/b/metrics", "200")) == 1
    assert gained == counted
    assert after.get("requests_in_progress") == before.get("requests_in_progress") == 1, "the look itself"


def test_a_process_is_one_worker_however_many_mounts_it_has(settings: Settings) -> None:
    assert scrape(host(settings)).get("workers_started_total") == 1


def test_what_an_application_calls_its_visitors_spoils_neither_log_nor_figures(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    app = Flask("theirs")
    visitor = Visitor(id="ann\nPOST /forged 200 \ud800", roles=("admin",))
    app.register_blueprint(create_blueprint(settings, engine=ScriptedEngine(), authenticate=lambda: visitor))
    with caplog.at_level(logging.INFO, "hugging_llama.access"):
        assert app.test_client().get("/api/tags").status_code == 200
    assert "\n" not in caplog.messages[-1]
    figures = Scrape.of(app.test_client().get("/metrics").text)
    assert figures.by("key_requests_total", "key_id") == {("ann\nPOST /forged 200 ?",): 1}
