"""The other endpoints on the wire, and what surrounds them all."""

import json
import threading
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask

from hugging_llama import create_app, create_blueprint
from hugging_llama.errors import EngineDiedError, TransferError
from hugging_llama.neutral.events import Loaded
from hugging_llama.neutral.requests import EmbedRequest, LoadRequest
from hugging_llama.testing import ScriptedEngine
from hugging_llama_config.settings import Settings
from tests.functional.conftest import LOADED, MakeClient
from tests.hub_cache import MINILM

DEMO = "hugging-llama/demo"


def test_embed(make_client: MakeClient) -> None:
    client, engine = make_client()
    answer = client.post("/api/embed", json={"model": MINILM, "input": ["a", "b"], "dimensions": 2}).get_json()
    assert list(answer) == ["model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"]
    assert answer["embeddings"] == [[0.6, 0.8], [0.6, 0.8]]
    assert answer["prompt_eval_count"] == 2
    assert engine.requests[0].inputs == ("a", "b")  # type: ignore[union-attr]


@pytest.mark.parametrize("body", [{}, {"input": None}, {"input": ""}, {"input": []}])
def test_embedding_nothing_loads_the_model(make_client: MakeClient, body: dict[str, Any]) -> None:
    client, _ = make_client()
    answer = client.post("/api/embed", json={"model": MINILM, **body}).get_json()
    assert answer == {"model": MINILM, "embeddings": []}


def test_the_empty_string_in_a_list_is_embedded(make_client: MakeClient) -> None:
    client, _ = make_client()
    assert len(client.post("/api/embed", json={"model": MINILM, "input": [""]}).get_json()["embeddings"]) == 1


@pytest.mark.parametrize("value", [5, {"a": 1}, ["a", 5], [["a"]]])
def test_other_inputs_are_refused_before_the_model_is_looked_up(make_client: MakeClient, value: Any) -> None:
    client, _ = make_client()
    response = client.post("/api/embed", json={"model": "no/such", "input": value})
    assert (response.status_code, response.get_json()) == (400, {"error": "invalid input type"})


def test_an_embedding_of_too_many_texts(make_client: MakeClient) -> None:
    client, engine = make_client()
    assert client.post("/api/embed", json={"model": MINILM, "input": ["x"] * 10_000}).status_code == 200
    response = client.post("/api/embed", json={"model": MINILM, "input": ["x"] * 10_001})
    error = "input has 10001 texts, at most 10000 are taken: send fewer at once"
    assert (response.status_code, response.get_json()) == (400, {"error": error})
    assert len(engine.requests) == 1


def test_a_missing_embedding_model_has_its_own_words(make_client: MakeClient) -> None:
    client, _ = make_client()
    response = client.post("/api/embed", json={"model": "no/such", "input": "x"})
    assert response.status_code == 404
    assert response.get_json() == {"error": 'model "no/such" not found, try pulling it first'}


def test_a_model_that_pools_nothing_is_refused_before_it_is_loaded(make_client: MakeClient) -> None:
    client, engine = make_client()
    response = client.post("/api/embed", json={"model": "demo", "input": "x"})
    sentence = '"demo" does not support embedding: its files have no pooling configuration (modules.json)'
    assert (response.status_code, response.get_json()) == (400, {"error": sentence})
    assert not engine.requests


def test_tags_are_sorted_and_complete(make_client: MakeClient) -> None:
    client, _ = make_client()
    models = client.get("/api/tags").get_json()["models"]
    assert {model["name"] for model in models} == {f"{DEMO}:latest", f"{MINILM}:latest"}
    assert [model["modified_at"] for model in models] == sorted((m["modified_at"] for m in models), reverse=True)
    for model in models:
        assert list(model) == ["name", "model", "modified_at", "size", "digest", "details", "capabilities"]
        assert len(model["digest"]) == 64
        assert model["size"] > 0
        details = model["details"]
        assert all(details[key] for key in ("format", "family", "families", "parameter_size", "quantization_level"))
    assert client.head("/api/tags").status_code == 200


def test_ps_has_ollamas_eight_keys_and_ours(make_client: MakeClient) -> None:
    client, _ = make_client(loaded=[LOADED])
    (model,) = client.get("/api/ps").get_json()["models"]
    assert list(model) == [
        "name", "model", "size", "digest", "details", "expires_at", "size_vram", "context_length", "ref_count",
    ]  # fmt: skip
    assert model["expires_at"].startswith("23")
    assert model["details"]["runner"] == "batched"
    assert model["details"]["runner_reason"] == LOADED.runner_reason


def test_ps_shows_how_a_model_is_quantised(make_client: MakeClient) -> None:
    loaded = replace(LOADED, quantization="int8", linear="int8 portable")
    client, _ = make_client(loaded=[loaded, replace(LOADED, linear="packed")])
    details = [model["details"] for model in client.get("/api/ps").get_json()["models"]]
    assert (details[0]["quantization_level"], details[0]["linear"]) == ("INT8", "int8 portable")
    assert "INT8" not in details[1].values()


