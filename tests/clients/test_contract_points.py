"""What clients of Ollama miss most easily, one test a point, against a real server with real models."""

import contextlib
import hashlib
import json
import re
import socket
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import ollama
import pytest
import requests

from tests.hub_cache import MINILM
from tests.live_server import LiveServer
from tests.process.servers import wait_until

DEMO = "hugging-llama/demo"
HI = [{"role": "user", "content": "Hi"}]
SHORT = {"num_predict": 4, "temperature": 0}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather for a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
OSLO = [{"role": "user", "content": "What is the weather in Oslo?"}]


class Caller:
    """Plain HTTP at one server."""

    def __init__(self, server: LiveServer) -> None:
        self.url = server.url
        self.session = requests.Session()

    def __call__(self, path: str, body: Any = None, method: str = "POST", **options: Any) -> requests.Response:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        return self.session.request(method, self.url + path, data=data, timeout=120, **options)

    def lines(self, path: str, body: Any) -> list[Any]:
        return [json.loads(line) for line in self(path, body).content.splitlines()]

    def events(self, path: str, body: Any) -> list[Any]:
        parts = [line[6:] for line in self(path, body).text.splitlines() if line.startswith("data: ")]
        return [part if part == "[DONE]" else json.loads(part) for part in parts]

    def error(self, path: str, body: Any, method: str = "POST") -> tuple[int, str]:
        response = self(path, body, method)
        return response.status_code, response.json()["error"]

    def loaded(self) -> list[str]:
        return [model["name"] for model in self("/api/ps", method="GET").json()["models"]]


@pytest.fixture
def call(server: LiveServer) -> Iterator[Caller]:
    caller = Caller(server)
    yield caller
    caller.session.close()


def test_01_streaming_is_the_default_of_the_native_api_and_of_no_other(call: Caller) -> None:
    for path, body in (
        ("/api/generate", {"model": DEMO, "prompt": "Hi", "options": SHORT}),
        ("/api/chat", {"model": DEMO, "messages": HI, "options": SHORT}),
        ("/api/pull", {"model": "nobody/none"}),
        ("/api/create", {"model": "point-1", "from": DEMO}),
    ):
        assert call(path, body).headers["Content-Type"].startswith("application/x-ndjson"), path
    for path, more in (
        ("/v1/chat/completions", {"messages": HI, "max_tokens": 4}),
        ("/v1/completions", {"prompt": "Hi", "max_tokens": 4}),
        ("/v1/responses", {"input": "Hi", "max_output_tokens": 4}),
        ("/v1/messages", {"messages": HI, "max_tokens": 4}),
    ):
        assert call(path, {"model": DEMO, **more}).headers["Content-Type"].startswith("application/json"), path


@pytest.mark.parametrize("zero", [0, 0.0, "0s", "0", "0m"])
def test_02_nothing_to_answer_loads_and_with_no_keep_alive_unloads(call: Caller, zero: Any) -> None:
    for path, empty in (
        ("/api/generate", {"response": ""}),
        ("/api/chat", {"message": {"role": "assistant", "content": ""}}),
    ):
        loaded = call(path, {"model": DEMO})
        assert loaded.headers["Content-Type"] == "application/json; charset=utf-8"
        answer = loaded.json()
        assert answer == {
            "model": DEMO,
            "created_at": answer["created_at"],
            **empty,
            "done": True,
            "done_reason": "load",
        }
        assert f"{DEMO}:latest" in call.loaded()
        for _ in range(2):  # once more than there is something to unload
            unloaded = call(path, {"model": DEMO, "keep_alive": zero}).json()
            assert (unloaded["done"], unloaded["done_reason"]) == (True, "unload")
        wait_until(lambda: f"{DEMO}:latest" not in call.loaded())


