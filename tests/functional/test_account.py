"""What a server without a cloud, accounts and ears answers."""

import io
from typing import Any

import pytest

from tests.functional.conftest import MakeClient


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "answer"),
    [
        ("GET", "/api/status", None, 200, {"cloud": {"disabled": True, "source": "config"}}),
        ("POST", "/api/me", None, 401, {"error": "unauthorized"}),
        ("POST", "/api/signout", None, 401, {"error": "you are not currently signed in"}),
        ("DELETE", "/api/user/keys/abc", None, 401, {"error": "you are not currently signed in"}),
        ("POST", "/api/experimental/web_search", None, 400, {"error": "missing request body"}),
        (
            "POST", "/api/experimental/web_search", {"query": "x"}, 403,
            {"error": "ollama cloud is disabled: web search is unavailable"},
        ),
        (
            "POST", "/api/experimental/web_fetch", {"url": "http://x"}, 403,
            {"error": "ollama cloud is disabled: web fetch is unavailable"},
        ),
        ("GET", "/api/experimental/model-recommendations", None, 200, {"recommendations": []}),
    ],
)  # fmt: skip
def test_there_is_no_cloud(
    make_client: MakeClient, method: str, path: str, body: Any, status: int, answer: dict[str, Any]
) -> None:
    response = (
        make_client()[0].open(path, method=method, json=body) if body else make_client()[0].open(path, method=method)
    )
    assert (response.status_code, response.get_json()) == (status, answer)
    assert response.content_type == "application/json; charset=utf-8"


@pytest.mark.parametrize(
    ("form", "status", "message"),
    [
        ({}, 400, "model is required"),
        ({"model": "hugging-llama/demo"}, 400, "file is required: http: no such file"),
        ({"model": "hugging-llama/demo", "file": b""}, 400, "audio file is empty"),
        ({"model": "nobody/none", "file": b"RIFF"}, 404, "model 'nobody/none' not found"),
        ({"model": "hugging-llama/demo", "file": b"RIFF"}, 400, '"hugging-llama/demo" does not support audio'),
    ],
)
def test_no_model_can_hear(make_client: MakeClient, form: dict[str, Any], status: int, message: str) -> None:
    data = {key: (io.BytesIO(value), "a.wav") if key == "file" else value for key, value in form.items()}
    client, _ = make_client()
    response = client.post("/v1/audio/transcriptions", data=data, content_type="multipart/form-data")
    assert (response.status_code, response.get_json()["error"]["message"]) == (status, message)


def test_a_recording_must_be_in_a_form_and_not_too_long(make_client: MakeClient) -> None:
    client, _ = make_client()
    assert "multipart" in client.post("/v1/audio/transcriptions", json={}).get_json()["error"]["message"]
    form = {"data": bytes(25 * 2**20 + 1), "content_type": "multipart/form-data; boundary=b"}
    assert client.post("/v1/audio/transcriptions", **form).status_code == 413
