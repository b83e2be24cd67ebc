"""Every example of the API document, by HTTP, against a real server."""

import json
from typing import Any

import pytest
import requests

from tests.hub_cache import MINILM
from tests.live_server import LiveServer
from tests.process.servers import wait_until

DEMO = "hugging-llama/demo"


def post(server: LiveServer, path: str, body: dict[str, Any]) -> requests.Response:
    # curl's content type: bodies are JSON whatever they say they are
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return requests.post(server.url + path, data=json.dumps(body), headers=headers, timeout=120)


def test_health(server: LiveServer) -> None:
    assert requests.get(f"{server.url}/health", timeout=60).json() == {"status": "ok", "device": "cpu"}


def test_root_and_version_answer_get_and_head(server: LiveServer) -> None:
    assert requests.get(server.url, timeout=60).text == "Ollama is running"
    assert requests.head(server.url, timeout=60).status_code == 200
    assert set(requests.get(f"{server.url}/api/version", timeout=60).json()) == {"version"}
    assert requests.head(f"{server.url}/api/version", timeout=60).content == b""


def test_generate(server: LiveServer) -> None:
    options = {"temperature": 0.7, "max_tokens": 64, "stop": ["\n"], "seed": 42}
    body = {"model": DEMO, "prompt": "Hello, world!", "stream": False, "options": options, "keep_alive": 600}
    response = post(server, "/api/generate", body)
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    answer = response.json()
    assert list(answer) == [
        "model", "created_at", "response", "thinking", "done", "done_reason", "context", "total_duration",
        "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration",
    ]  # fmt: skip
    assert answer["model"] == DEMO
    assert answer["response"]
    assert answer["done"] is True
    assert "\n" not in answer["response"]
    durations = [answer[key] for key in answer if key.endswith("_duration")]
    assert all(isinstance(ns, int) and ns > 0 for ns in durations)
    assert answer["total_duration"] >= answer["eval_duration"] + answer["prompt_eval_duration"]
    assert post(server, "/api/generate", body).json()["response"] == answer["response"], "the same seed, the same text"


def test_generate_streams(server: LiveServer) -> None:
    body = {"model": DEMO, "prompt": "Once upon a time", "options": {"temperature": 0, "num_predict": 12}}
    response = post(server, "/api/generate", body)
    assert response.headers["Content-Type"] == "application/x-ndjson"
    assert response.headers["X-Accel-Buffering"] == "no"
    lines = response.text.split("\n")
    assert lines.pop() == ""
    chunks = [json.loads(line) for line in lines]
    assert len(chunks) > 5
    assert [chunk["done"] for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1]["response"] == ""
    assert chunks[-1]["done_reason"] == "length"
    assert chunks[-1]["eval_count"] == 12
    whole = post(server, "/api/generate", body | {"stream": False}).json()
    assert "".join(chunk["response"] for chunk in chunks) == whole["response"]


def test_chat_with_json_format_gives_one_object(server: LiveServer) -> None:
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Summarize why caching is useful."},
    ]
    response = post(server, "/api/chat", {"model": DEMO, "messages": messages, "stream": True, "format": "json"})
    chunks = [json.loads(line) for line in response.text.splitlines()]
    assert all(chunk["message"]["role"] == "assistant" and "content" in chunk["message"] for chunk in chunks)
    assert chunks[-1]["done"] is True
    if chunks[-1]["done_reason"] == "stop":
        assert isinstance(json.loads("".join(chunk["message"]["content"] for chunk in chunks)), dict)


def test_embed(server: LiveServer) -> None:
    body = {"model": MINILM, "input": ["vectorize this", "and this"], "keep_alive": "10m"}
    answer = post(server, "/api/embed", body).json()
    assert list(answer) == ["model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"]
    assert [len(vector) for vector in answer["embeddings"]] == [384, 384]
    assert sum(x * x for x in answer["embeddings"][0]) == pytest.approx(1, abs=1e-5)


