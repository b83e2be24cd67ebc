"""What was there before is as it was, and the assistant speaks its API's language to those whom the desk knows."""

import json

import pytest
from flask import Flask
from flask.testing import FlaskClient

ANN, ROOT = ("ann", "secret"), ("root", "toor")
ASK = {"model": "demo", "prompt": "Once upon a time", "options": {"num_predict": 8, "seed": 1}}


def test_the_desk_is_as_it_was(client: FlaskClient) -> None:
    assert client.get("/").location == "/login?next=/"
    assert client.post("/login", data={"name": "ann", "password": "secret"}).location == "/"
    assert "Hello, ann." in client.get("/").text
    assert client.post("/api/tickets", json={"text": "The printer is on fire"}).status_code == 201
    assert client.post("/api/tickets", json={}).get_json() == {"message": "a ticket needs a text"}
    assert client.get("/api/tickets/99").get_json()["message"].startswith("The requested URL was not found")
    assert "<h1>Not Found</h1>" in client.get("/nothing").text
    assert "<h1>Method Not Allowed</h1>" in client.put("/login").text
    assert "desk_requests_total" in client.get("/metrics").text


def test_a_model_answers_whoever_is_logged_in(client: FlaskClient) -> None:
    client.post("/login", data={"name": "ann", "password": "secret"})
    lines = [json.loads(line) for line in client.post("/assistant/api/generate", json=ASK).text.splitlines()]
    assert lines[-1]["done"]
    assert lines[-1]["eval_count"] == 8
    whole = client.post("/assistant/api/generate", json={**ASK, "stream": False}).get_json()
    assert whole["response"] == "".join(line["response"] for line in lines)


def test_or_who_sends_a_name_and_a_password(client: FlaskClient) -> None:
    messages = [{"role": "user", "content": "Hello!"}]
    body = {"model": "demo", "messages": messages, "max_tokens": 4}
    for path in ("/assistant/v1/chat/completions", "/assistant/v1/messages"):
        assert client.post(path, json=body, auth=ANN).status_code == 200
        refused = client.post(path, json=body)
        assert (refused.status_code, "error" in refused.get_json()) == (401, True)


@pytest.mark.parametrize(("auth", "status"), [(ANN, 403), (ROOT, 404), (None, 401)])
def test_only_administrators_change_models(client: FlaskClient, auth: tuple[str, str] | None, status: int) -> None:
    response = client.delete("/assistant/api/delete", json={"model": "acme/none"}, auth=auth)
    assert (response.status_code, list(response.get_json())) == (status, ["error"])


def test_errors_of_the_assistant_are_its_own(client: FlaskClient) -> None:
    missing = client.post("/assistant/v1/chat/completions", json={"model": "no/such", "messages": []}, auth=ANN)
    assert missing.get_json()["error"]["type"] in ("not_found_error", "invalid_request_error")
    assert client.get("/assistant/api/nothing", auth=ANN).text == "404 page not found"
    assert client.get("/assistant/api/chat", auth=ANN).text == "405 method not allowed"
    too_large = client.post("/assistant/api/chat", data=b" " * (2**20 + 1), auth=ANN)
    assert (too_large.status_code, list(too_large.get_json())) == (413, ["error"])


def test_the_desk_measures_both_and_nothing_else_is_in_its_registry(app: Flask, client: FlaskClient) -> None:
    client.get("/assistant/api/version", auth=ANN)
    figures = client.get("/metrics").text
    assert 'endpoint="hugging_llama.ollama_root.version"' in figures
    assert "hugging_llama_" not in figures.replace("hugging_llama.", "")