def test_03_thinking_is_on_where_a_model_can_and_an_error_where_it_cant(call: Caller) -> None:
    body = {"model": DEMO, "stream": False, "options": {"num_predict": 40, "temperature": 0}}
    assert call("/api/chat", {**body, "messages": HI}).json()["message"]["thinking"]
    assert call("/api/generate", {**body, "prompt": "Hi"}).json()["thinking"]
    assert (
        "reasoning"
        in call("/v1/chat/completions", {"model": DEMO, "messages": HI, "max_tokens": 40}).json()["choices"][0][
            "message"
        ]
    )
    call("/api/create", {"model": "point-3", "from": DEMO, "template": "{{ .Prompt }}"})
    refused = (400, '"point-3" does not support thinking')
    assert call.error("/api/chat", {"model": "point-3", "messages": HI, "think": True}) == refused
    assert call.error("/api/generate", {"model": "point-3", "prompt": "Hi", "think": "high"}) == refused
    assert call("/api/chat", {"model": "point-3", "messages": HI, "think": False, "options": SHORT}).ok
    enabled = {"messages": HI, "max_tokens": 4, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    assert call("/v1/messages", {"model": "point-3", **enabled}).ok


def test_04_durations_are_whole_nanoseconds(call: Caller) -> None:
    end = call.lines("/api/generate", {"model": DEMO, "prompt": "Hi", "options": SHORT})[-1]
    names = ["total_duration", "load_duration", "prompt_eval_duration", "eval_duration"]
    assert [type(end[name]) for name in (*names, "prompt_eval_count", "eval_count")] == [int] * 6
    assert end["total_duration"] > 1_000_000


def test_05_an_early_error_has_its_status_and_a_late_one_is_the_last_line(call: Caller) -> None:
    early = call("/api/chat", {"model": "nobody/none", "messages": HI, "stream": True})
    assert (early.status_code, early.headers["Content-Type"].split(";")[0]) == (404, "application/json")
    late = call.lines("/api/pull", {"model": "nobody/none"})
    assert late[0] == {"status": "pulling manifest", "digest": ""}
    assert list(late[-1]) == ["error"]
    assert not any("done" in line for line in late)


def test_06_the_last_object_is_done_or_a_success_and_no_good_one_has_an_error(call: Caller) -> None:
    chat = call.lines("/api/chat", {"model": DEMO, "messages": HI, "options": SHORT})
    made = call.lines("/api/create", {"model": "point-6", "from": DEMO})
    assert (chat[-1]["done"], made[-1]) == (True, {"status": "success"})
    assert all(line["done"] is False for line in chat[:-1])
    assert not any("error" in line for line in (*chat, *made))


def test_07_there_are_no_blank_lines(call: Caller) -> None:
    raw = call("/api/generate", {"model": DEMO, "prompt": "Hi", "options": SHORT}).content
    assert raw.endswith(b"}\n")
    assert all(raw.split(b"\n")[:-1])


def test_08_digests_are_bare_in_lists_and_have_a_prefix_in_transfers(call: Caller) -> None:
    call("/api/generate", {"model": DEMO})
    for path in ("/api/tags", "/api/ps"):
        for model in call(path, method="GET").json()["models"]:
            assert re.fullmatch("[0-9a-f]{64}", model["digest"]), path
    digest = hashlib.sha256(b"x").hexdigest()
    assert call(f"/api/blobs/sha256:{digest}", b"x").status_code in (200, 201)
    assert call.error(f"/api/blobs/{digest}", b"x") == (400, "invalid digest format")


def test_09_name_is_another_word_for_model(call: Caller) -> None:
    call("/api/create", {"model": "", "name": "point-9", "from": DEMO, "stream": False})
    assert call("/api/show", {"model": "", "name": "point-9"}).ok
    assert call("/api/pull", {"model": "", "name": "nobody/none", "stream": False}).status_code == 500
    assert call.error("/api/push", {"model": "", "name": "nobody/none", "stream": False})[0] == 404
    assert call("/api/delete", {"model": "", "name": "point-9"}, "DELETE").status_code == 200


def test_10_a_missing_model_has_many_wordings(call: Caller) -> None:
    for path, body, method, status, text in (
        ("/api/generate", {"model": "foo"}, "POST", 404, "model 'foo' not found"),
        ("/api/chat", {"model": "foo"}, "POST", 404, "model 'foo' not found"),
        ("/api/delete", {"model": "foo"}, "DELETE", 404, "model 'foo' not found"),
        ("/api/show", {"model": "foo"}, "POST", 404, "model 'foo:latest' not found"),
        ("/api/copy", {"source": "foo", "destination": "bar"}, "POST", 404, 'model "foo" not found'),
        ("/api/embed", {"model": "foo"}, "POST", 404, 'model "foo" not found, try pulling it first'),
        ("/api/embeddings", {"model": "foo"}, "POST", 404, 'model "foo" not found, try pulling it first'),
        ("/api/generate", {}, "POST", 404, "model '' not found"),
        ("/api/embed", {}, "POST", 404, "model '' not found"),
        ("/api/chat", {}, "POST", 400, "model is required"),
        ("/api/show", {}, "POST", 400, "model is required"),
        ("/api/embeddings", {}, "POST", 400, "model is required"),
        ("/api/push", {}, "POST", 400, "model is required"),
        ("/api/delete", {}, "DELETE", 400, "model is required"),
        ("/api/pull", {}, "POST", 400, "invalid model name"),
        ("/api/create", {}, "POST", 400, "invalid model name"),
        ("/api/copy", {}, "POST", 400, 'source "" is invalid'),
    ):
        assert call.error(path, body, method) == (status, text), path
    missing = call("/v1/models/foo", method="GET")
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "application/json", None])
def test_11_bodies_are_json_whatever_they_are_called_and_keys_of_any_case(call: Caller, kind: str | None) -> None:
    body = {"MODEL": DEMO, "Prompt": "Hi", "STREAM": False, "options": None, "system": None, "unheard_of": [1]}
    response = call("/api/generate", body | {"options": SHORT}, headers={"Content-Type": kind})
    assert response.json()["done_reason"] in ("stop", "length")
    assert call("/api/generate", {"model": DEMO, "options": None, "keep_alive": None}).json()["done_reason"] == "load"
    assert call.error("/api/chat", b"null") == (400, "model is required")
    trailing = json.dumps({"model": DEMO, "stream": False}).encode() + b' {"model": "foo"} rubbish'
    assert call("/api/generate", trailing).json()["done_reason"] == "load"


