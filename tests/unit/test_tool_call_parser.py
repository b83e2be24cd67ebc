"""Tool calls come whole, the text around them flows, and what is no call comes back as text."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.neutral.messages import ToolCall
from hugging_llama.parsing.tool_calls import ToolCallParser, new_call_id
from hugging_llama.parsing.tool_formats import HERMES, JSON, MISTRAL, ToolFormat
from tests.unit.pieces import pieces_of

CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo", "days": 2}}\n</tool_call>'
TEXTS = st.lists(
    st.sampled_from(
        [CALL, "<tool_call>", "</tool_call>", '{"name": "a"', "}", '"', "\\", " ", "\n", "x<", "<tool", "{", "[1]"]
    ),
    max_size=10,
).map("".join)

Part = str | tuple[str, dict[str, Any], int]


def run(pieces: list[str], format: ToolFormat = HERMES) -> list[Part]:
    machine = ToolCallParser(format)
    parts: list[Part] = []
    for found in [*(machine.push(piece) for piece in pieces), machine.finish()]:
        for part in found:
            if isinstance(part, ToolCall):
                parts.append((part.name, part.arguments, part.index))
            elif parts and isinstance(parts[-1], str):
                parts[-1] += part
            else:
                parts.append(part)
    return parts


WEATHER = ("weather", {"city": "Oslo", "days": 2}, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CALL, [WEATHER]),
        (f"Let me see.\n\n{CALL}\n", ["Let me see.", WEATHER]),
        (f"{CALL}\n{CALL}", [WEATHER, (*WEATHER[:2], 1)]),
        (f"{CALL}\n\nDone.", [WEATHER, "Done."]),
        ('<tool_call>{"name": "f"}</tool_call>', [("f", {}, 0)]),
        ('<tool_call>{"name": "f", "arguments": null}</tool_call>', [("f", {}, 0)]),
        ('<tool_call>{"name": "f", "parameters": {"a": 1}}</tool_call>', [("f", {"a": 1}, 0)]),
        ('<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', [("f", {"a": 1}, 0)]),
        ('<tool_call>{"type": "function", "function": {"name": "f"}}</tool_call>', [("f", {}, 0)]),
        ('<tool_call>[{"name": "f"}, {"name": "g"}]</tool_call>', [("f", {}, 0), ("g", {}, 1)]),
        ('<tool_call>{"name": "f", "arguments": {"a": "</tool_call>"}}</tool_call>', [("f", {"a": "</tool_call>"}, 0)]),
        ('<tool_call>{"name": "f"}', [("f", {}, 0)]),
    ],
)
def test_calls(text: str, expected: list[Part]) -> None:
    assert run([text]) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain text \n",
        "a <tool_call>not json</tool_call> b",
        "<tool_call></tool_call>",
        "<tool_call>{}</tool_call>",
        "<tool_call>[]</tool_call>",
        '<tool_call>{"name": ""}</tool_call>',
        '<tool_call>{"name": 5}</tool_call>',
        '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "f", "arguments": "nonsense"}</tool_call>',
        '<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": {"a": 1e999}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": {"a": "\\ud800"}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": ' + "[" * 100_000 + "}</tool_call>",
        '<tool_call>{"name": "f", "arguments": {"a": ' + "9" * 5000 + "}}</tool_call>",
        '<tool_call>{"name": "f',
        "text <tool",
    ],
)
def test_what_is_no_call_stays_text(text: str) -> None:
    assert run([text]) == ([text] if text else [])


def test_text_flows_and_a_call_comes_whole() -> None:
    machine = ToolCallParser()
    assert machine.push("I look. ") == ["I look."]
    assert machine.push('<tool_call>{"name": "f", ') == []
    assert machine.push('"arguments": {}}</tool_cal') == []
    (call,) = machine.push("l>")
    assert isinstance(call, ToolCall)
    assert call.name == "f"
    assert machine.finish() == []


def test_ids_look_like_ollamas() -> None:
    ids = {new_call_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"call_[a-z0-9]{8}", found) for found in ids)


def test_arguments_keep_their_order() -> None:
    (call,) = ToolCallParser().push('<tool_call>{"name": "f", "arguments": {"z": 1, "a": 2}}</tool_call>')
    assert isinstance(call, ToolCall)
    assert json.dumps(call.arguments) == '{"z": 1, "a": 2}'


def test_a_call_up_to_the_end_of_its_value() -> None:
    assert run(['Hm.[TOOL_CALLS] [{"name": "f"}]'], MISTRAL) == ["Hm.", ("f", {}, 0)]


def test_a_bare_call() -> None:
    assert run([' {"name": "f", "parameters": {"a": 1}}'], JSON) == [("f", {"a": 1}, 0)]
    assert run(['{"other": 1}'], JSON) == ['{"other": 1}']
    assert run([' see {"name": "f"}'], JSON) == [' see {"name": "f"}']


@given(TEXTS, st.data())
def test_any_split_gives_the_same(text: str, data: st.DataObject) -> None:
    whole = run([text])
    assert run(data.draw(pieces_of(text))) == whole
