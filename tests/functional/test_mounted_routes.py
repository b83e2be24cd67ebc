"""Only those dialects and routes that an application wants."""

from typing import Any

import pytest

from hugging_llama import create_blueprint
from hugging_llama.testing import ScriptedEngine
from hugging_llama_config.settings import Settings
from tests.functional.mounted import mounted


def paths(settings: Settings, **options: Any) -> set[str]:
    """What the application has below our prefix."""
    app, _ = mounted(settings, **options)
    client = app.test_client()
    found = client.get("/llm/openapi.json").get_json()
    rules = {rule.rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith("hugging_llama.")}
    assert found is None or len(found["paths"]) == len(rules) - 1, "the document says what is there"
    return {rule.removeprefix("/llm") for rule in rules if "unknown" not in rule}


def test_dialects_are_chosen_by_name(settings: Settings) -> None:
    every = paths(settings)
    openai = paths(settings, dialects=("openai",))
    assert {"/v1/chat/completions", "/v1/responses", "/health", "/docs"} <= openai
    assert not any(path.startswith("/api/") for path in openai)
    assert "/v1/messages" not in openai
    anthropic = paths(settings, dialects=["anthropic"])
    assert {"/v1/messages", "/v1/messages/count_tokens", "/v1/models", "/v1/models/<path:name>"} <= anthropic
    assert "/v1/chat/completions" not in anthropic
    assert paths(settings, dialects=("openai", "anthropic", "ollama")) == every
    assert paths(settings, dialects=("ollama",)) | openai | anthropic == every


def test_routes_are_left_out_by_group_and_by_path(settings: Settings) -> None:
    every = paths(settings)
    managed = {f"/api/{name}" for name in ("pull", "push", "create", "copy", "delete", "blobs/<digest>")}
    assert paths(settings, without=("manage",)) == every - managed
    assert paths(settings, without=("metrics", "health")) == every - {"/metrics", "/health", "/ready"}
    assert paths(settings, without=("docs",)) == every - {"/docs", "/docs/<name>", "/openapi.json"}
    responses = {path for path in every if path.startswith("/v1/responses")}
    assert len(responses) > 2
    assert paths(settings, without=["/v1/responses", "/", "/api/pull"]) == every - responses - {"/", "/api/pull"}


def test_what_is_left_out_is_an_unknown_path(settings: Settings) -> None:
    app, _ = mounted(settings, dialects=("anthropic",), without=("health",))
    client = app.test_client()
    for path in ("/api/chat", "/health", "/v1/chat/completions"):
        assert client.post(f"/llm{path}", data=b"{}").text == "404 page not found"
    missing = client.get("/llm/v1/models/no/such")
    assert missing.get_json()["error"]["type"] == "not_found_error"
    assert missing.get_json()["type"] == "error", "in the one dialect that is there"


def test_at_the_root_other_paths_are_the_applications(settings: Settings) -> None:
    app, _ = mounted(settings, "", without=("/",))
    client = app.test_client()
    assert client.get("/").get_json() == {"data": "home"}
    assert client.get("/nothing").text == "their page"
    assert client.get("/api/version").status_code == 200


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"dialects": ("openai", "gemini")}, "dialects: there is no 'gemini'; there are ollama, openai, anthropic"),
        ({"dialects": ()}, "dialects: name at least one"),
        ({"dialects": "openai"}, r"dialects must be several names, such as \('openai',\)"),
        ({"without": "docs"}, r"without must be several names, such as \('docs',\)"),
        ({"without": ("pulls",)}, "without: there is no 'pulls'; name a path or one of manage, metrics, docs, health"),
        ({"without": ("/api/pulls",)}, "without: no route of ollama, openai, anthropic is at '/api/pulls'"),
        ({"dialects": ["openai"], "without": ["/api/pull"]}, "without: no route of openai is at '/api/pull'"),
    ],
)
def test_unknown_names_are_refused_when_the_application_is_made(
    settings: Settings, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        create_blueprint(settings, engine=ScriptedEngine(), **options)
