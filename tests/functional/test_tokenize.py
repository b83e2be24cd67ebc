"""/api/tokenize and /api/detokenize: what is asked of the engine, and what is refused before that."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from hugging_llama.dialects.ollama import detokenize, tokenize
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.events import Tokenized
from hugging_llama.neutral.messages import Message
from hugging_llama.neutral.requests import ChatPrompt, DetokenizeRequest, TextPrompt, TokenizeRequest
from tests.functional.conftest import MakeClient
from tests.hub_cache import MINILM

DEMO = "hugging-llama/demo"
MESSAGES = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}

JINJA = "{{ tools }}{% for m in messages %}{{ m.content }}{% endfor %}"


def post(client: FlaskClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = client.post(path, json=body).json or {}
    return answer


def test_a_text(make_client: MakeClient) -> None:
    client, engine = make_client(tokenize=[Tokenized(token_ids=(5, 6, 7), load_ns=3)])
    answer = post(client, "/api/tokenize", {"model": DEMO, "content": "hé", "keep_alive": "10m"})
    assert list(answer) == ["model", "tokens", "count", "total_duration", "load_duration"]
    assert (answer["model"], answer["tokens"], answer["count"]) == (DEMO, [5, 6, 7], 3)
    assert answer["load_duration"] == 3
    (request,) = engine.requests
    assert isinstance(request, TokenizeRequest)
    assert (request.prompt, request.add_special_tokens, request.keep_alive_s) == (TextPrompt(text="hé"), True, 600)
    client.post("/api/tokenize", json={"model": DEMO, "prompt": "", "add_special_tokens": False})
    request = engine.requests[1]
    assert isinstance(request, TokenizeRequest)
    assert (request.prompt, request.add_special_tokens) == (TextPrompt(text=""), False)


def test_a_chat_with_what_the_model_adds_to_it(make_client: MakeClient) -> None:
    client, engine = make_client()
    client.post("/api/create", json={"model": "mine", "from": DEMO, "system": "Be brief.", "stream": False})
    body = {"model": "mine", "messages": MESSAGES, "tools": [TOOL], "think": False, "template": JINJA}
    answer = post(client, "/api/tokenize", body)
    assert bytes(answer["tokens"]) == b"Be brief.hi"
    (request,) = engine.requests
    assert isinstance(request, TokenizeRequest)
    assert isinstance(request.prompt, ChatPrompt)
    assert request.prompt.messages[0] == Message(role="system", content="Be brief.")
    assert (request.prompt.tools[0].name, request.prompt.think) == ("f", False)
    assert request.prompt.template == JINJA


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "exactly one of content, prompt and messages is needed"),
        ({"content": "a", "prompt": "a"}, "exactly one of content, prompt and messages is needed"),
        ({"content": "a", "messages": MESSAGES}, "exactly one of content, prompt and messages is needed"),
        ({"content": "a", "tools": [TOOL]}, "tools goes with messages"),
        ({"content": "a", "think": False}, "think goes with messages"),
        ({"content": "a", "template": "x"}, "template goes with messages"),
        ({"messages": MESSAGES, "add_special_tokens": False}, "add_special_tokens goes with content"),
        ({"messages": [{"role": "user", "images": ["aa"]}]}, "does not support vision"),
        ({"content": 5}, "cannot unmarshal number"),
        ({"content": "a", "keep_alive": []}, "Unsupported type"),
    ],
)
def test_what_makes_no_sense_is_refused(make_client: MakeClient, body: dict[str, Any], text: str) -> None:
    client, engine = make_client()
    response = client.post("/api/tokenize", json={"model": DEMO, **body})
    assert response.status_code == 400
    assert text in (response.json or {})["error"]
    assert engine.requests == []


def test_an_embedding_model_takes_a_text_and_no_chat(make_client: MakeClient) -> None:
    client, _ = make_client()
    assert post(client, "/api/tokenize", {"model": MINILM, "content": "a"})["tokens"] == [97]
    response = client.post("/api/tokenize", json={"model": MINILM, "messages": MESSAGES})
    assert (response.status_code, response.json) == (400, {"error": f'"{MINILM}" does not support completion'})


@pytest.mark.parametrize("path", ["/api/tokenize", "/api/detokenize"])
def test_a_model_must_be_there(make_client: MakeClient, path: str) -> None:
    client, _ = make_client()
    response = client.post(path, json={"model": "no/such", "content": "a", "tokens": []})
    assert (response.status_code, response.json) == (404, {"error": "model 'no/such' not found"})


def test_ids(make_client: MakeClient) -> None:
    client, engine = make_client()
    answer = post(client, "/api/detokenize", {"model": DEMO, "tokens": list("hé".encode()), "keep_alive": 5})
    assert list(answer) == ["model", "content", "total_duration", "load_duration"]
    assert answer["content"] == "hé"
    (request,) = engine.requests
    assert isinstance(request, DetokenizeRequest)
    assert (request.token_ids, request.keep_alive_s) == ((104, 195, 169), 5)


@pytest.mark.parametrize("tokens", [None, 5, "a", ["a"], [1, True], [1.5], [[1]]])
def test_what_is_no_list_of_ids_is_refused(make_client: MakeClient, tokens: Any) -> None:
    client, engine = make_client()
    response = client.post("/api/detokenize", json={"model": DEMO, "tokens": tokens})
    assert (response.status_code, response.json) == (400, {"error": "tokens must be a list of token ids"})
    assert engine.requests == []


def test_what_the_engine_refuses_is_a_400(make_client: MakeClient) -> None:
    client, _ = make_client(detokenize=[InvalidRequestError("no such id", param="tokens")])
    assert client.post("/api/detokenize", json={"model": DEMO, "tokens": [10**9]}).status_code == 400


def test_what_is_too_long_is_not_tokenized(make_client: MakeClient) -> None:
    client, engine = make_client()
    text = "a" * tokenize.MAX_BODY_BYTES
    assert client.post("/api/tokenize", json={"model": DEMO, "content": text}).status_code == 413
    ids = [1] * detokenize.MAX_BODY_BYTES
    assert client.post("/api/detokenize", json={"model": DEMO, "tokens": ids}).status_code == 413
    assert engine.requests == []


@pytest.mark.parametrize("stream", [False, True])
def test_a_rendered_prompt_in_place_of_an_answer(make_client: MakeClient, stream: bool) -> None:
    client, engine = make_client()
    body = {"model": DEMO, "stream": stream, "_debug_render_only": True, "keep_alive": 7}
    chat = post(client, "/api/chat", body | {"messages": MESSAGES})
    assert list(chat) == ["model", "created_at", "message", "done", "_debug_info"]
    assert chat["_debug_info"] == {"rendered_template": "hi"}
    generate = post(client, "/api/generate", body | {"prompt": "raw", "raw": True})
    assert (generate["response"], generate["_debug_info"]) == ("", {"rendered_template": "raw"})
    assert [type(request.prompt) for request in engine.requests if isinstance(request, TokenizeRequest)] == [
        ChatPrompt,
        TextPrompt,
    ]
    assert [request.keep_alive_s for request in engine.requests] == [7, 7]
    response = client.post("/api/generate", json=body | {"prompt": "a", "suffix": "b"})
    assert response.status_code == 400, "the demo model fills no gaps"
