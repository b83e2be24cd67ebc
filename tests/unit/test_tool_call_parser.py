"""Tool calls come whole, the text around them flows, and what is no call comes back as text."""

import json
import math
import re
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.neutral.messages import ToolCall
from hugging_llama.parsing.tool_calls import ToolCallParser, new_call_id
from hugging_llama.parsing.tool_formats import (
    DEEPSEEK,
    GEMMA,
    GLM,
    HERMES,
    JSON,
    MISTRAL,
    PYTHONIC,
    QWEN_CODER,
    ToolFormat,
)
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
        '<tool_call>{"name": "f", "arguments": {"a": "\\ud800"}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": ' + "[" * 100_000 + "}</tool_call>",
        '<tool_call>{"name": "f',
        "text <tool",
    ],
)
def test_what_is_no_call_stays_text(text: str) -> None:
    assert run([text]) == ([text] if text else [])


@pytest.mark.parametrize(
    ("format", "text"),
    [
        (HERMES, '<tool_call>{{"name": "f", "arguments": {{"a": {}}}}}</tool_call>'),
        (PYTHONIC, "[f(a={})]"),
        (GEMMA, "<|tool_call>call:f{{a:{}}}<tool_call|>"),
    ],
)
@pytest.mark.parametrize("number", ["1e999", "-17e733", "1.5e400"])
def test_a_call_is_not_lost_to_a_number_beyond_all_doubles(format: ToolFormat, text: str, number: str) -> None:
    most = math.copysign(sys.float_info.max, -1 if number.startswith("-") else 1)
    assert run([text.format(number)], format) == [("f", {"a": most}, 0)]


@pytest.mark.parametrize("digits", [30, 4000, 5000])
def test_a_call_is_not_lost_to_a_long_integer(digits: int) -> None:
    text = '<tool_call>{"name": "f", "arguments": {"a": ' + "9" * digits + "}}</tool_call>"
    expected = int("9" * digits) if digits < 4300 else sys.float_info.max
    assert run([text]) == [("f", {"a": expected}, 0)]


@pytest.mark.parametrize(
    ("call", "name", "arguments"),
    [
        (
            'mail(from="x", in=None, class=[1], None=True)',
            "mail",
            {"from": "x", "in": None, "class": [1], "None": True},
        ),
        ('get-weather(max-temp=-1, city="import(in=1)")', "get-weather", {"max-temp": -1, "city": "import(in=1)"}),
        ("global(a='it\\'s from=1', b=\"c(d=\")", "global", {"a": "it's from=1", "b": "c(d="}),
        ("mcp.in.get(\ufb01=1, größe={'from': 2})", "mcp.in.get", {"\ufb01": 1, "größe": {"from": 2}}),
        ("f(name0=1, in=2)", "f", {"name0": 1, "in": 2}),
    ],
)
def test_names_that_python_keeps_for_itself(call: str, name: str, arguments: dict[str, Any]) -> None:
    assert run([f"[{call}]"], PYTHONIC) == [(name, arguments, 0)]


def test_a_call_that_was_cut_is_no_call() -> None:
    text = "f\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n<arg_key>b</arg_key>\n<arg_value>2</arg_value>\n"
    whole = f"<tool_call>{text}</tool_call>"
    assert run([whole], GLM) == [("f", {"a": "1", "b": "2"}, 0)]
    for end in range(len(whole)):
        assert run([whole[:end]], GLM) == ([whole[:end]] if end else [])
    whole = "<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n</function>"
    for end in range(len("<tool_call>\n<function=f>\n<"), len(whole) - 1):
        assert run([whole[:end]], QWEN_CODER) == [whole[:end]]


def test_a_fence_in_an_argument_is_none_around_it() -> None:
    text = "<｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜>".format('{"a": "```json x```\\n"}')
    assert run([text], DEEPSEEK) == [("f", {"a": "```json x```\n"}, 0)]


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
