"""Earlier turns of a chat as OpenAI's clients send them back, in the shape of today and in that of functions."""

from typing import Any

import pytest

from hugging_llama.neutral.messages import Message, ToolCall
from hugging_llama.neutral.requests import ChatPrompt, GenerateRequest
from tests.functional.conftest import MakeClient

ASKED = {"role": "user", "content": "How warm is it?"}
CALL = {"name": "weather", "arguments": '{"city": "Oslo"}'}
RESULT = {"role": "function", "name": "weather", "content": "5 degrees"}
NIL = "invalid message content type: <nil>"


def understood(make_client: MakeClient, *messages: Any) -> tuple[Message, ...]:
    client, engine = make_client()
    response = client.post("/v1/chat/completions", json={"model": "demo", "messages": [ASKED, *messages]})
    assert response.status_code == 200, response.text
    assert "X-Ignored-Fields" not in response.headers
    (asked,) = engine.requests
    assert isinstance(asked, GenerateRequest)
    assert isinstance(asked.prompt, ChatPrompt)
    return asked.prompt.messages[1:]


def test_a_call_of_a_function_is_the_call_of_a_tool(make_client: MakeClient) -> None:
    found = understood(make_client, {"role": "assistant", "content": None, "function_call": CALL}, RESULT)
    assert found == (
        Message(role="assistant", tool_calls=(ToolCall(id="", name="weather", arguments={"city": "Oslo"}, index=0),)),
        Message(role="tool", content="5 degrees", tool_name="weather"),
    )
    new = {"role": "assistant", "tool_calls": [{"type": "function", "function": CALL}]}
    assert found == understood(make_client, new, {"role": "tool", "name": "weather", "content": "5 degrees"})


def test_what_the_model_refused_to_say_is_what_it_said(make_client: MakeClient) -> None:
    (found,) = understood(make_client, {"role": "assistant", "content": None, "refusal": "I won't."})
    assert found == Message(role="assistant", content="I won't.")


@pytest.mark.parametrize(
    ("turn", "text"),
    [
        ({"content": "hi", "refusal": ""}, "hi"),
        ({"content": "", "refusal": ""}, ""),
        ({"content": "hi", "refusal": False}, "hi"),
        ({"content": None, "tool_calls": []}, ""),
        ({"content": None, "reasoning_content": ""}, ""),
        ({"content": None, "function_call": {}}, ""),
    ],
)
def test_what_other_servers_answers_hold_that_says_nothing(make_client: MakeClient, turn: Any, text: str) -> None:
    assert understood(make_client, {"role": "assistant", **turn}) == (Message(role="assistant", content=text),)


def test_a_call_in_both_shapes_is_one(make_client: MakeClient) -> None:
    turn = {"role": "assistant", "tool_calls": [{"type": "function", "function": CALL}], "function_call": CALL}
    (found,) = understood(make_client, turn)
    assert [call.name for call in found.tool_calls] == ["weather"]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"role": "assistant", "content": None}, NIL),
        ({"role": "assistant"}, NIL),
        ({"role": "function", "name": "f", "content": None}, NIL),
        ({"role": "assistant", "function_call": "auto"}, "invalid tool call format"),
        ({"role": "assistant", "refusal": None, "function_call": None}, NIL),
        ({"role": "assistant", "function_call": {"arguments": "{}"}}, "invalid tool call format"),
        ({"role": "assistant", "function_call": {"name": "f", "arguments": "{"}}, "invalid tool call arguments"),
    ],
)
def test_turns_that_say_nothing(make_client: MakeClient, message: Any, text: str) -> None:
    client, _ = make_client()
    response = client.post("/v1/chat/completions", json={"model": "demo", "messages": [ASKED, message, ASKED]})
    error = response.get_json()["error"]
    assert (response.status_code, error["message"], error["param"]) == (400, text, "messages")