def test_12_every_chunk_of_a_chat_has_content_and_what_comes_in_may_lack_it(call: Caller) -> None:
    history = [*OSLO, {"role": "assistant", "tool_calls": [{"function": {"name": "get_weather", "arguments": {}}}]}]
    lines = call.lines(
        "/api/chat", {"model": DEMO, "messages": [*history, {"role": "tool", "content": "5"}], "options": SHORT}
    )
    assert all(line["message"]["role"] == "assistant" and isinstance(line["message"]["content"], str) for line in lines)


def test_13_arguments_are_an_object_here_and_a_text_there(call: Caller) -> None:
    body = {"model": DEMO, "messages": OSLO, "tools": [WEATHER], "tool_choice": "required"}
    lines = call.lines("/api/chat", {**body, "options": {"temperature": 0}})
    (made,) = [made for line in lines for made in line["message"].get("tool_calls", ())]
    assert made["function"]["arguments"] == {"city": "Oslo"}
    assert made["function"]["index"] == 0
    assert re.fullmatch("call_[a-z0-9]{8}", made["id"])
    assert lines[-1]["done_reason"] == "stop"
    choice = call("/v1/chat/completions", {**body, "temperature": 0}).json()["choices"][0]
    assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {"city": "Oslo"}
    assert choice["finish_reason"] == "tool_calls"


def test_14_results_find_their_calls_without_ids(server: LiveServer) -> None:
    options = {"temperature": 0}
    with ollama.Client(host=server.url) as client:
        first = client.chat(DEMO, OSLO, tools=[WEATHER], options=options, think=False)
        assert first.message.tool_calls
        result = {"role": "tool", "tool_name": "get_weather", "content": "5 degrees and rain"}
        last = client.chat(DEMO, [*OSLO, first.message, result], tools=[WEATHER], options=options, think=False)
    assert last.message.content


def test_15_stop_is_a_list_here_and_may_be_a_text_there(call: Caller) -> None:
    body = {"model": DEMO, "prompt": "Hi", "stream": False}
    text = 'option "stop" must be of type array'
    assert call.error("/api/generate", {**body, "options": {"stop": "x"}})[1] == text
    assert call("/v1/completions", {"model": DEMO, "prompt": "Hi", "stop": "x", "max_tokens": 4}).ok
    unknown = call("/api/generate", {**body, "options": {**SHORT, "mirostat": 1}})
    assert (unknown.status_code, unknown.headers["X-Ignored-Fields"]) == (200, "options.mirostat")
    wrong = call.error("/api/generate", {**body, "options": {"temperature": "hot"}})
    assert wrong[1] == 'option "temperature" must be of type float32'