def test_tokenize_and_detokenize(server: LiveServer) -> None:
    text = "Grüße, Welt 🌍!"
    answer = post(server, "/api/tokenize", {"model": DEMO, "content": text}).json()
    assert list(answer) == ["model", "tokens", "count", "total_duration", "load_duration"]
    assert answer["count"] == len(answer["tokens"]) > 3
    assert answer["load_duration"] > 0
    back = post(server, "/api/detokenize", {"model": DEMO, "tokens": answer["tokens"]}).json()
    assert back["content"] == text
    raw = {"model": DEMO, "prompt": text, "raw": True, "stream": False, "options": {"num_predict": 1}}
    assert post(server, "/api/generate", raw).json()["prompt_eval_count"] == answer["count"]
    chat = {"model": DEMO, "messages": [{"role": "user", "content": text}]}
    count = post(server, "/api/tokenize", chat).json()["count"]
    spoken = post(server, "/api/chat", chat | {"stream": False, "options": {"num_predict": 1}}).json()
    assert count == spoken["prompt_eval_count"] > answer["count"]
    rendered = post(server, "/api/chat", chat | {"_debug_render_only": True}).json()["_debug_info"]
    assert text in rendered["rendered_template"]
    assert post(server, "/api/tokenize", {"model": MINILM, "content": "hello"}).json()["tokens"] == [101, 7592, 102]
    for ids in ([-1], [10**9], [2**70]):
        response = post(server, "/api/detokenize", {"model": DEMO, "tokens": ids})
        assert response.status_code == 400
        assert "tokens" in response.json()["error"] or "encoded" in response.json()["error"]


def test_pull_tells_that_there_is_no_hub(server: LiveServer) -> None:
    body = {"model": "hf-internal-testing/tiny-random-gpt2", "revision": None, "trust_remote_code": False}
    lines = [json.loads(line) for line in post(server, "/api/pull", body).text.splitlines()]
    assert lines[0] == {"status": "pulling manifest", "digest": ""}
    assert list(lines[-1]) == ["error"]
    assert "127.0.0.1" in lines[-1]["error"]


def test_tags_and_the_deprecated_alias(server: LiveServer) -> None:
    response = requests.get(f"{server.url}/api/tags", timeout=60)
    models = {model["name"]: model for model in response.json()["models"]}
    # other tests of this server may have made more
    assert set(models) >= {f"{DEMO}:latest", f"{MINILM}:latest"}
    demo = models[f"{DEMO}:latest"]
    assert demo["model"] == demo["name"]
    assert len(demo["digest"]) == 64
    assert demo["details"]["family"] == "llama"
    assert demo["details"]["parameter_size"] == "3.72M"
    assert set(demo["capabilities"]) == {"completion", "tools", "thinking"}
    assert models[f"{MINILM}:latest"]["capabilities"] == ["embedding"]
    alias = requests.get(f"{server.url}/api/models", timeout=60)
    assert alias.content == response.content
    assert "Deprecation" in alias.headers


def test_ps(server: LiveServer) -> None:
    post(server, "/api/generate", {"model": DEMO, "keep_alive": -1})
    models = requests.get(f"{server.url}/api/ps", timeout=60).json()["models"]
    demo = next(model for model in models if model["name"] == f"{DEMO}:latest")
    eight = ["name", "model", "size", "digest", "details", "expires_at", "size_vram", "context_length"]
    assert list(demo)[:8] == eight
    assert demo["ref_count"] == 0
    assert demo["size_vram"] == 0
    assert 2200 < int(demo["expires_at"][:4]) <= 9999


def test_metrics_cover_streams_and_engine(server: LiveServer) -> None:
    post(server, "/api/generate", {"model": DEMO, "prompt": "Hello", "options": {"num_predict": 3}})

    def text() -> str:
        return requests.get(f"{server.url}/metrics", timeout=60).text

    wait_until(lambda: "hugging_llama_engine_up 1.0" in text())  # an engine that is busy may not tell at once
    told = text()
    for name in (
        "flask_http_request_duration_seconds_bucket",
        "hugging_llama_time_to_first_token_seconds_bucket",
        "hugging_llama_inter_token_seconds_bucket",
        "hugging_llama_queue_seconds_bucket",
        "hugging_llama_generation_seconds_bucket",
    ):
        assert name in told
    for name in ("output_tokens_total", "kv_capacity_tokens"):
        assert server.told(name) > 0
    assert 'url_rule="/api/generate"' in told


def test_unknown_paths_make_no_series(server: LiveServer) -> None:
    for number in range(20):
        assert requests.get(f"{server.url}/odd/{number}", timeout=60).status_code == 404
    assert "/odd/" not in requests.get(f"{server.url}/metrics", timeout=60).text
