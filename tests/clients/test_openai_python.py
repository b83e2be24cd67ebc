"""OpenAI's official Python client against a real server."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pydantic
import pytest
import requests

from tests.hub_cache import MINILM
from tests.live_server import LiveServer

DEMO = "hugging-llama/demo"
FRANCE: Any = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather for a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Answer(pydantic.BaseModel):
    word: Literal["Paris", "Rome"]
    sure: bool


@pytest.fixture
def client(server: LiveServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_chat_streaming_and_not(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=DEMO, messages=FRANCE, temperature=0, reasoning_effort="none")
    text = whole.choices[0].message.content
    assert text
    assert "Paris" in text
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    parts = list(
        client.chat.completions.create(
            model=DEMO,
            messages=FRANCE,
            temperature=0,
            reasoning_effort="none",
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    said = [choice.delta.content or "" for part in parts for choice in part.choices]
    assert "".join(said) == text
    assert parts[-1].usage
    assert parts[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_reasoning_comes_apart(client: openai.OpenAI) -> None:
    message = client.chat.completions.create(model=DEMO, messages=FRANCE, temperature=0).choices[0].message
    assert getattr(message, "reasoning", "")
    assert "<think>" not in (message.content or "")


def test_a_tool_is_called_and_its_result_read(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "What is the weather in Oslo?"}]
    for choice in ("auto", "required", {"type": "function", "function": {"name": "get_weather"}}):
        answer: Any = client.chat.completions.create(
            model=DEMO,
            messages=messages,
            tools=[WEATHER],
            tool_choice=choice,
            temperature=0,  # type: ignore[call-overload]
        )
        (call,) = answer.choices[0].message.tool_calls
        assert answer.choices[0].finish_reason == "tool_calls"
        assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Oslo"})
    messages += [answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "5 degrees, rain"}]
    final = client.chat.completions.create(model=DEMO, messages=messages, tools=[WEATHER], temperature=0)
    assert final.choices[0].message.content


def test_structured_output(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"word": {"type": "string", "enum": ["Paris", "Rome"]}, "sure": {"type": "boolean"}},
        "required": ["word", "sure"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=DEMO,
        messages=FRANCE,
        temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}},
    )
    found = json.loads(answer.choices[0].message.content or "")
    assert found["word"] in ("Paris", "Rome")
    assert isinstance(found["sure"], bool)


def test_a_parsed_answer_streaming_and_not(client: openai.OpenAI) -> None:
    """By the client's own helpers, which send the schema as a strict format."""
    asked: Any = {"model": DEMO, "messages": FRANCE, "temperature": 0, "response_format": Answer}
    whole = client.chat.completions.parse(**asked).choices[0].message.parsed
    assert isinstance(whole, Answer)
    with client.chat.completions.stream(**asked) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.parsed == whole


def test_choices_log_probabilities_and_text(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=DEMO, messages=FRANCE, n=2, logprobs=True, top_logprobs=2, max_completion_tokens=5, seed=1,
        reasoning_effort="none",
    )  # fmt: skip
    assert [choice.index for choice in answer.choices] == [0, 1]
    logprobs = answer.choices[0].logprobs
    assert logprobs
    assert logprobs.content
    assert len(logprobs.content[0].top_logprobs) == 2
    asked: Any = {"model": DEMO, "messages": FRANCE, "temperature": 0, "logprobs": True, "max_tokens": 200}
    thought = client.chat.completions.create(**asked).choices[0]
    assert getattr(thought.message, "reasoning", "")
    assert thought.logprobs
    assert "".join(entry.token for entry in thought.logprobs.content or ()) == thought.message.content
    parts = [part.choices[0] for part in client.chat.completions.create(**asked, stream=True)]
    streamed = [entry for part in parts if part.logprobs for entry in part.logprobs.content or ()]
    assert streamed == thought.logprobs.content
    text = client.completions.create(model=DEMO, prompt="Once upon a time", max_tokens=8, echo=True, temperature=0)
    assert text.choices[0].text.startswith("Once upon a time")
    assert text.choices[0].finish_reason == "length"


def test_more_answers_than_can_ever_be_here_at_once(client: openai.OpenAI) -> None:
    """Of 64 in the batch and 512 in the queue."""
    asked: Any = {"model": DEMO, "n": 16, "max_tokens": 1}
    with pytest.raises(openai.BadRequestError, match=r"1024 answers.*at most 576 at once: send fewer prompts") as told:
        client.completions.create(prompt=["Hello"] * 64, **asked)
    assert told.value.param == "n"
    assert len(client.completions.create(prompt=["Hello"] * 32, **asked).choices) == 512


