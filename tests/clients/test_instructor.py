"""instructor over OpenAI's and Anthropic's clients: what its modes ask for is valid at the first try."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Literal

import anthropic
import openai
import pytest
from pydantic import BaseModel, ConfigDict

from tests.live_server import LiveServer

instructor: Any = pytest.importorskip("instructor", reason="needs the package instructor")

DEMO = "hugging-llama/demo"
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
# once, and without thoughts, which have no bound
ONCE = {"model": DEMO, "messages": FRANCE, "max_retries": 0, "max_tokens": 300}
GREEDY = {"temperature": 0, "extra_body": {"reasoning_effort": "none"}}
PLAIN = {"extra_body": {"reasoning_effort": "none", "thinking": {"type": "disabled"}}}


Over = Callable[[str], Any]


class Answer(BaseModel):
    """Nothing but these, or a tiny model says more than there is room for."""

    model_config = ConfigDict(extra="forbid")

    word: Literal["Paris", "Rome"]
    sure: bool


class Anything(BaseModel):
    """What the mode JSON asks for is an object; its schema stands in the prompt alone."""

    model_config = ConfigDict(extra="allow")


@pytest.fixture
def over_openai(server: LiveServer) -> Iterator[Over]:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client:
        yield lambda mode: instructor.from_openai(client, mode=instructor.Mode[mode]).chat.completions


@pytest.fixture
def over_anthropic(server: LiveServer) -> Iterator[Over]:
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as client:
        yield lambda mode: instructor.from_anthropic(client, mode=instructor.Mode[mode]).messages


def filled_in(asked: Any) -> Answer:
    """The last of several answers, all of them at the first try."""
    for _ in range(5):
        assert isinstance(asked.create(**ONCE, **PLAIN, response_model=Answer), Answer)
    found, completion = asked.create_with_completion(**ONCE, **PLAIN, response_model=Answer)
    assert completion.model == DEMO
    *_, last = asked.create_partial(**ONCE, **PLAIN, response_model=Answer)
    assert Answer.model_validate(last.model_dump())
    assert isinstance(found, Answer)
    return found


@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])
def test_a_model_is_filled_in(over_openai: Over, mode: str) -> None:
    filled_in(over_openai(mode))


def test_a_model_is_filled_in_by_anthropic(over_anthropic: Over) -> None:
    filled_in(over_anthropic("TOOLS"))


def test_a_schema_fills_in_piece_by_piece(over_openai: Over) -> None:
    parts = list(over_openai("JSON_SCHEMA").create_partial(**ONCE, **PLAIN, response_model=Answer))
    assert parts[0].model_dump() == {"word": None, "sure": None}
    assert [part.sure for part in parts if part.word is None] == [None] * sum(part.word is None for part in parts)
    assert isinstance(parts[-1].sure, bool)


def test_an_object_without_a_schema(over_openai: Over) -> None:
    assert isinstance(over_openai("JSON").create(**ONCE, **GREEDY, response_model=Anything), Anything)


def test_anthropic_takes_a_schema_beside_the_mode(over_anthropic: Over) -> None:
    """instructor itself only describes it in the prompt: it looks for a parameter that the client no longer has."""
    format = {"type": "json_schema", "schema": Answer.model_json_schema()}
    found = over_anthropic("JSON").create(**ONCE, **PLAIN, response_model=Answer, output_config={"format": format})
    assert isinstance(found, Answer)


def test_the_asynchronous_client(server: LiveServer) -> None:
    async def ask() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client:
            asked = instructor.from_openai(client, mode=instructor.Mode.TOOLS).chat.completions
            return await asyncio.gather(*(asked.create(**ONCE, **PLAIN, response_model=Answer) for _ in range(4)))

    assert all(isinstance(answer, Answer) for answer in asyncio.run(ask()))
