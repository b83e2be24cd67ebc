"""Inside an application that exists already: its answers stay its own, ours are byte for byte those of a server."""

import json
import logging
from dataclasses import replace
from typing import Any

import pytest
from flask import Blueprint, Flask, g, got_request_exception
from flask.testing import FlaskClient

from hugging_llama import create_app, create_blueprint
from hugging_llama.testing import ScriptedEngine
from hugging_llama_config.env import ConfigError
from hugging_llama_config.settings import Settings
from tests.functional.mounted import ENDPOINTS, host, mounted

FIXED = {"X-Request-ID": "fixed"}
UNKNOWN_MODEL = b'{"model": "no/such", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}'
PATHS = [
    ("GET", "/api/version"),
    ("GET", "/v1/models"),
    ("GET", "/api/tags"),
    ("GET", "/api/models"),
    ("GET", "/nothing"),
    ("POST", "/v1/nothing"),
    ("GET", "/api/chat"),
    ("PUT", "/v1/messages"),
    ("GET", "/docs/nothing"),
    ("GET", "/api/tags/"),
    ("HEAD", "/api/tags"),
    ("HEAD", "/nothing"),
    ("GET", "/"),
]


def as_bytes(client: FlaskClient, method: str, path: str, prefix: str = "", **body: Any) -> tuple[int, str | None, str]:
    """Status, type and body, without the prefix."""
    response = client.open(prefix + path, method=method, headers=FIXED, **body)
    return response.status_code, response.content_type, response.text.replace(prefix or "/llm", "")


@pytest.mark.parametrize("dialect", ENDPOINTS)
def test_errors_are_ours_byte_for_byte(settings: Settings, dialect: str) -> None:
    settings = replace(settings, max_body_bytes=4000)
    own = create_app(settings, engine=ScriptedEngine()).test_client()
    theirs = mounted(settings)[0].test_client()
    path, _ = ENDPOINTS[dialect]
    for body in (UNKNOWN_MODEL, b"{", b"", b" " * 5000, b"[]", b'{"model": 5}'):
        expected = as_bytes(own, "POST", path, data=body)
        assert expected[0] >= 400
        assert as_bytes(theirs, "POST", path, "/llm", data=body) == expected


def test_so_are_routes_and_paths_that_are_none(settings: Settings) -> None:
    own = create_app(settings, engine=ScriptedEngine()).test_client()
    theirs = mounted(settings)[0].test_client()
    for method, path in PATHS:
        assert as_bytes(theirs, method, path, "/llm") == as_bytes(own, method, path)


def test_theirs_stay_theirs(settings: Settings) -> None:
    client = mounted(settings)[0].test_client()
    assert client.get("/").get_json() == {"data": "home"}
    assert client.get("/fails").text == "their last page"
    assert (client.get("/nothing").text, client.put("/").text) == ("their page", "their page")
    assert client.get("/llm/own").text == "their own", "also below our prefix"
    assert client.get("/llm/own", headers={"X-Host": "denied"}).text == "denied by them"
    assert client.get("/nothing", headers={"X-Host": "429"}).text == "their page"
    assert "X-Request-ID" not in client.get("/").headers
    assert client.get("/llm/api/version").headers["X-Theirs"] == "en"


# of an error, by its status: its type for OpenAI's clients, and for Anthropic's
KINDS = {
    400: ("invalid_request_error", "invalid_request_error"),
    401: ("api_error", "authentication_error"),
    403: ("api_error", "permission_error"),
    413: ("invalid_request_error", "request_too_large"),
    429: ("rate_limit_error", "rate_limit_error"),
    500: ("api_error", "api_error"),
}


@pytest.mark.parametrize("dialect", ENDPOINTS)
def test_what_their_hooks_refuse_is_said_in_the_callers_dialect(settings: Settings, dialect: str) -> None:
    app, engine = mounted(settings)
    app.config["MAX_CONTENT_LENGTH"] = 10**6
    path, body = ENDPOINTS[dialect]
    for status, kinds in KINDS.items():
        response = app.test_client().post(f"/llm{path}", data=_json(body), headers={"X-Host": str(status)})
        error = (response.get_json(silent=True) or {})["error"]
        assert response.status_code == status
        assert isinstance(error, str) if dialect == "ollama" else error["type"] == kinds[dialect == "anthropic"]
    assert engine.requests == []


