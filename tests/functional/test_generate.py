"""/api/generate and /api/chat on the wire."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from hugging_llama.dialects.ollama.go_template import to_jinja
from hugging_llama.errors import (
    ContextLengthError,
    EngineBusyError,
    EngineDiedError,
    GenerationError,
    HuggingLlamaError,
    InsufficientMemoryError,
    TextTooLongError,
)
from hugging_llama.neutral.events import Finished, FinishReason, TextDelta, ThinkingDelta, ToolCallDelta, Usage
from hugging_llama.neutral.formats import JsonObject
from hugging_llama.neutral.messages import Tool, ToolCall
from hugging_llama.neutral.requests import (
    ChatPrompt,
    GenerateRequest,
    InsertPrompt,
    LoadRequest,
    TextPrompt,
)
from tests.functional.conftest import MakeClient
from tests.hub_cache import MINILM

DEMO = "hugging-llama/demo"
USAGE = Usage(num_prompt_tokens=5, num_output_tokens=2, load_ns=1, prompt_ns=20, decode_ns=30, queue_ns=4)
DONE = Finished(reason=FinishReason.STOP, usage=USAGE, context=(1, 2))
MESSAGES = [{"role": "user", "content": "Hi"}]


def post(client: FlaskClient, path: str, body: Any) -> TestResponse:
    data = body if isinstance(body, bytes) else json.dumps(body)
    return client.post(path, data=data, content_type="application/x-www-form-urlencoded")


def lines(response: TestResponse) -> list[dict[str, Any]]:
    text = response.get_data(as_text=True)
    assert text.endswith("\n")
    assert "\n\n" not in text
    return [json.loads(line) for line in text.splitlines()]


def without_times(value: dict[str, Any]) -> dict[str, Any]:
    assert value["created_at"].endswith("Z")
    return {key: item for key, item in value.items() if key not in ("created_at", "total_duration")}


def test_generate_streams_one_object_a_line(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[TextDelta("Hel"), TextDelta("lo"), DONE])
    response = post(client, "/api/generate", {"model": "Hugging-Llama/Demo", "prompt": "x"})
    assert response.status_code == 200
    assert response.content_type == "application/x-ndjson"
    assert response.headers["X-Accel-Buffering"] == "no"
    assert [without_times(line) for line in lines(response)] == [
        {"model": "Hugging-Llama/Demo", "response": "Hel", "done": False},
        {"model": "Hugging-Llama/Demo", "response": "lo", "done": False},
        {
            "model": "Hugging-Llama/Demo", "response": "", "done": True, "done_reason": "stop", "context": [1, 2],
            "load_duration": 1, "prompt_eval_count": 5, "prompt_eval_duration": 20, "eval_count": 2,
            "eval_duration": 30,
        },
    ]  # fmt: skip


def test_generate_in_one_object_folds_the_same_events(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[ThinkingDelta("hm"), TextDelta("Hel"), TextDelta("lo"), DONE])
    response = post(client, "/api/generate", {"model": DEMO, "prompt": "x", "stream": False})
    assert response.content_type == "application/json; charset=utf-8"
    answer = response.get_json()
    assert list(answer)[:6] == ["model", "created_at", "response", "thinking", "done", "done_reason"]
    assert (answer["response"], answer["thinking"]) == ("Hello", "hm")
    assert isinstance(answer["total_duration"], int)


def test_a_figure_that_is_zero_is_left_out(make_client: MakeClient) -> None:
    one_token = replace(DONE, usage=replace(DONE.usage, num_output_tokens=1, decode_ns=0))
    client, _ = make_client(generate=[TextDelta("a"), one_token])
    for stream in (True, False):
        response = post(client, "/api/generate", {"model": DEMO, "prompt": "x", "stream": stream})
        end = json.loads(response.get_data(as_text=True).splitlines()[-1])
        assert "eval_duration" not in end
        assert (end["eval_count"], end["prompt_eval_duration"]) == (1, 20)


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ({"think": "much"}, 'invalid think value: "much" (must be "high", "medium", "low", "max", true, or false)'),
        ({"keep_alive": True}, "Unsupported type: 'bool'"),
        ({"keep_alive": "5"}, 'time: missing unit in duration "5"'),
    ],
)
@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
def test_what_the_body_itself_has_wrong_comes_before_the_model(
    make_client: MakeClient, path: str, field: dict[str, Any], text: str
) -> None:
    client, _ = make_client()
    for model in ("nobody/none", ""):
        response = post(client, path, {"model": model, **field})
        assert (response.status_code, response.get_json()) == (400, {"error": text})


def test_chat_keeps_role_and_content_in_every_object(make_client: MakeClient) -> None:
    call = ToolCall(id="call_1", name="f", arguments={"z": 1, "a": {"b": 2}})
    client, _ = make_client(generate=[ThinkingDelta("hm"), TextDelta("Hi"), ToolCallDelta(call), DONE])
    found = lines(post(client, "/api/chat", {"model": DEMO, "messages": MESSAGES}))
    assert [line["message"] for line in found] == [
        {"role": "assistant", "content": "", "thinking": "hm"},
        {"role": "assistant", "content": "Hi"},
        {
            "role": "assistant", "content": "",
            "tool_calls": [
                {"id": "call_1", "function": {"index": 0, "name": "f", "arguments": {"z": 1, "a": {"b": 2}}}}
            ],
        },
        {"role": "assistant", "content": ""},
    ]  # fmt: skip
    assert list(found[2]["message"]["tool_calls"][0]["function"]["arguments"]) == ["z", "a"]


def test_durations_may_be_seconds(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[DONE], duration_unit="seconds")
    answer = post(client, "/api/generate", {"model": DEMO, "prompt": "x", "stream": False}).get_json()
    assert answer["eval_duration"] == 30 / 1e9
    assert isinstance(answer["total_duration"], float)


def test_what_the_caller_said_reaches_the_engine(make_client: MakeClient) -> None:
    client, engine = make_client()
    body = {
        "MODEL": "demo", "prompt": "p", "system": "s", "format": "json", "keep_alive": "1m", "think": True,
        "context": [7],
        "options": {"num_predict": 9, "num_ctx": 99, "stop": ["x"], "temperature": 0}, "suffix": "", "images": None,
        "unknown": 1,
    }  # fmt: skip
    post(client, "/api/generate", body)
    request = engine.requests[0]
    assert isinstance(request, GenerateRequest)
    assert request.model.name == f"{DEMO}:latest"
    assert isinstance(request.prompt, ChatPrompt)
    assert [(m.role, m.content) for m in request.prompt.messages] == [("system", "s"), ("user", "p")]
    assert request.prompt.think is True
    assert request.prompt.context == (7,)
    assert request.format == JsonObject()
    assert (request.keep_alive_s, request.context_length) == (60, 99)
    assert (request.sampling.max_tokens, request.sampling.stop, request.sampling.temperature) == (9, ("x",), 0)
    assert request.sampling.top_p == 0.9
    assert request.return_context


def test_the_models_own_defaults_lie_between_ours_and_the_request(make_client: MakeClient) -> None:
    client, engine = make_client()
    post(client, "/api/generate", {"model": DEMO, "prompt": "p"})
    request = engine.requests[0]
    assert isinstance(request, GenerateRequest)
    assert request.sampling.temperature == 0.3, "from generation_config.json"
    assert request.sampling.top_k == 40, "Ollama's"


def test_a_raw_prompt_is_not_rendered(make_client: MakeClient) -> None:
    client, engine = make_client()
    post(client, "/api/generate", {"model": DEMO, "prompt": "p", "raw": True})
    request = engine.requests[0]
    assert isinstance(request, GenerateRequest)
    assert request.prompt == TextPrompt(text="p")
    assert not request.return_context


def test_tools_and_history_reach_the_engine(make_client: MakeClient) -> None:
    client, engine = make_client()
    schema = {
        "type": "object",
        "properties": {"z": {"type": ["string", "null"]}, "a": {"enum": ["x"]}},
        "required": ["z"],
    }
    tool = {"type": "function", "function": {"name": "f", "description": "d", "parameters": schema}}
    history = [
        {"role": "User", "content": "q"},
        {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"z": "1"}}}]},
        {"role": "tool", "tool_name": "f", "content": "r"},
    ]
    post(client, "/api/chat", {"model": DEMO, "messages": history, "tools": [tool]})
    request = engine.requests[0]
    assert isinstance(request, GenerateRequest)
    prompt = request.prompt
    assert isinstance(prompt, ChatPrompt)
    assert prompt.tools == (Tool(name="f", description="d", parameters=schema),)
    assert [m.role for m in prompt.messages] == ["user", "assistant", "tool"]
    assert prompt.messages[1].tool_calls[0].arguments == {"z": "1"}
    assert prompt.messages[2].tool_name == "f"


def test_templates_and_gaps_reach_the_engine(make_client: MakeClient) -> None:
    client, engine = make_client()
    post(client, "/api/generate", {"model": DEMO, "prompt": "x", "system": "s", "template": "{{ messages }}"})
    template = "{{ .Prompt }}|{{ .Suffix }}"
    body = {"model": DEMO, "prompt": "a", "suffix": "b", "system": "s", "template": template}
    assert post(client, "/api/generate", body).headers["X-Ignored-Fields"] == "system"
    chat, gap = (request.prompt for request in engine.requests if isinstance(request, GenerateRequest))
    assert isinstance(chat, ChatPrompt)
    assert (chat.template, [message.content for message in chat.messages]) == ("{{ messages }}", ["s", "x"])
    assert gap == InsertPrompt(prefix="a", suffix="b", template=to_jinja(template))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/generate", {"model": DEMO}),
        ("/api/generate", {"model": DEMO, "prompt": "", "stream": True, "options": None}),
        ("/api/chat", {"model": DEMO}),
        ("/api/chat", {"model": DEMO, "messages": []}),
    ],
)
def test_no_prompt_is_a_load_request(make_client: MakeClient, path: str, body: dict[str, Any]) -> None:
    client, engine = make_client()
    response = post(client, path, body)
    assert response.content_type == "application/json; charset=utf-8"
    answer = response.get_json()
    assert answer.pop("created_at")
    said = {"response": ""} if path == "/api/generate" else {"message": {"role": "assistant", "content": ""}}
    assert answer == {"model": DEMO, **said, "done": True, "done_reason": "load"}
    assert isinstance(engine.requests[0], LoadRequest)


@pytest.mark.parametrize("zero", [0, 0.0, "0", "0s", "0m"])
def test_no_prompt_and_no_keep_alive_is_an_unload_request(make_client: MakeClient, zero: Any) -> None:
    client, engine = make_client()
    answer = post(client, "/api/generate", {"model": DEMO, "keep_alive": zero}).get_json()
    assert (answer["done"], answer["done_reason"]) == (True, "unload")
    assert len(engine.unloaded) == 1
    assert engine.requests == []


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/api/generate", b"", 400, "missing request body"),
        ("/api/generate", b"{", 400, "unexpected EOF"),
        ("/api/generate", {}, 404, "model '' not found"),
        ("/api/chat", {}, 400, "model is required"),
        ("/api/generate", {"model": "no/such"}, 404, "model 'no/such' not found"),
        ("/api/chat", {"model": "No/Such:x", "messages": MESSAGES}, 404, "model 'No/Such:x' not found"),
        ("/api/generate", {"model": "../etc"}, 400, "invalid model name"),
        ("/api/chat", {"model": MINILM, "messages": MESSAGES}, 400, f'"{MINILM}" does not support chat'),
        ("/api/generate", {"model": MINILM, "prompt": "x"}, 400, f'"{MINILM}" does not support generate'),
        ("/api/generate", {"model": DEMO, "prompt": "x", "raw": True, "system": "s"}, 400,
         "raw mode does not support template, system, or context"),
        ("/api/generate", {"model": DEMO, "prompt": "x", "suffix": "y"}, 400, f"{DEMO}:latest does not support insert"),
        ("/api/generate", {"model": DEMO, "prompt": "", "suffix": "y"}, 400, f"{DEMO}:latest does not support insert"),
        ("/api/generate", {"model": DEMO, "prompt": "x", "suffix": "y", "raw": True}, 400,
         "raw mode does not support suffix"),
        ("/api/generate", {"model": DEMO, "prompt": "x", "suffix": "y", "context": [1]}, 400,
         "a suffix and a context can't be combined"),
        ("/api/generate", {"model": DEMO, "prompt": "x", "template": "{{ .Prompt"}, 400,
         "template error: line 1: an action is not closed"),
        ("/api/generate", {"model": DEMO, "prompt": "x", "template": "{{ .Prompt }}", "raw": True}, 400,
         "raw mode does not support template, system, or context"),
        ("/api/generate", {"model": DEMO, "prompt": "x", "template": "{{ .Prompt }}", "think": True}, 400,
         f'"{DEMO}" does not support thinking'),
        ("/api/generate", {"model": DEMO, "prompt": "x", "images": ["aa"]}, 400, f'"{DEMO}" does not support vision'),
        ("/api/chat", {"model": DEMO, "messages": MESSAGES, "think": "hard"}, 400,
         'invalid think value: "hard" (must be "high", "medium", "low", "max", true, or false)'),
        ("/api/chat", {"model": DEMO, "messages": MESSAGES, "think": 1}, 400,
         'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'),
        ("/api/chat", {"model": DEMO, "messages": MESSAGES, "keep_alive": True}, 400, "Unsupported type: 'bool'"),
        ("/api/chat", {"model": DEMO, "messages": MESSAGES, "keep_alive": "5"}, 400,
         'time: missing unit in duration "5"'),
        ("/api/chat", {"model": DEMO, "messages": MESSAGES, "top_logprobs": 21}, 400,
         "top_logprobs must be between 0 and 20"),
        ("/api/chat", {"model": DEMO, "messages": MESSAGES, "format": "xml"}, 400,
         'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object'),
        ("/api/chat", {"model": DEMO, "messages": MESSAGES, "options": {"temperature": "x"}}, 400,
         'option "temperature" must be of type float32'),
        ("/api/chat", {"model": DEMO, "messages": "x"}, 400,
         "json: cannot unmarshal string into Go struct field ChatRequest.messages of type []struct"),
        ("/api/chat", {"model": DEMO, "messages": [None]}, 400,
         "json: cannot unmarshal null into Go value of type api.Message"),
        ("/api/chat", {"model": DEMO, "messages": [5] * 9999}, 400,
         "json: cannot unmarshal number into Go value of type api.Message"),
        ("/api/chat", {"model": DEMO, "messages": [{}] * 10001}, 400,
         "messages has 10001 items, at most 10000 are taken"),
        ("/api/chat", {"model": DEMO, "messages": MESSAGES, "tools": [{}]}, 400, "a tool has no function"),
        ("/api/generate", {"model": DEMO, "prompt": "x", "context": [1, "a"]}, 400,
         "json: cannot unmarshal string into Go struct field GenerateRequest.context of type int"),
        ("/api/generate", {"model": DEMO, "prompt": "x", "raw": True, "think": "hard"}, 400,
         'invalid think value: "hard" (must be "high", "medium", "low", "max", true, or false)'),
        ("/api/chat", {"model": DEMO, "messages": [{"role": "user", "content": []}]}, 400,
         "json: cannot unmarshal array into Go struct field Message.content of type string"),
        ("/api/chat", {"model": 5}, 400,
         "json: cannot unmarshal number into Go struct field ChatRequest.model of type string"),
        ("/api/chat", {"model": DEMO, "messages": MESSAGES, "stream": "no"}, 400,
         "json: cannot unmarshal string into Go struct field ChatRequest.stream of type bool"),
    ],
)  # fmt: skip
def test_bad_requests_are_refused_in_ollamas_words(
    make_client: MakeClient, path: str, body: Any, status: int, text: str | None
) -> None:
    client, engine = make_client()
    response = post(client, path, body)
    assert response.status_code == status
    assert response.content_type == "application/json; charset=utf-8"
    answer = response.get_json()
    assert list(answer) == ["error"]
    assert text in (None, answer["error"])
    assert engine.requests == []


FAILURES: list[tuple[HuggingLlamaError, int, str]] = [
    (EngineBusyError("full", queue_depth=9, retry_after_s=3), 503,
     "server busy, please try again.  maximum pending requests exceeded"),
    (InsufficientMemoryError("no room", need_bytes=2, free_bytes=1), 500, "no room"),
    (EngineDiedError("gone"), 500, "gone"),
    (ContextLengthError(9, 8), 400, "the prompt is longer than the context length"),
    (TextTooLongError(9, 8), 400, "the text has 9 bytes, and at most 8 are read at once; send less"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "status", "text"), FAILURES)
@pytest.mark.parametrize("stream", [True, False])
def test_a_failure_before_the_first_byte_keeps_its_status(
    make_client: MakeClient, error: HuggingLlamaError, status: int, text: str, stream: bool
) -> None:
    client, engine = make_client(generate=[error])
    response = post(client, "/api/generate", {"model": DEMO, "prompt": "x", "stream": stream})
    assert response.status_code == status
    assert response.get_json()["error"].startswith(text)
    assert ("Retry-After" in response.headers) == (status == 503)
    assert engine.streams[0].is_closed


def test_a_failure_after_the_first_byte_is_the_last_line(make_client: MakeClient) -> None:
    client, engine = make_client(generate=[TextDelta("Hel"), GenerationError("broken", model=DEMO)])
    response = post(client, "/api/chat", {"model": DEMO, "messages": MESSAGES})
    assert response.status_code == 200
    found = lines(response)
    assert found[-1] == {"error": "broken"}
    assert [line.get("done") for line in found] == [False, None]
    response.close()
    assert engine.streams[0].is_closed


def test_a_failure_without_streaming_has_its_status_even_after_text(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[TextDelta("Hel"), GenerationError("broken", model=DEMO)])
    response = post(client, "/api/chat", {"model": DEMO, "messages": MESSAGES, "stream": False})
    assert (response.status_code, response.get_json()) == (500, {"error": "broken"})


HOSTILE = [
    b'{"model":"demo","prompt":"\xff"}',
    b'{"model":"demo","prompt":"\\ud800"}',
    b'{"model":"demo","think":"\\ud800","prompt":"x"}',
    b'{"model":"demo","keep_alive":"\\ud800","prompt":"x"}',
    b'{"model":"demo","format":"\\ud800","prompt":"x"}',
    b'{"model":"demo","prompt":"x","options":{"seed":' + b"1" * 400 + b"}}",
    b'{"model":"demo","prompt":"x","keep_alive":' + b"1" * 400 + b"}",
    b'{"model":"demo","prompt":"x","keep_alive":' + b"1" * 5000 + b"}",
    b'{"model":"demo","prompt":"x","top_logprobs":1e400}',
    b'{"model":"demo","prompt":"x","keep_alive":"' + b"1" * 100_000 + b'"}',
    b'{"model":"demo","prompt":"x","keep_alive":300000000000}',
    b'{"model":"demo","model":null,"MODEL":null,"prompt":"x"}',
    b'{"\xc3\xbc":1,"model":"demo","prompt":"x"}',
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("path", ["/api/generate", "/api/chat", "/api/embed"])
def test_hostile_bodies_are_taken_or_refused_never_our_fault(make_client: MakeClient, path: str, body: bytes) -> None:
    client, _ = make_client()
    response = post(client, path, body)
    assert response.status_code in (200, 400, 404)
    if response.status_code != 200:
        assert list(response.get_json()) == ["error"]


def test_a_duration_in_nanoseconds_by_mistake_is_for_ever(make_client: MakeClient) -> None:
    client, engine = make_client()
    post(client, "/api/generate", {"model": DEMO, "keep_alive": 300_000_000_000})
    assert isinstance(engine.requests[0], LoadRequest)
    assert engine.requests[0].keep_alive_s == math.inf


def test_a_bug_in_mid_stream_is_the_last_line_too(make_client: MakeClient) -> None:
    def broken(request: GenerateRequest) -> Iterator[TextDelta]:
        yield TextDelta("Hel")
        raise ZeroDivisionError

    client, engine = make_client(generate=broken)
    response = post(client, "/api/chat", {"model": DEMO, "messages": MESSAGES})
    found = lines(response)
    response.close()
    assert found[-1] == {"error": "internal server error; the server's log has the details"}
    assert engine.streams[0].is_closed


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"think": True}, '"acme/plain" does not support thinking'),
        ({"think": "high"}, '"acme/plain" does not support thinking'),
        ({"tools": [{"function": {"name": "f"}}]}, "acme/plain:latest does not support tools"),
    ],
)
def test_loading_tells_what_a_model_lacks(plain_client: MakeClient, asked: dict[str, Any], error: str) -> None:
    client, engine = plain_client()
    response = post(client, "/api/chat", {"model": "acme/plain", **asked})
    assert response.status_code == 400
    assert response.get_json()["error"] == error
    assert engine.requests == []


def test_many_unknown_options_are_named_a_thousand_times_at_most(
    make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    client, _ = make_client()
    options = {f"unknown_{number}": 1 for number in range(5000)}
    post(client, "/api/generate", {"model": DEMO, "prompt": "x", "options": options})
    assert len(caplog.records) == 1000


def test_an_unknown_option_is_named_once(make_client: MakeClient, caplog: pytest.LogCaptureFixture) -> None:
    client, _ = make_client()
    for _ in range(3):
        post(client, "/api/generate", {"model": DEMO, "prompt": "x", "options": {"mirostat": 1}})
    assert caplog.text.count("mirostat") == 1


def test_a_shutdown_ends_a_stream_with_a_last_object(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[TextDelta("Hel"), Finished(reason=FinishReason.SHUTDOWN)])
    last = lines(post(client, "/api/generate", {"model": DEMO, "prompt": "x"}))[-1]
    assert (last["done"], last["done_reason"]) == (True, "shutdown")


def test_a_caller_that_leaves_closes_the_stream(make_client: MakeClient) -> None:
    client, engine = make_client(generate=[TextDelta("a"), TextDelta("b"), DONE])
    response = client.post("/api/generate", json={"model": DEMO, "prompt": "x"}, buffered=False)
    next(iter(response.response))
    response.close()
    assert engine.streams[0].is_closed


def test_a_gap_is_filled_without_thinking_and_by_a_template_with_a_place_for_it(make_client: MakeClient) -> None:
    client, engine = make_client()
    gap = {"model": DEMO, "prompt": "a", "suffix": "b", "template": "{{ .Prompt }}|{{ .Suffix }}"}
    response = post(client, "/api/generate", gap | {"think": True})
    assert response.status_code == 400
    assert response.get_json()["error"] == "a gap is filled without thinking: leave out think, or the suffix"
    assert engine.requests == []
    assert "X-Ignored-Fields" not in post(client, "/api/generate", gap | {"think": False}).headers


def test_a_budget_for_thinking_needs_a_model_that_thinks(plain_client: MakeClient, make_client: MakeClient) -> None:
    budget = {"options": {"thinking_budget": 5}}
    client, engine = plain_client()
    response = post(client, "/api/chat", {"model": "acme/plain", "messages": MESSAGES, **budget})
    assert response.status_code == 400
    assert response.get_json()["error"] == '"acme/plain" does not support thinking'
    assert engine.requests == []
    client, _ = make_client()
    raw = post(client, "/api/generate", {"model": DEMO, "prompt": "a", "raw": True, **budget})
    assert raw.headers["X-Ignored-Fields"] == "options.thinking_budget"
    chat = post(client, "/api/chat", {"model": DEMO, "messages": MESSAGES, **budget})
    assert chat.status_code == 200
    assert "X-Ignored-Fields" not in chat.headers