def test_16_nothing_is_held_against_repetition_and_openais_temperature_is_one(call: Caller) -> None:
    body = {"model": DEMO, "prompt": "one one one one", "raw": True, "stream": False}
    seeded = {"seed": 7, "num_predict": 12}
    plain = call("/api/generate", {**body, "options": {**seeded, "repeat_penalty": 1.0}}).json()["response"]
    assert call("/api/generate", {**body, "options": seeded}).json()["response"] == plain
    prompt = {"model": DEMO, "prompt": "Once upon a time", "max_tokens": 24, "seed": 7}
    default, *given = (
        call("/v1/completions", {**prompt, **options}).json()["choices"][0]["text"]
        for options in ({}, {"temperature": 1.0, "top_p": 1.0}, {"temperature": 0})
    )
    assert default == given[0]


def test_17_keep_alive_stays_with_the_model_and_for_ever_ends_before_the_year_10000(call: Caller) -> None:
    def expires_at(**body: Any) -> datetime:
        call("/api/generate", {"model": DEMO, **body})
        (model,) = [m for m in call("/api/ps", method="GET").json()["models"] if m["name"] == f"{DEMO}:latest"]
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", model["expires_at"]))

    assert 2300 < expires_at(keep_alive=-1).year <= 9999
    assert 2300 < expires_at().year <= 9999
    assert expires_at(keep_alive="10m").year < 2300
    assert expires_at().year < 2300


def test_18_show_has_the_length_of_the_context_under_its_architecture(call: Caller) -> None:
    for model, capability in ((DEMO, "completion"), (MINILM, "embedding")):
        shown = call("/api/show", {"model": model}).json()
        architecture = shown["model_info"]["general.architecture"]
        assert shown["model_info"][f"{architecture}.context_length"] > 0
        assert capability in shown["capabilities"]


def test_19_embeddings_are_of_unit_length_and_cut_and_the_old_ones_bare(call: Caller) -> None:
    nothing: list[dict[str, Any]] = [{}, {"input": ""}, {"input": []}, {"input": None}]
    for empty in nothing:
        assert call("/api/embed", {"model": MINILM, **empty}).json() == {"model": MINILM, "embeddings": []}
    answer = call("/api/embed", {"model": MINILM, "input": ["word " * 3000, ""]}).json()
    assert [sum(x * x for x in vector) for vector in answer["embeddings"]] == pytest.approx([1, 1], abs=1e-5)
    assert answer["prompt_eval_count"] > 100
    too_long = {"model": MINILM, "input": "word " * 3000, "truncate": False}
    assert call.error("/api/embed", too_long) == (400, "the input length exceeds the context length")
    assert list(call("/api/embeddings", {"model": MINILM, "prompt": "hello"}).json()) == ["embedding"]
    assert call("/api/embeddings", {"model": MINILM}).json() == {"embedding": []}


def test_20_lists_are_never_null(call: Caller) -> None:
    call("/api/generate", {"model": DEMO, "keep_alive": 0})
    assert isinstance(call("/api/ps", method="GET").json()["models"], list)
    assert isinstance(call("/api/tags", method="GET").json()["models"], list)
    assert isinstance(call("/v1/models", method="GET").json()["data"], list)


def test_21_openais_stream_has_one_role_one_finish_and_its_usage_apart(call: Caller) -> None:
    body = {"model": DEMO, "messages": HI, "max_tokens": 40, "stream": True, "stream_options": {"include_usage": True}}
    *chunks, done = call.events("/v1/chat/completions", body)
    assert done == "[DONE]"
    assert ["role" in chunk["choices"][0]["delta"] for chunk in chunks[:-1]] == [True] + [False] * (len(chunks) - 2)
    assert chunks[-2]["choices"][0] == {
        "index": 0,
        "delta": {},
        "finish_reason": chunks[-2]["choices"][0]["finish_reason"],
    }
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["completion_tokens"] > 0) == ([], True)
    assert any("reasoning" in chunk["choices"][0]["delta"] for chunk in chunks[:-1])
    assert not any("usage" in chunk for chunk in chunks[:-1])