def test_an_error_of_their_own_kind_goes_to_their_page(settings: Settings) -> None:
    client = mounted(settings)[0].test_client()
    assert client.get("/llm/api/version", headers={"X-Host": "denied"}).text == "denied by them"
    assert list(client.get("/llm/api/version", headers={"X-Host": "bug"}).get_json()) == ["error"]


def test_a_bug_of_ours_is_answered_by_us_and_seen_by_them(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    def fail(request: Any) -> Any:
        raise LookupError("a bug")

    app, _ = mounted(settings, engine=ScriptedEngine(generate=fail))
    seen: list[BaseException] = []

    def see(sender: Flask, exception: BaseException, **_: Any) -> None:
        seen.append(exception)

    app.register_error_handler(LookupError, lambda error: ("their page of look-ups", 500))
    with got_request_exception.connected_to(see, app), caplog.at_level(logging.ERROR, "hugging_llama"):
        response = app.test_client().post("/llm/api/generate", data='{"model": "demo", "prompt": "x"}')
    assert (response.status_code, list(response.get_json())) == (500, ["error"])
    assert [str(error) for error in seen] == ["a bug"]


def test_a_body_that_they_have_read_is_read_once_more(settings: Settings) -> None:
    client = mounted(settings)[0].test_client()
    body = b'{"model": "demo", "prompt": "x", "stream": false}'
    for what in ("json", "form", ""):
        response = client.post(
            "/llm/api/generate", data=body, content_type="application/json", headers={"X-Host": what}
        )
        assert response.get_json()["response"] == "Hello!"
    # as curl sends it if nobody says better; a form that is parsed leaves nothing to be read
    form = "application/x-www-form-urlencoded"
    assert client.post("/llm/api/generate", data=body, content_type=form).get_json()["response"] == "Hello!"
    eaten = client.post("/llm/api/generate", data=body, content_type=form, headers={"X-Host": "form"})
    assert eaten.status_code == 400
    assert "application/json" in eaten.get_json()["error"]


@pytest.mark.parametrize("what", ["json", "form", ""])
def test_a_body_that_is_cut_short_is_refused_whoever_reads_it(settings: Settings, what: str) -> None:
    app, engine = mounted(settings)
    response = app.test_client().post(
        "/llm/api/generate",
        data=b'{"model": "demo", "prompt": "x", "stream": false}',
        content_type="application/json",
        headers={"X-Host": what},
        environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": "500"},
    )
    assert (response.status_code, response.get_json()) == (400, {"error": "the body ends before its Content-Length"})
    assert engine.requests == []


def test_a_server_that_reads_no_chunks_is_named(settings: Settings) -> None:
    """Without `wsgi.input_terminated` nobody can know where such a body ends, and Flask reads none of it."""
    client = mounted(settings)[0].test_client()
    chunked = {"Transfer-Encoding": "chunked"}
    response = client.post("/llm/api/chat", headers=chunked, environ_overrides={"wsgi.input_terminated": False})
    assert (response.status_code, "Content-Length" in response.get_json()["error"]) == (400, True)


def test_their_limit_of_a_body_holds_for_us_but_not_for_uploads(settings: Settings) -> None:
    app, _ = mounted(settings)
    app.config["MAX_CONTENT_LENGTH"] = 100
    client = app.test_client()
    assert client.post("/llm/v1/messages", data=b" " * 101).get_json()["error"]["type"] == "request_too_large"
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"  # of an x; a wrong one is told
    assert client.post(f"/llm/api/blobs/sha256:{digest}", data=b"x" * 200).status_code == 400
    assert client.post(f"/llm/api/blobs/sha256:{digest}", data=b"x").status_code == 201


def test_a_prefix_with_arguments_is_theirs(settings: Settings) -> None:
    app, _ = mounted(settings, "/<tenant>/<int:number>/llm")
    client = app.test_client()
    assert client.get("/acme/7/llm/api/version").status_code == 200
    assert client.get("/acme/7/llm/v1/models/demo").get_json()["id"] == "demo"
    assert client.get("/acme/x/llm/api/version").text == "their page"
    assert client.get("/acme/7/llm/nothing").text == "404 page not found"
    assert client.get("/acme/7/llm/api/chat").status_code == 405


def test_their_preprocessors_may_take_them(settings: Settings) -> None:
    app, _ = mounted(settings, "/<language>/llm")

    @app.url_value_preprocessor
    def take(endpoint: str | None, values: dict[str, Any] | None) -> None:
        g.language = (values or {}).pop("language", "none")

    assert app.test_client().get("/de/llm/api/version").headers["X-Theirs"] == "en", "set by the hook behind it"
    assert app.test_client().get("/de/llm/v1/models").status_code == 200


def test_several_mounts_have_settings_of_their_own(settings: Settings) -> None:
    app = host()
    engines = [ScriptedEngine(), ScriptedEngine()]
    first = create_blueprint(settings, engine=engines[0])
    second = create_blueprint(
        replace(settings, duration_unit="seconds"), engine=engines[1], name="second", url_prefix="/api/b"
    )
    around = Blueprint("around", __name__)
    around.register_blueprint(second)
    app.register_blueprint(first, url_prefix="/a")
    app.register_blueprint(around, url_prefix="/around")
    client = app.test_client()
    path, body = ENDPOINTS["ollama"]
    answers = [client.post(prefix + path, data=_json(body)).get_json() for prefix in ("/a", "/around/api/b")]
    assert [type(answer["total_duration"]) for answer in answers] == [int, float]
    assert [len(engine.requests) for engine in engines] == [1, 1]
    assert client.get("/around/api/b/nothing").text == "404 page not found"
    for prefix in ("/a", "/around/api/b"):
        document = client.get(f"{prefix}/openapi.json").get_json()
        assert all(found.startswith(prefix) for found in document["paths"])
        assert f"{prefix}/api/chat" in document["paths"]
        figures = client.get(f"{prefix}/metrics").text
        for rule in ("/a" + path, "/around/api/b" + path):
            assert f'hugging_llama_generations_total{{endpoint="{rule}",outcome="stop"}} 1.0' in figures


def test_one_blueprint_may_be_registered_twice(settings: Settings) -> None:
    app, blueprint = host(), create_blueprint(settings, engine=ScriptedEngine())
    app.register_blueprint(blueprint, url_prefix="/a")
    app.register_blueprint(blueprint, url_prefix="/b", name="again")
    for prefix in ("/a", "/b"):
        assert app.test_client().get(f"{prefix}/v1/models").status_code == 200
        assert app.test_client().get(f"{prefix}/nothing").text == "404 page not found"


def test_their_factory_may_be_called_often(settings: Settings) -> None:
    apps = [mounted(settings) for _ in range(3)]
    path, body = ENDPOINTS["openai"]
    for app, engine in apps:
        assert app.test_client().post(f"/llm{path}", data=_json(body)).status_code == 200
        assert len(engine.requests) == 1


def test_hooks_on_the_blueprint_come_before_ours(settings: Settings) -> None:
    app, order = host(), list[str]()

    def authenticate() -> None:
        order.append("ours")

    blueprint = create_blueprint(settings, engine=ScriptedEngine(), authenticate=authenticate)
    blueprint.before_request(lambda: order.append("theirs"))
    app.register_blueprint(blueprint, url_prefix="/llm")
    assert app.test_client().get("/llm/api/version").status_code == 401
    assert order == ["theirs", "ours"]


def test_browsers_may_ask_before_they_call(settings: Settings) -> None:
    client = mounted(settings, authenticate=lambda: None)[0].test_client()
    asked = client.options("/llm/api/chat")
    assert (asked.status_code, asked.headers["Allow"]) == (200, "OPTIONS, POST")
    assert client.options("/llm/nothing").status_code == 401


def test_behind_a_script_name_and_another_application_root(settings: Settings) -> None:
    app, _ = mounted(settings)
    app.config.update(APPLICATION_ROOT="/site", SERVER_NAME="example.org:8000")
    client = app.test_client()
    found = client.get("/llm/openapi.json", base_url="http://example.org:8000/site")
    assert found.get_json()["servers"] == [{"url": "/site"}]
    link = client.get("/llm/api/models", base_url="http://example.org:8000/site").headers["Link"]
    assert link.startswith("</site/llm/api/tags>")


def test_settings_may_be_given_by_name(settings: Settings) -> None:
    app = host()
    blueprint = create_blueprint({"home": settings.home, "duration_unit": "seconds"}, engine=ScriptedEngine())
    app.register_blueprint(blueprint)
    assert app.extensions["hugging_llama"].settings.duration_unit == "seconds"
    with pytest.raises(ConfigError, match="duration_unit"):
        create_blueprint({"duration_unit": "weeks"})
    with pytest.raises(ConfigError, match="load_settings"):
        create_blueprint(Settings())


def _json(value: Any) -> bytes:
    """The application writes its own JSON."""

    return json.dumps(value).encode()
