"""What is within a field and has no effect is named, in every dialect alike, and never refused."""

from typing import Any

import pytest

from hugging_llama.neutral.events import Finished, FinishReason, TextDelta
from hugging_llama.neutral.messages import Message
from hugging_llama.neutral.requests import ChatPrompt, GenerateRequest
from tests.functional.conftest import MakeClient

HI = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "zz": 1}}}
FLAT = {"type": "function", "name": "f", "parameters": {"type": "object", "zz": 1}}
TOOL_OF_ANTHROPIC = {"name": "f", "input_schema": {"type": "object", "zz": 1}}
CACHE = {"cache_control": {"type": "ephemeral"}}
SCHEMA = {"type": "json_schema", "schema": {"type": "object", "zz": 1}, "zz": 1}
CHAT, TEXT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
CALL = {"id": "c", "type": "function", "index": 0, "function": {"name": "f", "arguments": "{}", "zz": 1}, "yy": 1}
BASE: dict[str, Any] = {
    CHAT: {"messages": HI},
    TEXT: {"prompt": "Hi"},
    RESPONSES: {"input": "Hi", "store": False},
    MESSAGES: {"messages": HI, "max_tokens": 9},
    "/v1/messages/count_tokens": {"messages": HI},
    "/api/chat": {"messages": HI, "stream": False},
    "/api/create": {"model": "mine", "from": "demo", "stream": False},
}


def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content, **more}]}


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        (CHAT, {"reasoning": {"effort": "low", "bogus": 1, "max_tokens": 5}}, "reasoning.bogus, reasoning.max_tokens"),
        (CHAT, {"stream_options": {"include_usage": True, "bogus": 1}}, "stream_options.bogus"),
        (CHAT, {"stream_options": {"include_obfuscation": False}}, ""),
        (CHAT, {"response_format": {"type": "text", "bogus": 1}}, "response_format.bogus"),
        (CHAT, said("user", "Hi", name="me", zz=1), "messages.name, messages.zz"),
        (CHAT, said("tool", "a", name="f", tool_call_id="c"), ""),
        (CHAT, said("user", [{"type": "text", "text": "Hi", **CACHE}] * 100), "messages.content.cache_control"),
        (CHAT, said("assistant", "a", tool_calls=[CALL]), "messages.tool_calls.function.zz, messages.tool_calls.yy"),
        (CHAT, said("assistant", "a", audio=None, annotations=[]), ""),
        (CHAT, {"tools": [TOOL | CACHE]}, "tools.cache_control"),
        (CHAT, {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f", "zz": 1}}},
         "tool_choice.function.zz"),
        (TEXT, {"stream_options": {"bogus": 1}}, "stream_options.bogus"),
        (RESPONSES, {"input": [{"role": "user", "content": "Hi", "zz": 1}]}, "input.zz"),
        (RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi", "zz": 1}]}]},
         "input.content.zz"),
        (RESPONSES, {"tools": [FLAT | {"zz": 1, "defer_loading": True}]}, "tools.defer_loading, tools.zz"),
        (RESPONSES, {"text": {"format": {"type": "text", "zz": 1}, "zz": 1}}, "text.format.zz, text.zz"),
        (RESPONSES, {"stream_options": {"include_obfuscation": False}}, ""),
        (MESSAGES, {"system": [{"type": "text", "text": "s", **CACHE}]}, "system.cache_control"),
        (MESSAGES, said("user", [{"type": "text", "text": "Hi", **CACHE}] * 100), "messages.content.cache_control"),
        (MESSAGES, said("user", [{"type": "tool_result", "tool_use_id": "t", "content": "a", **CACHE}]),
         "messages.content.cache_control"),
        (MESSAGES, said("assistant", [{"type": "redacted_thinking", "data": "x"}]),
         "messages.content.redacted_thinking"),
        (MESSAGES, said("assistant", [{"type": "thinking", "thinking": "a", "signature": "b"}]), ""),
        (MESSAGES, {"tools": [TOOL_OF_ANTHROPIC | CACHE | {"strict": True, "defer_loading": True}]},
         "tools.cache_control, tools.defer_loading, tools.strict"),
        (MESSAGES, {"tools": [TOOL_OF_ANTHROPIC | {"strict": True}], "tool_choice": {"type": "any"}}, ""),
        (MESSAGES, {"tools": [TOOL_OF_ANTHROPIC | {"strict": False, "defer_loading": False}]}, ""),
        (MESSAGES, {"thinking": {"type": "disabled", "zz": 1}}, "thinking.zz"),
        (MESSAGES, {"output_config": {"zz": 1, "format": SCHEMA}}, "output_config.format.zz, output_config.zz"),
        ("/v1/messages/count_tokens", {"output_config": {"format": SCHEMA}}, "output_config.format"),
        ("/v1/messages/count_tokens", {"tools": [TOOL_OF_ANTHROPIC | {"strict": True}]}, "tools.strict"),
        ("/api/chat", said("user", "Hi", zz=1), "messages.zz"),
        ("/api/chat", {"tools": [TOOL], "zz": 1, "options": {"mirostat": 1}}, "options.mirostat, zz"),
        ("/api/chat", {"tools": [TOOL | {"items": {}}]}, "tools.items"),
        ("/api/create", said("user", "Hi", thinking="a"), "messages.thinking"),
    ],
)  # fmt: skip
def test_what_has_no_effect_within_a_field_is_named(
    make_client: MakeClient, path: str, body: dict[str, Any], told: str
) -> None:
    client, _ = make_client()
    response = client.post(path, json={"model": "demo", **BASE[path], **body})
    assert response.status_code == 200, response.text
    assert response.headers.get("X-Ignored-Fields", "") == told


@pytest.mark.parametrize("path", [CHAT, MESSAGES, "/api/chat"])
def test_names_within_a_field_match_in_any_case(make_client: MakeClient, path: str) -> None:
    client, engine = make_client()
    content = "Hi" if path == "/api/chat" else [{"Type": "text", "TEXT": "Hi"}]
    body = BASE[path] | {"messages": [{"Role": "user", "CONTENT": content}]}
    response = client.post(path, json={"model": "demo", **body})
    assert (response.status_code, response.headers.get("X-Ignored-Fields")) == (200, None), response.text
    request = engine.requests[-1]
    assert isinstance(request, GenerateRequest)
    assert isinstance(request.prompt, ChatPrompt)
    assert request.prompt.messages == (Message(role="user", content="Hi"),)


def test_names_of_an_error_are_told_too(make_client: MakeClient) -> None:
    response = make_client()[0].post(CHAT, json={"model": "nobody/none", "messages": [HI[0] | {"zz": 1}]})
    assert (response.status_code, response.headers["X-Ignored-Fields"]) == (404, "messages.zz")


def test_what_is_left_out_of_the_header_is_counted(make_client: MakeClient) -> None:
    ends = [TextDelta("a"), Finished(reason=FinishReason.STOP)]
    options = {f"o{n:02}": 1 for n in range(30)}
    body = {"model": "demo", **BASE["/api/chat"], "options": options, "ä": 1, "stream": True}
    response = make_client(generate=ends)[0].post("/api/chat", json=body)
    names = response.headers["X-Ignored-Fields"].split(", ")
    assert names == [*(f"options.o{n:02}" for n in range(20)), "and 11 more"]