def test_embeddings_and_models(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model=MINILM, input=["hello", "world"])
    long = client.embeddings.with_raw_response.create(model=MINILM, input=["hello", "word " * 400])
    assert long.headers["X-Truncated-Tokens"] == "146"
    assert [len(item.embedding) for item in answer.data] == [384, 384]
    plain = client.embeddings.create(model=MINILM, input=["hello", "world"], encoding_format="float")
    assert answer.data[0].embedding == pytest.approx(plain.data[0].embedding)
    assert len(client.embeddings.create(model=MINILM, input="hello", dimensions=16).data[0].embedding) == 16
    assert f"{DEMO}:latest" in [model.id for model in client.models.list()]
    assert client.models.retrieve(DEMO).id == DEMO


def test_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="not found"):
        client.chat.completions.create(model="nobody/nothing", messages=FRANCE)
    with pytest.raises(openai.BadRequestError, match="not"):
        client.chat.completions.create(
            model=DEMO,
            messages=FRANCE,
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}},
        )

    with pytest.raises(openai.BadRequestError, match="Invalid type for 'temperature'"):
        client.chat.completions.create(model=DEMO, messages=FRANCE, temperature="hot", stream=True)  # type: ignore[call-overload]


def test_who_leaves_a_stream_frees_its_sequence(server: LiveServer, client: openai.OpenAI, endless: str) -> None:
    with server.one_cancelled():
        stream = client.chat.completions.create(model=endless, messages=FRANCE, stream=True)
        assert next(stream).choices[0].delta.role == "assistant"
        stream.close()


def test_what_has_no_effect_is_told(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=DEMO, messages=FRANCE, max_completion_tokens=1, store=True, metadata={"a": "b"}, user="me"
    )
    assert raw.headers["X-Ignored-Fields"] == "metadata, store, user"
    assert raw.parse().choices


def test_the_asynchronous_client(server: LiveServer, endless: str) -> None:
    async def talk() -> None:
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client:
            asked: Any = {"model": DEMO, "messages": FRANCE, "temperature": 0, "reasoning_effort": "none"}
            parts = await client.chat.completions.create(**asked, stream=True)
            said = [choice.delta.content or "" async for part in parts for choice in part.choices]
            assert "Paris" in "".join(said)
            assert len((await client.embeddings.create(model=MINILM, input="hello")).data[0].embedding) == 384
            assert f"{DEMO}:latest" in [model.id async for model in client.models.list()]
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(**asked | {"model": "nobody/nothing"})
            long = await client.chat.completions.create(model=endless, messages=FRANCE, stream=True)
            assert (await anext(long)).choices
            await long.close()

    with server.one_cancelled():
        asyncio.run(talk())


def test_many_at_once(server: LiveServer) -> None:
    async def ask() -> list[str | None]:
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none") as client:
            asked = [
                client.chat.completions.create(model=DEMO, messages=FRANCE, temperature=0, reasoning_effort="none")
                for _ in range(8)
            ]
            return [answer.choices[0].message.content for answer in await asyncio.gather(*asked)]

    assert len(set(asyncio.run(ask()))) == 1


def test_the_log_likelihood_of_a_text(client: openai.OpenAI) -> None:
    """As evaluation harnesses ask: all of the prompt's tokens, and none generated that counts."""
    text = "Once upon a time there was a little cat."
    answer = client.completions.create(model=DEMO, prompt=text, max_tokens=1, echo=True, logprobs=1, temperature=0)
    logprobs = answer.choices[0].logprobs
    assert logprobs
    assert logprobs.tokens
    assert logprobs.token_logprobs
    assert "".join(logprobs.tokens) == answer.choices[0].text
    assert logprobs.token_logprobs[0] is None
    assert all(value is not None and value <= 0 for value in logprobs.token_logprobs[1:])
    assert logprobs.text_offset == [len("".join(logprobs.tokens[:i])) for i in range(len(logprobs.tokens))]
    assert logprobs.top_logprobs
    told: Any = list(zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True))[1:]
    assert all(best[token] == value for token, value, best in told)
    assert any(len(best) == 2 for _, _, best in told), "some token is not the likeliest"


def test_prompts_and_inputs_of_token_ids(client: openai.OpenAI, server: LiveServer) -> None:
    def ids(model: str, text: str) -> list[int]:
        body = {"model": model, "content": text}
        found: list[int] = requests.post(f"{server.url}/api/tokenize", json=body, timeout=60).json()["tokens"]
        return found

    text = "Once upon a time there was a little cat."
    by_text, by_ids = (
        client.completions.create(model=DEMO, prompt=prompt, max_tokens=8, echo=True, logprobs=1, temperature=0)
        for prompt in (text, [ids(DEMO, text)])
    )
    assert by_ids.choices[0].text == by_text.choices[0].text
    assert by_ids.choices[0].logprobs == by_text.choices[0].logprobs
    vectors = [
        client.embeddings.create(model=MINILM, input=value).data[0].embedding
        for value in ("hello", ids(MINILM, "hello"))
    ]
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-6)
    with pytest.raises(openai.BadRequestError, match="ids that this model does not have"):
        client.completions.create(model=DEMO, prompt=[10**6])
