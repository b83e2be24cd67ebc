"""OpenAI's official Python client and its Responses API, against a real server with two workers."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
import requests
from openai.types.responses import Response
from pydantic import BaseModel

from tests.live_server import LiveServer

DEMO = "hugging-llama/demo"
FRANCE = "What is the capital of France?"
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the weather for a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}
NONE: Any = {"effort": "none"}


@pytest.fixture
def client(server: LiveServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_whole_answer_and_its_streams(client: openai.OpenAI) -> None:
    whole = client.responses.create(model=DEMO, input=FRANCE, temperature=0, reasoning=NONE)
    assert "Paris" in whole.output_text
    assert whole.status == "completed"
    assert whole.usage
    assert whole.usage.output_tokens > 0
    assert whole.usage.output_tokens_details.reasoning_tokens == 0
    found = list(client.responses.create(model=DEMO, input=FRANCE, temperature=0, reasoning=NONE, stream=True))
    assert [event.type for event in found[:2]] == ["response.created", "response.in_progress"]
    assert [event.sequence_number for event in found] == list(range(len(found)))
    assert "".join(event.delta for event in found if event.type == "response.output_text.delta") == whole.output_text
    assert found[-1].type == "response.completed"
    with client.responses.stream(model=DEMO, input=FRANCE, temperature=0, reasoning=NONE) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert "response.output_text.delta" in kinds
    assert final.output_text == whole.output_text


def test_reasoning(client: openai.OpenAI) -> None:
    answer = client.responses.create(model=DEMO, input=FRANCE, temperature=0)
    thought, said = answer.output
    assert thought.type == "reasoning"
    assert thought.content
    assert "<think>" not in thought.content[0].text
    assert said.type == "message"
    assert answer.usage
    assert 0 < answer.usage.output_tokens_details.reasoning_tokens < answer.usage.output_tokens
    with client.responses.stream(model=DEMO, input=FRANCE, temperature=0, reasoning={"summary": "auto"}) as stream:
        told = "".join(event.delta for event in stream if event.type == "response.reasoning_summary_text.delta")
    assert told == thought.content[0].text
    chat: Any = client.chat.completions.create(
        model=DEMO, messages=[{"role": "user", "content": FRANCE}], temperature=0
    )
    counted = chat.usage.completion_tokens_details.reasoning_tokens
    assert counted == answer.usage.output_tokens_details.reasoning_tokens


def test_a_conversation_that_the_server_keeps(server: LiveServer, client: openai.OpenAI) -> None:
    """Whichever worker answers: each request has a connection of its own."""
    first = client.responses.create(model=DEMO, input=FRANCE, temperature=0, instructions="Be brief.")
    answer = client.responses.create(model=DEMO, input="Thanks.", previous_response_id=first.id, temperature=0)
    turns: Any = [{"role": "user", "content": FRANCE}, *first.output, {"role": "user", "content": "Thanks."}]
    by_hand = client.responses.create(model=DEMO, input=turns, temperature=0, store=False)
    assert answer.output_text == by_hand.output_text
    assert answer.usage
    assert by_hand.usage
    assert answer.usage.input_tokens == by_hand.usage.input_tokens

    def look(_: int) -> tuple[int, Any]:
        found = requests.get(f"{server.url}/v1/responses/{answer.id}", headers={"Connection": "close"}, timeout=60)
        return found.status_code, found.json()

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(look, range(40)))
    assert all(status == 200 and body["output"] == seen[0][1]["output"] for status, body in seen)
    items = client.responses.input_items.list(answer.id, order="asc", limit=1)
    assert [item.type for item in items] == ["message", "reasoning", "message", "message"]
    client.responses.delete(answer.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)
    assert client.responses.retrieve(first.id).output_text == first.output_text
    with pytest.raises(openai.BadRequestError, match="background"):
        client.responses.cancel(first.id)


def test_many_workers_keep_at_once(server: LiveServer) -> None:
    async def ask() -> list[Response]:
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client:
            asked = [
                client.responses.create(
                    model=DEMO, input=f"{FRANCE} {number}", max_output_tokens=4, reasoning=NONE, temperature=0
                )
                for number in range(24)
            ]
            answers = await asyncio.gather(*asked)
            return [await client.responses.retrieve(answer.id) for answer in answers]

    found = asyncio.run(ask())
    assert len({response.id for response in found}) == 24
    assert {response.status for response in found} == {"incomplete"}


def test_a_tool_is_called_and_its_result_read(client: openai.OpenAI) -> None:
    asked: Any = [{"role": "user", "content": "What is the weather in Oslo?"}]
    choices: Any = ("auto", "required", {"type": "function", "name": "get_weather"})
    for choice in choices:
        answer = client.responses.create(model=DEMO, input=asked, tools=[WEATHER], tool_choice=choice, temperature=0)
        (call,) = [item for item in answer.output if item.type == "function_call"]
        assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Oslo"})
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "5 degrees, rain"}
    final = client.responses.create(
        model=DEMO, input=[result], tools=[WEATHER], previous_response_id=answer.id, temperature=0
    )
    turns: Any = [*asked, *answer.output, result]
    by_hand = client.responses.create(model=DEMO, input=turns, tools=[WEATHER], temperature=0)
    assert final.output_text == by_hand.output_text
    assert final.output_text
    with client.responses.stream(model=DEMO, input=asked, tools=[WEATHER], temperature=0) as stream:
        told = "".join(event.delta for event in stream if event.type == "response.function_call_arguments.delta")
    assert json.loads(told) == {"city": "Oslo"}


def test_a_custom_tool_is_called_with_a_text(client: openai.OpenAI) -> None:
    tool: Any = {"type": "custom", "name": "note", "description": "Writes a note"}
    asked: Any = {
        "input": "Note that it rains.",
        "tools": [tool],
        "tool_choice": {"type": "custom", "name": "note"},
        "parallel_tool_calls": False,
        "temperature": 0,
        "reasoning": NONE,
    }
    answer = client.responses.create(model=DEMO, **asked)
    (call,) = answer.output
    assert call.type == "custom_tool_call"
    assert (call.name, bool(call.input)) == ("note", True)
    with client.responses.stream(model=DEMO, **asked) as stream:
        told = "".join(event.delta for event in stream if event.type == "response.custom_tool_call_input.delta")
    assert told == call.input


class Answer(BaseModel):
    """What a schema asks for."""

    city: str
    sure: bool


def test_parsed_output(client: openai.OpenAI) -> None:
    answer = client.responses.parse(model=DEMO, input=FRANCE, text_format=Answer, temperature=0, reasoning=NONE)
    assert isinstance(answer.output_parsed, Answer)
    with client.responses.stream(model=DEMO, input=FRANCE, text_format=Answer, temperature=0, reasoning=NONE) as stream:
        assert stream.get_final_response().output_parsed == answer.output_parsed


def test_log_probabilities_and_limits(client: openai.OpenAI) -> None:
    answer = client.responses.create(
        model=DEMO,
        input=FRANCE,
        max_output_tokens=5,
        temperature=0,
        reasoning=NONE,
        include=["message.output_text.logprobs"],
        top_logprobs=2,
    )
    assert answer.status == "incomplete"
    assert answer.incomplete_details
    assert answer.incomplete_details.reason == "max_output_tokens"
    (said,) = answer.output
    assert said.type == "message"
    part = said.content[0]
    assert part.type == "output_text"
    assert part.logprobs
    assert len(part.logprobs[0].top_logprobs) == 2
    assert b"".join(bytes(entry.bytes) for entry in part.logprobs).decode() == part.text
    include: Any = ["message.output_text.logprobs"]
    _, said = client.responses.create(model=DEMO, input="What is 2 + 3?", temperature=0, include=include).output
    assert said.type == "message"
    part = said.content[0]
    assert part.type == "output_text"
    assert "".join(entry.token for entry in part.logprobs or ()) == part.text, "those of the thought are not"
    with pytest.raises(openai.BadRequestError, match="the context holds"):
        client.responses.create(model=DEMO, input="word " * 20_000)
    cut = client.responses.create(model=DEMO, input="word " * 20_000, truncation="auto", max_output_tokens=3)
    assert cut.usage
    assert cut.usage.input_tokens < 20_000


def test_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="not found"):
        client.responses.create(model="nobody/nothing", input="Hi")
    with pytest.raises(openai.BadRequestError, match="Previous response"):
        client.responses.create(model=DEMO, input="Hi", previous_response_id="resp_nothing")
    with pytest.raises(openai.BadRequestError, match="file_search"):
        client.responses.create(model=DEMO, input="Hi", tools=[{"type": "file_search", "vector_store_ids": ["v"]}])


def test_a_file_that_is_damaged_while_the_server_runs(server: LiveServer, client: openai.OpenAI) -> None:
    path = Path(server.environ["HOME"]) / ".cache" / "hugging-llama" / "responses.db"
    before = client.responses.create(model=DEMO, input=FRANCE, reasoning=NONE)
    assert client.responses.retrieve(before.id).id == before.id
    for name in (path, path.with_name("responses.db-wal")):
        name.write_bytes(b"no database " * 2000)
    after = client.responses.create(model=DEMO, input=FRANCE, reasoning=NONE)
    assert client.responses.retrieve(after.id).id == after.id
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(before.id)