def test_nothing_loaded_is_an_empty_list(make_client: MakeClient) -> None:
    client, _ = make_client()
    assert client.get("/api/ps").get_json() == {"models": []}


def test_pull_streams_its_error(make_client: MakeClient) -> None:
    client, _ = make_client(hub_endpoint="http://127.0.0.1:9")
    response = client.post("/api/pull", json={"name": "acme/x", "model": ""})
    assert response.status_code == 200
    found = [json.loads(line) for line in response.text.splitlines()]
    assert found[0] == {"status": "pulling manifest", "digest": ""}
    assert list(found[-1]) == ["error"]


def test_pull_without_streaming_has_a_status(make_client: MakeClient) -> None:
    client, _ = make_client(hub_endpoint="http://127.0.0.1:9")
    response = client.post("/api/pull", json={"model": "acme/x", "stream": False})
    assert response.status_code == 500
    assert list(response.get_json()) == ["error"]


@pytest.mark.parametrize(
    "body", [{}, {"model": "../x"}, {"model": "a/b", "trust_remote_code": True}, {"model": "a/b", "insecure": True}]
)
def test_bad_pulls_are_refused(make_client: MakeClient, body: dict[str, Any]) -> None:
    client, _ = make_client()
    response = client.post("/api/pull", json=body)
    assert response.status_code == 400
    assert list(response.get_json()) == ["error"]


def test_unknown_paths_and_methods_are_ollamas_plain_text(make_client: MakeClient) -> None:
    client, _ = make_client()
    missing = client.get("/api/nothing")
    assert (missing.status_code, missing.text, missing.mimetype) == (404, "404 page not found", "text/plain")
    wrong = client.get("/api/generate")
    assert (wrong.status_code, wrong.text, wrong.mimetype) == (405, "405 method not allowed", "text/plain")
    assert "POST" in wrong.headers["Allow"]


def test_a_trailing_slash_is_redirected(make_client: MakeClient) -> None:
    client, _ = make_client()
    assert (client.get("/api/tags/").status_code, client.get("/api/tags/").location) == (301, "/api/tags")
    assert (client.post("/api/chat/").status_code, client.post("/api/chat/").location) == (307, "/api/chat")
    assert (client.head("/api/tags/").status_code, client.head("/api/tags/").location) == (307, "/api/tags")
    asked = client.post("/v1/messages/?beta=true&x=%0d%0a")
    assert (asked.status_code, asked.location) == (307, "/v1/messages?beta=true&x=%0d%0a")


def test_a_body_over_the_limit_is_refused_chunked_or_not(make_client: MakeClient) -> None:
    client, _ = make_client(max_body_bytes=100)
    body = json.dumps({"model": DEMO, "prompt": "x" * 100}).encode()
    assert client.post("/api/generate", data=body).status_code == 413
    chunked = client.post(
        "/api/generate", input_stream=__import__("io").BytesIO(body), environ_overrides={"wsgi.input_terminated": True}
    )
    assert chunked.status_code == 413


def test_health_never_asks_the_engine(make_client: MakeClient) -> None:
    client, engine = make_client()
    engine.close()
    assert client.get("/health").get_json() == {"status": "ok", "device": "cpu"}
    response = client.get("/ready")
    assert (response.status_code, response.get_json()["status"]) == (503, "not ready")


def test_metrics_without_an_engine_say_so(make_client: MakeClient) -> None:
    client, engine = make_client()
    client.post("/api/generate", json={"model": DEMO, "prompt": "x"}).get_data()
    engine.close()
    text = client.get("/metrics").text
    assert "hugging_llama_engine_up 0.0" in text
    series = 'hugging_llama_generations_total{endpoint="/api/generate",outcome="stop"} 1.0'
    assert series in text


def test_the_blueprint_lives_under_a_prefix_and_touches_nothing_else(settings: Settings) -> None:
    app = Flask("theirs")

    @app.get("/")
    def theirs() -> str:
        return "theirs"

    app.register_blueprint(create_blueprint(settings, engine=ScriptedEngine()), url_prefix="/llm")
    client = app.test_client()
    assert client.get("/").text == "theirs"
    assert client.get("/llm/").text == "Ollama is running"
    assert client.get("/llm/health").get_json()["status"] == "ok"
    answer = client.post("/llm/api/generate", json={"model": DEMO, "prompt": "x", "stream": False}).get_json()
    assert answer["response"] == "Hello!"
    missing = client.post("/llm/api/embed", json={"model": "no/such", "input": "x"})
    assert missing.get_json() == {"error": 'model "no/such" not found, try pulling it first'}
    assert client.get("/nothing").mimetype == "text/html", "their error pages stay theirs"
    assert "hugging_llama_engine_up" in client.get("/llm/metrics").text


def test_two_applications_in_one_process_do_not_share_metrics(make_client: MakeClient) -> None:
    first, _ = make_client()
    second, _ = make_client()
    first.post("/api/generate", json={"model": DEMO, "prompt": "x"}).get_data()
    assert 'outcome="stop"' not in second.get("/metrics").text


