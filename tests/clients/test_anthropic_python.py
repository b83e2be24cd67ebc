"""Anthropic's official Python client against a real server."""

import asyncio
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal

import anthropic
import pydantic
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


class Answer(pydantic.BaseModel):
    word: Literal["Paris", "Rome"]
    sure: bool


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


def test_a_call_comes_in_a_stream_and_thoughts_are_signed(client: anthropic.Anthropic) -> None:
    asked: Any = [{"role": "user", "content": "What is the weather in Oslo?"}]
    with client.messages.stream(
        model=DEMO, max_tokens=200, messages=asked, tools=[WEATHER], extra_body=GREEDY, thinking={"type": "adaptive"}
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_message()
    assert {"thinking", "signature", "input_json", "content_block_stop", "message_stop"} <= kinds
    thought, *_, call = final.content
    assert thought.type == "thinking"
    assert thought.signature
    assert call.type == "tool_use"
    assert call.input == {"city": "Oslo"}


@pytest.mark.parametrize("stream", [False, True])
def test_the_tool_runner_goes_on_without_threads(client: anthropic.Anthropic, stream: bool) -> None:
    """It asks the server to keep the conversation, and sends all of it where that is told not to be done."""
    cities: list[str] = []

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """Get the weather for a city"""
        cities.append(city)
        return "5 degrees, rain"

    asked: Any = {
        "model": DEMO, "max_tokens": 200, "messages": [{"role": "user", "content": "What is the weather in Oslo?"}],
        "tools": [get_weather], "extra_body": GREEDY, "stream": stream,
    }  # fmt: skip
    final = client.beta.messages.tool_runner(**asked).until_done()
    assert cities == ["Oslo"]
    assert final.content[-1].type == "text"
    with pytest.raises(anthropic.BadRequestError, match="send all messages") as told:
        client.beta.messages.create(model=DEMO, max_tokens=5, messages=FRANCE, thread={"type": "create"})
    assert told.value.error_code == "thread_unsupported_request"


def test_a_parsed_answer_streaming_and_not(client: anthropic.Anthropic) -> None:
    """By the client's own helpers, which send the schema as `output_config.format`."""
    asked: Any = {"model": DEMO, "max_tokens": 200, "messages": FRANCE, "extra_body": GREEDY, "output_format": Answer}
    whole = client.messages.parse(**asked).parsed_output
    assert isinstance(whole, Answer)
    with client.messages.stream(**asked) as stream:
        final = stream.get_final_message()
    assert final.parsed_output == whole
    # as it was called before: beside the tools, a field of its own
    plain: Any = client.messages.create(
        model=DEMO, max_tokens=200, messages=FRANCE,
        extra_body={**GREEDY, "output_format": {"type": "json_schema", "schema": Answer.model_json_schema()}},
    )  # fmt: skip
    assert Answer.model_validate_json(plain.content[-1].text) == whole


def test_the_models_are_listed(client: anthropic.Anthropic) -> None:
    found = {model.id: model for model in client.models.list(limit=1)}
    demo = found[f"{DEMO}:latest"]
    assert (demo.type, demo.display_name, demo.lifecycle) == ("model", f"{DEMO}:latest", "active")
    assert isinstance(demo.created_at, datetime)
    assert client.models.retrieve(DEMO).id == DEMO
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("nobody/nothing")


def test_who_leaves_a_stream_frees_its_sequence(server: LiveServer, client: anthropic.Anthropic, endless: str) -> None:
    with server.one_cancelled():
        stream = client.messages.create(model=endless, max_tokens=100000, messages=FRANCE, stream=True)
        assert next(stream).type == "message_start"
        stream.close()


def test_the_asynchronous_client(server: LiveServer, endless: str) -> None:
    async def talk() -> None:
        async with anthropic.AsyncAnthropic(base_url=server.url, api_key="none", max_retries=0) as client:
            asked: Any = {"model": DEMO, "max_tokens": 200, "messages": FRANCE, "extra_body": GREEDY}
            whole = await client.messages.create(**asked)
            async with client.messages.stream(**asked) as stream:
                said = "".join([text async for text in stream.text_stream])
                assert (await stream.get_final_message()).usage.output_tokens == whole.usage.output_tokens
            assert "Paris" in said
            assert [getattr(block, "text", "") for block in whole.content][-1] == said
            counted = await client.messages.count_tokens(model=DEMO, messages=FRANCE)
            assert counted.input_tokens == whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0)
            with pytest.raises(anthropic.NotFoundError):
                await client.messages.create(**asked | {"model": "nobody/nothing"})
            long = await client.messages.create(model=endless, max_tokens=100000, messages=FRANCE, stream=True)
            assert (await anext(long)).type == "message_start"
            await long.close()

    with server.one_cancelled():
        asyncio.run(talk())


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
    with pytest.raises(anthropic.BadRequestError, match="temperature"):
        client.messages.create(model=DEMO, max_tokens=5, messages=FRANCE, extra_body={"temperature": "hot"})


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
