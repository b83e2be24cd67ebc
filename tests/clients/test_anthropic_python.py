"""Anthropic's official Python client against a real server."""

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.live_server import LiveServer

DEMO = "hugging-llama/demo"
GREEDY = {"temperature": 0}
FRANCE: Any = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER: Any = {
    "name": "get_weather",
    "description": "Get the weather for a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture
def client(server: LiveServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as client:
        yield client


def test_a_message_streaming_and_not(client: anthropic.Anthropic) -> None:
    options: Any = {
        "model": DEMO, "max_tokens": 200, "messages": FRANCE, "extra_body": GREEDY, "thinking": {"type": "disabled"},
    }  # fmt: skip
    whole = client.messages.create(**options)
    block: Any = whole.content[0]
    assert (len(whole.content), block.type) == (1, "text")
    assert "Paris" in block.text
    assert whole.stop_reason == "end_turn"
    with client.messages.stream(**options) as stream:
        assert "".join(stream.text_stream) == block.text
        final = stream.get_final_message()
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert final.usage.input_tokens + (final.usage.cache_read_input_tokens or 0) > 0


def test_thoughts_are_blocks_of_their_own(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(model=DEMO, max_tokens=200, messages=FRANCE, extra_body=GREEDY)
    assert [block.type for block in answer.content] == ["thinking", "text"]


def test_a_tool_is_called_and_its_result_read(client: anthropic.Anthropic) -> None:
    messages: Any = [{"role": "user", "content": "What is the weather in Oslo?"}]
    choices: list[Any] = [{"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "get_weather"}]
    for choice in choices:
        answer: Any = client.messages.create(
            model=DEMO, max_tokens=200, messages=messages, tools=[WEATHER], tool_choice=choice, extra_body=GREEDY
        )
        call = answer.content[-1]
        assert call.type == "tool_use"
        assert (answer.stop_reason, call.name, call.input) == ("tool_use", "get_weather", {"city": "Oslo"})
    messages += [
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "5 degrees, rain"}]},
    ]
    final = client.messages.create(model=DEMO, max_tokens=200, messages=messages, tools=[WEATHER], extra_body=GREEDY)
    assert final.content[-1].type == "text"


def test_stop_sequences_and_errors(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(
        model=DEMO,
        max_tokens=200,
        messages=FRANCE,
        extra_body=GREEDY,
        thinking={"type": "disabled"},
        stop_sequences=["a"],
    )
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "a")
    with pytest.raises(anthropic.NotFoundError, match="not found"):
        client.messages.create(model="nobody/nothing", max_tokens=5, messages=FRANCE)


def test_tokens_are_counted_as_they_are_read(client: anthropic.Anthropic) -> None:
    counted = client.messages.count_tokens(model=DEMO, messages=FRANCE, tools=[WEATHER])
    answer = client.messages.create(model=DEMO, max_tokens=1, messages=FRANCE, tools=[WEATHER])
    assert counted.input_tokens == answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0)


def test_a_stream_begins_with_the_prompts_tokens(client: anthropic.Anthropic) -> None:
    counted = client.messages.count_tokens(model=DEMO, messages=FRANCE).input_tokens
    with client.messages.stream(model=DEMO, messages=FRANCE, max_tokens=4) as stream:
        start = next(event for event in stream if event.type == "message_start")
        usage = start.message.usage
        assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == counted