def test_error_texts_hold_under_a_prefix_like_our_own_paths(settings: Settings) -> None:
    app = Flask("theirs")
    app.register_blueprint(create_blueprint(settings, engine=ScriptedEngine()), url_prefix="/api/llm")
    missing = app.test_client().post("/api/llm/api/embed", json={"model": "no/such", "input": "x"})
    assert missing.get_json() == {"error": 'model "no/such" not found, try pulling it first'}
    assert app.test_client().get("/api/llm/api/models").headers["Link"].startswith("</api/llm/api/tags>")


def test_a_host_applications_own_limits_are_answered_in_json(settings: Settings) -> None:
    app = Flask("theirs")
    app.config["MAX_CONTENT_LENGTH"] = 10
    app.register_blueprint(create_blueprint(settings, engine=ScriptedEngine()), url_prefix="/llm")
    response = app.test_client().post("/llm/api/generate", json={"model": DEMO, "prompt": "x" * 20})
    assert response.status_code == 413
    assert list(response.get_json()) == ["error"]


def test_a_date_beyond_the_calendar_is_for_ever(make_client: MakeClient) -> None:
    client, _ = make_client(loaded=[replace(LOADED, expires_at_s=1e18)])
    assert client.get("/api/ps").get_json()["models"][0]["expires_at"].startswith("23")


@pytest.mark.parametrize("body", [{"model": "no/such", "stream": False}, {"model": ""}, {}])
def test_pulls_fail_as_ollamas_do(make_client: MakeClient, body: dict[str, Any]) -> None:
    client, _ = make_client(hub_endpoint="http://127.0.0.1:9")
    response = client.post("/api/pull", json=body)
    if body.get("model"):
        assert (response.status_code, response.content_type) == (500, "application/json; charset=utf-8")
    else:
        assert (response.status_code, response.get_json()) == (400, {"error": "invalid model name"})


def test_embedding_with_no_model_is_a_model_not_found(make_client: MakeClient) -> None:
    client, _ = make_client()
    response = client.post("/api/embed", json={"input": "x"})
    assert (response.status_code, response.get_json()) == (404, {"error": "model '' not found"})


def test_a_scripted_engine_answers_everything_by_default(settings: Settings) -> None:
    client = create_app(settings, engine=ScriptedEngine()).test_client()
    assert client.post("/api/generate", json={"model": DEMO}).get_json()["done_reason"] == "load"
    assert client.post("/api/embed", json={"model": MINILM, "input": "x"}).get_json()["embeddings"]


def test_an_engine_that_says_nothing_is_an_error_not_a_hang_up(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[])
    response = client.post("/api/generate", json={"model": DEMO, "prompt": "x"})
    assert (response.status_code, list(response.get_json())) == (500, ["error"])


def test_errors_know_their_facts_over_the_socket() -> None:
    from hugging_llama.errors import error_from_facts

    error = error_from_facts("transfer", "cut", {"repo": "a/b"})
    assert isinstance(error, TransferError)
    assert (error.message, error.facts) == ("cut", {"repo": "a/b"})
    assert isinstance(error_from_facts("engine_died", "gone", {}), EngineDiedError)


def test_the_models_that_the_settings_name_are_preloaded(make_client: MakeClient) -> None:
    started = threading.Event()

    def load(request: LoadRequest) -> list[Loaded]:
        started.set()
        return [Loaded(model=LOADED)]

    _, engine = make_client(preload=("no/such", "demo"), load=load)
    assert started.wait(60)
    assert [request.model.name for request in engine.requests] == [f"{DEMO}:latest"]


def test_the_old_embeddings_are_one_vector_as_it_is(make_client: MakeClient) -> None:
    client, engine = make_client()
    body = {"model": "sentence-transformers/all-MiniLM-L6-v2", "prompt": "a text", "keep_alive": "1m"}
    response = client.post("/api/embeddings", json=body)
    assert response.get_json() == {"embedding": [pytest.approx(0.6), pytest.approx(0.8)]}
    (request,) = engine.requests
    assert isinstance(request, EmbedRequest)
    assert (request.inputs, request.normalize, request.keep_alive_s) == (("a text",), False, 60.0)


def test_the_old_embeddings_of_nothing_load_the_model(make_client: MakeClient) -> None:
    client, engine = make_client()
    response = client.post("/api/embeddings", json={"model": "sentence-transformers/all-MiniLM-L6-v2"})
    assert response.get_json() == {"embedding": []}
    assert isinstance(engine.requests[0], LoadRequest)


def test_the_old_embeddings_have_errors_of_their_own(make_client: MakeClient) -> None:
    client, _ = make_client()
    assert client.post("/api/embeddings", json={"prompt": "x"}).get_json() == {"error": "model is required"}
    missing = client.post("/api/embeddings", json={"model": "nobody/none", "prompt": "x"})
    assert missing.status_code == 404
    assert missing.get_json() == {"error": 'model "nobody/none" not found, try pulling it first'}
