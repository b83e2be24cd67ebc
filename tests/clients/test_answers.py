"""Thinking, tools, an enforced choice of tools and a format, each with each, against the demo model for real."""

import itertools
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jsonschema
import pytest
import requests

from tests.live_server import LiveServer

DEMO = "hugging-llama/demo"
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}},
    "required": ["city"],
    "additionalProperties": False,
}
SUM = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
PARAMETERS = {"get_weather": CITY, "add": SUM}
TOOLS = [{"type": "function", "function": {"name": n, "parameters": p}} for n, p in PARAMETERS.items()]
NAMED = {"type": "function", "function": {"name": "add"}}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["Ada", "Max"]}, "ok": {"type": "boolean"}},
    "required": ["name", "ok"],
    "additionalProperties": False,
}


class Asked(NamedTuple):
    """The parts of a request; None leaves one out."""

    think: Any
    format: Any
    choice: Any
    has_tools: bool
    parallel: bool

    @property
    def is_required(self) -> bool:
        return self.choice in ("required", NAMED)

    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": DEMO,
            "messages": [{"role": "user", "content": "What is the weather in Oslo?"}],
            "options": {"temperature": 0, "num_predict": 300, "thinking_budget": 24},
            "parallel_tool_calls": self.parallel,
        }
        given = {"think": self.think, "format": self.format, "tool_choice": self.choice}
        body |= {key: value for key, value in given.items() if value is not None}
        return body | ({"tools": TOOLS} if self.has_tools else {})


def combinations() -> Iterator[Asked]:
    for think, format in itertools.product((None, True, False, "low"), (None, "json", SCHEMA)):
        yield Asked(think, format, None, has_tools=False, parallel=True)
        for choice in (None, "none", "required", NAMED):
            yield Asked(think, format, choice, has_tools=True, parallel=True)
        yield Asked(think, format, "required", has_tools=True, parallel=False)


class Answer(NamedTuple):
    chunks: list[dict[str, Any]]

    def joined(self, key: str) -> str:
        return "".join(chunk["message"].get(key, "") for chunk in self.chunks)

    @property
    def calls(self) -> list[dict[str, Any]]:
        return [call for chunk in self.chunks for call in chunk["message"].get("tool_calls", ())]


@pytest.fixture(scope="module")
def answers(server: LiveServer) -> list[tuple[Asked, Answer]]:
    def ask(asked: Asked) -> tuple[Asked, Answer]:
        response = requests.post(f"{server.url}/api/chat", json=asked.body(), timeout=120)
        assert response.status_code == 200, f"{asked}: {response.text}"
        return asked, Answer([json.loads(line) for line in response.text.splitlines()])

    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(ask, combinations()))


def test_every_stream_has_the_shape_of_the_contract(answers: list[tuple[Asked, Answer]]) -> None:
    for asked, answer in answers:
        *chunks, last = answer.chunks
        assert last["done"], asked
        assert last["message"] == {"role": "assistant", "content": ""}
        assert last["done_reason"] == "stop", asked
        kinds = []
        for chunk in chunks:
            message = chunk["message"]
            assert not chunk["done"]
            assert message["role"] == "assistant"
            said = [key for key in ("thinking", "content", "tool_calls") if message.get(key)]
            assert len(said) == 1, message
            kinds += said
        assert "thinking" not in kinds[kinds.count("thinking") :], kinds
        for number, call in enumerate(answer.calls):
            assert list(call) == ["id", "function"]
            assert re.fullmatch(r"call_[a-z0-9]{8}", call["id"])
            assert call["function"]["index"] == number


def test_thinking_comes_where_it_is_wanted_and_never_in_the_text(answers: list[tuple[Asked, Answer]]) -> None:
    for asked, answer in answers:
        thought, text = answer.joined("thinking"), answer.joined("content")
        assert bool(thought) is (asked.think is not False), asked
        assert thought == thought.strip()
        assert "think>" not in thought + text, asked


def test_calls_come_where_they_must_and_are_valid(answers: list[tuple[Asked, Answer]]) -> None:
    for asked, answer in answers:
        functions = [call["function"] for call in answer.calls]
        for function in functions:
            assert asked.has_tools
            if asked.is_required or asked.format:
                jsonschema.validate(function["arguments"], PARAMETERS[function["name"]])
        if asked.choice == "none" or not asked.has_tools:
            assert not functions, asked
        if asked.is_required:
            assert functions, asked
            assert answer.joined("content") == ""
            assert asked.parallel or len(functions) == 1
        if asked.choice == NAMED:
            assert {function["name"] for function in functions} == {"add"}
    assert any(answer.calls for asked, answer in answers if asked.choice in (None, "auto") and not asked.format)


def test_what_is_no_call_has_the_format(answers: list[tuple[Asked, Answer]]) -> None:
    for asked, answer in answers:
        if not asked.format or answer.calls:
            continue
        value = json.loads(answer.joined("content"))
        jsonschema.validate(value, SCHEMA if asked.format is SCHEMA else {"type": "object"})


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"think": "deep"}, 'invalid think value: "deep" (must be "high", "medium", "low", "max", true, or false)'),
        ({"think": 3}, 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'),
        ({"tool_choice": "required"}, "tool_choice needs tools"),
        ({"tool_choice": {"function": {"name": "nobody"}}, "tools": TOOLS}, "nobody"),
    ],
)
def test_what_makes_no_sense_is_refused(server: LiveServer, body: dict[str, Any], error: str) -> None:
    asked = {"model": DEMO, "messages": [{"role": "user", "content": "Hi"}]} | body
    response = requests.post(f"{server.url}/api/chat", json=asked, timeout=60)
    assert response.status_code == 400
    assert error in response.json()["error"]
