"""Anthropic's Messages API on the wire, over an engine that plays a script."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from hugging_llama.errors import EngineBusyError, GenerationError, TextTooLongError
from hugging_llama.neutral.events import (
    Finished,
    FinishReason,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    Usage,
)
from hugging_llama.neutral.formats import JsonSchema
from hugging_llama.neutral.messages import Message, Tool, ToolCall
from hugging_llama.neutral.requests import ChatPrompt, GenerateRequest, ToolChoice
from hugging_llama.testing import ScriptedEngine
from tests.functional.conftest import MakeClient
from tests.hub_cache import MINILM

HI = [{"role": "user", "content": "Hi"}]
USAGE = Usage(num_prompt_tokens=5, num_cached_tokens=2, num_output_tokens=3)
END = Finished(reason=FinishReason.STOP, usage=USAGE)
SIGNED_HM = "uC4heOz00MWFncLhadf+2Gc/n27rnzWRvtXyU7d0JAg="
CALL = ToolCall(id="toolu_1", name="f", arguments={"z": 1, "a": "ü"})


def post(client: FlaskClient, **body: Any) -> Any:
    return client.post("/v1/messages", json={"model": "demo", "max_tokens": 9, "messages": HI, **body})


def events(response: Any) -> list[Any]:
    assert response.status_code == 200, response.text
    assert response.content_type.startswith("text/event-stream")
    found = []
    for part in response.text.rstrip("\n").split("\n\n"):
        name, data = part.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == "event: " + found[-1]["type"]
    return found


def request(engine: ScriptedEngine) -> GenerateRequest:
    found = engine.requests[-1]
    assert isinstance(found, GenerateRequest)
    return found


def test_a_whole_message(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[ThinkingDelta("hm"), TextDelta("Hel"), TextDelta("lo"), ToolCallDelta(CALL), END])
    response = post(client)
    answer = response.get_json()
    assert answer["id"].startswith("msg_")
    assert response.headers["request-id"].startswith("req_")
    assert {key: answer[key] for key in ("type", "role", "model")} == {
        "type": "message", "role": "assistant", "model": "demo",
    }  # fmt: skip
    assert answer["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": SIGNED_HM},
        {"type": "text", "text": "Hello"},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"z": 1, "a": "ü"}},
    ]
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("tool_use", None)
    assert answer["usage"] == {
        "input_tokens": 3, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 2, "output_tokens": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("end", "reason", "sequence"),
    [
        (END, "end_turn", None),
        (Finished(reason=FinishReason.LENGTH), "max_tokens", None),
        (Finished(reason=FinishReason.STOP, stop="END"), "stop_sequence", "END"),
    ],
)
def test_why_it_ended(make_client: MakeClient, end: Finished, reason: str, sequence: str | None) -> None:
    client, _ = make_client(generate=[end])
    answer = post(client).get_json()
    assert (answer["content"], answer["stop_reason"], answer["stop_sequence"]) == ([], reason, sequence)


def test_a_stream(make_client: MakeClient) -> None:
    client, _ = make_client(
        generate=[ThinkingDelta("h"), ThinkingDelta("m"), TextDelta("Hello"), ToolCallDelta(CALL), TextDelta("."), END]
    )
    found = events(post(client, stream=True))
    assert [item["type"] for item in found] == [
        "message_start",
        "content_block_start", *["content_block_delta"] * 3, "content_block_stop",
        "content_block_start", "content_block_delta", "content_block_stop",
        "content_block_start", "content_block_delta", "content_block_stop",
        "content_block_start", "content_block_delta", "content_block_stop",
        "message_delta", "message_stop",
    ]  # fmt: skip
    assert [item["content_block"] for item in found if item["type"] == "content_block_start"] == [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "text", "text": ""},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
        {"type": "text", "text": ""},
    ]
    assert [item["index"] for item in found if item["type"] == "content_block_stop"] == [0, 1, 2, 3]
    deltas = [item["delta"] for item in found if item["type"] == "content_block_delta"]
    assert deltas[2:5] == [
        {"type": "signature_delta", "signature": SIGNED_HM},
        {"type": "text_delta", "text": "Hello"},
        {"type": "input_json_delta", "partial_json": '{"z":1,"a":"ü"}'},
    ]
    assert found[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert found[-2]["usage"]["output_tokens"] == 3


def test_thoughts_that_are_not_shown_leave_signed_blocks(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[ThinkingDelta("h"), ThinkingDelta("m"), TextDelta("Hello"), END])
    thinking = {"type": "adaptive", "display": "omitted"}
    assert post(client, thinking=thinking).get_json()["content"] == [
        {"type": "thinking", "thinking": "", "signature": SIGNED_HM},
        {"type": "text", "text": "Hello"},
    ]
    found = events(post(client, thinking=thinking, stream=True))
    assert [item["delta"]["type"] for item in found if item["type"] == "content_block_delta"] == [
        "signature_delta", "text_delta",
    ]  # fmt: skip


@pytest.mark.parametrize("field", ["output_config", "output_format"])
def test_a_format_is_enforced(make_client: MakeClient, field: str) -> None:
    client, engine = make_client()
    format = {"type": "json_schema", "schema": {"type": "object", "properties": {"b": {}, "a": {}}}}
    assert post(client, **{field: {"format": format} if field == "output_config" else format}).status_code == 200
    found = request(engine).format
    assert isinstance(found, JsonSchema)
    assert json.loads(found.text) == format["schema"]


def test_what_has_no_effect_is_told(make_client: MakeClient) -> None:
    client, _ = make_client()
    response = post(client, metadata={"user_id": "me"}, context_management={"edits": []}, service_tier=None)
    assert response.headers["X-Ignored-Fields"] == "context_management, metadata"
    assert "X-Ignored-Fields" not in post(client).headers


def test_a_stream_without_a_word(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[END])
    assert [item["type"] for item in events(post(client, stream=True))] == [
        "message_start", "message_delta", "message_stop",
    ]  # fmt: skip


def test_what_the_engine_is_asked(make_client: MakeClient) -> None:
    client, engine = make_client()
    post(
        client,
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "x"},
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "and?"},
                    {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "42"}]},
                    {"type": "tool_result", "tool_use_id": "t1", "content": "no", "is_error": True},
                ],
            },
        ],
        tools=[{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        thinking={"type": "enabled", "budget_tokens": 1024},
        stop_sequences=["x"],
        temperature=0.5,
        top_k=3,
        metadata={"user_id": "me"},
    )
    found = request(engine)
    assert found.prompt == ChatPrompt(
        messages=(
            Message(role="system", content="Be brief."),
            Message(role="user", content="a\nb"),
            Message(
                role="assistant",
                content="I look.",
                thinking="hm",
                tool_calls=(ToolCall(id="t1", name="f", arguments={"a": 1}, index=0),),
            ),
            Message(role="tool", content="42", tool_call_id="t1", tool_name="f"),
            Message(role="tool", content="Error: no", tool_call_id="t1", tool_name="f"),
            Message(role="user", content="and?"),
        ),
        tools=(Tool(name="f", description="d", parameters={"type": "object"}),),
        tool_choice=ToolChoice(mode="required", parallel=False),
        think=True,
    )
    sampling = found.sampling
    assert (sampling.max_tokens, sampling.stop, sampling.temperature, sampling.top_k) == (9, ("x",), 0.5, 3)
    assert (sampling.max_thinking_tokens, sampling.top_p) == (1024, 0.9)


def test_documents_and_search_results_of_text_are_text(make_client: MakeClient) -> None:
    client, engine = make_client()
    plain = {"type": "document", "title": "Notes", "context": "Of today.", "source": {"type": "text", "data": "a"}}
    parts = {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "b"}]}}
    found = {"type": "search_result", "title": "T", "source": "S", "content": [{"type": "text", "text": "c"}]}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [found, {"type": "text", "text": "d"}]}
    content = [plain, parts, found, result, {"type": "text", "text": "e"}]
    assert post(client, messages=[{"role": "user", "content": content}]).status_code == 200
    prompt = request(engine).prompt
    assert isinstance(prompt, ChatPrompt)
    assert [message.content for message in prompt.messages] == [
        "T\nS\nc\nd", "Notes\nOf today.\na\nb\nT\nS\nc\ne",
    ]  # fmt: skip


def test_a_model_that_can_not_think_is_not_asked_to(plain_client: MakeClient) -> None:
    client, engine = plain_client()
    assert post(client, model="acme/plain", thinking={"type": "enabled", "budget_tokens": 1024}).status_code == 200
    for budget in ("a", -5, 0, 1.5, True, 2**70, [1]):
        refused = post(client, model="acme/plain", thinking={"type": "enabled", "budget_tokens": budget})
        assert refused.status_code == 400
        assert "thinking.budget_tokens" in refused.get_json()["error"]["message"]
    prompt = request(engine).prompt
    assert isinstance(prompt, ChatPrompt)
    assert prompt.think is None


@pytest.mark.parametrize(
    ("body", "status", "kind", "text"),
    [
        ({"model": ""}, 400, "invalid_request_error", "model is required"),
        ({"max_tokens": None}, 400, "invalid_request_error", "max_tokens is required and must be positive"),
        ({"messages": []}, 400, "invalid_request_error", "messages is required"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "invalid_request_error", "role"),
        ({"messages": [{"role": "user", "content": 5}]}, 400, "invalid_request_error", "content"),
        ({"messages": [{"role": "user", "content": [{"type": "x"}]}]}, 400, "invalid_request_error", "block type"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, 400, "invalid_request_error", "vision"),
        (
            {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "base64"}}]}]},
            400, "invalid_request_error", "does not support document",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "search_result", "content": 5}]}]},
            400, "invalid_request_error", "search_result must",
        ),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "name": "f"}]}]},
            400, "invalid_request_error", "tool_use block missing required 'id' field",
        ),
        ({"temperature": "hot"}, 400, "invalid_request_error", "temperature"),
        ({"temperature": -1}, 400, "invalid_request_error", "temperature"),
        ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, 400, "invalid_request_error", "web_search"),
        ({"tool_choice": {"type": "any"}}, 400, "invalid_request_error", "tools"),
        ({"tool_choice": {"type": "tool", "name": "g"}}, 400, "invalid_request_error", "tool_choice"),
        ({"output_config": {"format": {"type": "xml"}}}, 400, "invalid_request_error", "json_schema"),
        ({"output_config": {"format": [1]}}, 400, "invalid_request_error", "json_schema"),
        ({"output_config": {"effort": ["low"]}}, 400, "invalid_request_error", "output_config.effort"),
        ({"system": [{"type": ["text"]}]}, 400, "invalid_request_error", "system must"),
        ({"messages": [{"role": "user", "content": [{"type": ["x"]}]}]}, 400, "invalid_request_error", "block type"),
        (
            {"tools": [{"name": "f"}], "tool_choice": {"type": "tool", "name": ["f"]}},
            400, "invalid_request_error", "tool_choice",
        ),
        (
            {"output_format": {"type": "x"}, "output_config": {"format": {"type": "x"}}},
            400, "invalid_request_error", "exclude each other",
        ),
        ({"mcp_servers": [{"type": "url"}]}, 400, "invalid_request_error", "MCP"),
        ({"model": "nobody"}, 404, "not_found_error", "not found"),
        ({"model": MINILM}, 400, "invalid_request_error", "does not support chat"),
    ],
)  # fmt: skip
def test_errors(make_client: MakeClient, body: dict[str, Any], status: int, kind: str, text: str) -> None:
    client, _ = make_client()
    response = post(client, **body)
    answer = response.get_json()
    assert response.status_code == status, response.text
    assert (answer["type"], answer["error"]["type"]) == ("error", kind)
    assert text in answer["error"]["message"]
    assert answer["request_id"] == response.headers["request-id"]


def test_failures_before_and_in_a_stream(make_client: MakeClient) -> None:
    client, _ = make_client(generate=[EngineBusyError("busy", queue_depth=3, retry_after_s=2.0)])
    response = post(client, stream=True)
    assert (response.status_code, response.get_json()["error"]["type"]) == (529, "overloaded_error")
    client, _ = make_client(generate=[TextTooLongError(9, 8)])
    answer = post(client, stream=True).get_json()["error"]
    assert answer["type"] == "invalid_request_error"
    assert "9 bytes, and at most 8 are read" in answer["message"]
    client, _ = make_client(generate=[TextDelta("a"), GenerationError("it broke")])
    last = events(post(client, stream=True))[-1]
    assert (last["type"], last["error"]) == ("error", {"type": "api_error", "message": "it broke"})


def test_a_stream_begins_with_what_was_read(make_client: MakeClient) -> None:
    started = Started(num_prompt_tokens=7, num_cached_tokens=4, num_truncated_tokens=0)
    client, engine = make_client(generate=[started, TextDelta("Hi"), END])
    response = post(client, stream=True)
    assert events(response)[0]["message"]["usage"] == {
        "input_tokens": 3, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 0,
    }  # fmt: skip
    assert "X-Truncated-Tokens" not in response.headers
    assert request(engine).tells_start


def test_a_json_schema_is_enforced(make_client: MakeClient) -> None:
    client, engine = make_client()
    schema = {"a_type": "object"}
    post(client, output_config={"format": {"type": "json_schema", "schema": schema}})
    assert request(engine).format == JsonSchema('{"a_type":"object"}')


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format must be"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort: must be one of low, medium, high, max, xhigh"),
        ({"thinking": {"type": "sometimes"}}, "thinking.type: must be enabled, disabled or adaptive"),
        ({"stop_sequences": "x"}, "stop_sequences: must be a list of at most 10000 strings"),
        ({"stop_sequences": ["x"] * 10_001}, "stop_sequences: must be a list of at most 10000 strings"),
        ({"temperature": "hot"}, "temperature: expected number, got string"),
        ({"container": "c"}, "container is not supported: this server runs no code"),
        ({"mcp_servers": [{}]}, "mcp_servers is not supported"),
    ],
)
def test_what_it_can_not_do_is_refused(make_client: MakeClient, body: dict[str, Any], message: str) -> None:
    response = post(make_client()[0], **body)
    error = response.get_json()["error"]
    assert (response.status_code, error["type"]) == (400, "invalid_request_error")
    assert message in error["message"]