def test_22_anthropics_messages_need_max_tokens_and_stream_calls_in_two_parts(call: Caller) -> None:
    refused = call("/v1/messages", {"model": DEMO, "messages": HI})
    assert refused.json()["error"]["message"] == "max_tokens is required and must be positive"
    tool = {"name": "get_weather", "input_schema": WEATHER["function"]["parameters"]}  # type: ignore[index]
    body = {
        "model": DEMO,
        "messages": OSLO,
        "max_tokens": 300,
        "stream": True,
        "tools": [tool],
        "tool_choice": {"type": "any"},
    }
    events = call.events("/v1/messages", body | {"temperature": 0})
    (start,) = [e for e in events if e["type"] == "content_block_start" and e["content_block"]["type"] == "tool_use"]
    assert start["content_block"]["input"] == {}
    (part,) = [e["delta"] for e in events if e["type"] == "content_block_delta" and "partial_json" in e["delta"]]
    assert json.loads(part["partial_json"]) == {"city": "Oslo"}
    usage = events[-2]["usage"]
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] > 0
    assert usage["output_tokens"] > 0


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/api/generate", {"prompt": "Count."}),
        ("/api/chat", {"messages": HI}),
        ("/v1/chat/completions", {"messages": HI, "stream": True, "n": 2}),
        ("/v1/completions", {"prompt": ["Count", "Sing"], "stream": True, "max_tokens": -1}),
        ("/v1/responses", {"input": "Count.", "stream": True}),
        ("/v1/messages", {"messages": HI, "stream": True, "max_tokens": 100000}),
    ],
)
def test_23_a_caller_that_leaves_frees_its_place(
    call: Caller, server: LiveServer, path: str, asked: dict[str, Any]
) -> None:
    endless = {"min_new_tokens": 100000, "num_predict": -1}
    assert call("/api/create", {"model": "point-23", "from": DEMO, "parameters": endless, "stream": False}).ok
    wait_until(lambda: server.figure("running") == 0)
    body = json.dumps({"model": "point-23", **asked}).encode()
    host, _, port = server.url.removeprefix("http://").partition(":")
    with contextlib.closing(socket.create_connection((host, int(port)))) as client:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        wait_until(lambda: server.figure("running") > 0)
    wait_until(lambda: server.figure("running") == 0)


def test_24_foreign_pages_are_refused_and_private_names_are_not(call: Caller) -> None:
    def status(**headers: str) -> int:
        return call("/api/tags", method="GET", headers=headers).status_code

    for origin in ("https://evil.com", "chrome-extension://abc"):
        refused = call("/api/tags", method="GET", headers={"Origin": origin})
        assert (refused.status_code, refused.content) == (403, b"")
    assert status(Origin="http://localhost:3000") == status(Origin="app://x") == 200
    assert status(Host="evil.com") == 403
    assert [status(Host=host) for host in ("10.0.0.5", "[fd00::1]:80", "192.168.1.9:11434", "x.local")] == [200] * 4


def test_25_statuses_without_a_body_and_pages_of_plain_text(call: Caller) -> None:
    content = b"something new for point 25"
    path = f"/api/blobs/sha256:{hashlib.sha256(content).hexdigest()}"
    assert call(path, method="HEAD").status_code == 404
    assert [(r.status_code, r.content) for r in (call(path, content), call(path, content))] == [(201, b""), (200, b"")]
    assert call(path, method="HEAD").status_code == 200
    copied = call("/api/copy", {"source": DEMO, "destination": "point-25"})
    deleted = call("/api/delete", {"model": "point-25"}, "DELETE")
    assert [(r.status_code, r.content) for r in (copied, deleted)] == [(200, b""), (200, b"")]
    missing, method = call("/api/nowhere", method="GET"), call("/api/chat", method="GET")
    assert (missing.status_code, missing.text) == (404, "404 page not found")
    assert (method.status_code, method.text) == (405, "405 method not allowed")
    assert {r.headers["Content-Type"].split(";")[0] for r in (missing, method)} == {"text/plain"}
    moved = call("/api/tags/", method="GET", allow_redirects=False)
    assert (moved.status_code, moved.headers["Location"]) == (301, "/api/tags")


def test_an_answer_that_has_begun_goes_on(call: Caller) -> None:
    """Not among the points, yet what Ollama's and Anthropic's users call prefilling."""
    begun = [
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "The capital of France is"},
    ]
    body = {"model": DEMO, "messages": begun, "think": False, "stream": False, "options": {"temperature": 0}}
    assert call("/api/chat", body).json()["message"]["content"] == " Paris."
    message = call("/v1/messages", {"model": DEMO, "messages": begun, "max_tokens": 20, "temperature": 0}).json()
    assert message["content"][0]["text"] == " Paris."
    whole = {"model": DEMO, "messages": begun, "temperature": 0, "max_tokens": 20}
    asked = [whole, whole | {"continue_final_message": True}]
    anew, gone_on = (call("/v1/chat/completions", one).json()["choices"][0]["message"]["content"] for one in asked)
    assert gone_on == " Paris."
    assert anew != gone_on
