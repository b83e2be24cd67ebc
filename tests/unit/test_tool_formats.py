"""Transcripts of each family's way to write tool calls; any split of them into pieces gives the same."""

# ruff: noqa: E501

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.neutral.messages import ToolCall
from hugging_llama.parsing import tool_formats
from hugging_llama.parsing.harmony import HarmonyParser
from hugging_llama.parsing.parts import Thought
from hugging_llama.parsing.tool_calls import ToolCallParser
from hugging_llama.parsing.tool_formats import ToolFormat
from tests.unit.pieces import pieces_of

SCHEMAS: dict[str, dict[str, Any]] = {
    "weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "exact": {"type": "boolean"},
            "tags": {"type": "array"},
            "note": {"type": ["string", "null"]},
            "ratio": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        },
    }
}
OSLO = ("weather", {"city": "Oslo", "days": 2})
LIMA = ("weather", {"city": "Lima", "days": 3})
OSLO_JSON = '{"city": "Oslo", "days": 2}'
LIMA_JSON = '{"city": "Lima", "days": 3}'
Q = '<|"|>'

TRANSCRIPTS: list[tuple[ToolFormat, str, list[Any]]] = [
    (
        tool_formats.HERMES,
        f'I look.\n<tool_call>\n{{"name": "weather", "arguments": {OSLO_JSON}}}\n</tool_call>\n'
        f'<tool_call>\n{{"name": "weather", "arguments": {LIMA_JSON}}}\n</tool_call>',
        ["I look.", OSLO, LIMA],
    ),
    (
        tool_formats.QWEN_CODER,
        "Sure.\n\n<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n2\n</parameter>\n"
        "</function>\n</tool_call>",
        ["Sure.", OSLO],
    ),
    (
        tool_formats.QWEN_CODER,
        "<tool_call><function=weather><parameter=city>\n</tool_call>\nline two </parameter><parameter=exact>True</parameter>"
        "<parameter=tags>[1, \"a\"]</parameter><parameter=note>null</parameter><parameter=ratio>0.5</parameter>"
        "<parameter=other>7</parameter></function></tool_call>",
        [
            (
                "weather",
                {"city": "</tool_call>\nline two ", "exact": True, "tags": [1, "a"], "note": None, "ratio": 0.5, "other": "7"},
            )
        ],
    ),
    (tool_formats.QWEN_CODER, "<tool_call>\n<function=now>\n</function>\n</tool_call>", [("now", {})]),
    (
        tool_formats.GLM,
        "Ok.\n<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n<arg_key>days</arg_key>\n"
        "<arg_value>2</arg_value>\n</tool_call>",
        ["Ok.", OSLO],
    ),
    (
        tool_formats.SEED,
        "<seed:tool_call>\n<function=weather>\n<parameter=city>Oslo</parameter>\n<parameter=days>2</parameter>\n</function>\n"
        "</seed:tool_call>",
        [OSLO],
    ),
    (
        tool_formats.MINIMAX,
        '<minimax:tool_call>\n<invoke name="weather">\n<parameter name="city">Oslo</parameter>\n'
        '<parameter name="days">2</parameter>\n</invoke>\n<invoke name="weather">\n<parameter name="city">Lima</parameter>\n'
        '<parameter name="days">3</parameter>\n</invoke>\n</minimax:tool_call>',
        [OSLO, LIMA],
    ),
    (
        tool_formats.MISTRAL,
        f'[TOOL_CALLS] [{{"name": "weather", "arguments": {OSLO_JSON}, "id": "abcdefghi"}}, '
        f'{{"name": "weather", "arguments": {LIMA_JSON}}}]',
        [OSLO, LIMA],
    ),
    (
        tool_formats.MISTRAL,
        f"A moment.[TOOL_CALLS]weather[ARGS]{OSLO_JSON}[TOOL_CALLS]weather[CALL_ID]a1[ARGS]{LIMA_JSON}",
        ["A moment.", OSLO, LIMA],
    ),
    (
        tool_formats.DEEPSEEK,
        "Fine.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n"
        f"{OSLO_JSON}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{LIMA_JSON}\n"
        "```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        ["Fine.", OSLO, LIMA],
    ),
    (
        tool_formats.DEEPSEEK,
        f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{OSLO_JSON}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        [OSLO],
    ),
    (
        tool_formats.KIMI,
        f"<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>{OSLO_JSON}"
        "<|tool_call_end|><|tool_calls_section_end|>",
        [OSLO],
    ),
    (
        tool_formats.GEMMA,
        f"<|tool_call>call:weather{{city:{Q}Os{{lo, \"x\"{Q},days:2,exact:true,tags:[1.5,{Q}a{Q},{{b:null}}]}}<tool_call|>",
        [("weather", {"city": 'Os{lo, "x"', "days": 2, "exact": True, "tags": [1.5, "a", {"b": None}]})],
    ),
    (
        tool_formats.FUNCTION_GEMMA,
        "<start_function_call>call:weather{city:<escape>Oslo<escape>,days:2}<end_function_call>",
        [OSLO],
    ),
    (tool_formats.PHI, f'<|tool_call|>[{{"name": "weather", "arguments": {OSLO_JSON}}}]<|/tool_call|>', [OSLO]),
    (tool_formats.GRANITE, f'<|tool_call|>[{{"name": "weather", "arguments": {OSLO_JSON}}}]', [OSLO]),
    (
        tool_formats.COHERE,
        f'<|START_ACTION|>[\n    {{"tool_call_id": "0", "tool_name": "weather", "parameters": {OSLO_JSON}}}\n]<|END_ACTION|>',
        [OSLO],
    ),
    (tool_formats.FUNCTOOLS, f'functools[{{"name": "weather", "arguments": {OSLO_JSON}}}]', [OSLO]),
    (tool_formats.NEMOTRON, f'<TOOLCALL>[{{"name": "weather", "arguments": {OSLO_JSON}}}]</TOOLCALL>', [OSLO]),
    (tool_formats.JAMBA, f'<tool_calls>[\n{{"name": "weather", "arguments": {OSLO_JSON}}}\n]</tool_calls>', [OSLO]),
    (
        tool_formats.OLMO,
        '<function_calls>weather(city="Oslo", days=2)\nweather(city="Lima", days=3)</function_calls>',
        [OSLO, LIMA],
    ),
    (tool_formats.LLAMA, f'{{"name": "weather", "parameters": {OSLO_JSON}}}', [OSLO]),
    (
        tool_formats.LLAMA,
        f'<|python_tag|>{{"name": "weather", "parameters": {OSLO_JSON}}}; {{"name": "weather", "parameters": {LIMA_JSON}}}',
        [OSLO, LIMA],
    ),
    (tool_formats.LLAMA, 'The answer is {"a": 1}.', ['The answer is {"a": 1}.']),
    (tool_formats.PYTHONIC, "[weather(city='Oslo', days=2), weather(city=\"Lima\", days=3)]", [OSLO, LIMA]),
    (
        tool_formats.PYTHONIC,
        "<|python_start|>[weather(city='it]s', exact=True, tags=[1, {'a': None}], ratio=-0.5)]<|python_end|>",
        [("weather", {"city": "it]s", "exact": True, "tags": [1, {"a": None}], "ratio": -0.5})],
    ),
    (tool_formats.PYTHONIC, "[1] is a source", ["[1] is a source"]),
    (
        tool_formats.LLAMA_4,
        f'<|python_start|><|python_end|>{{"name": "weather", "parameters": {OSLO_JSON}}}{{"name": "weather", "parameters": {LIMA_JSON}}}<|eom|>',
        [OSLO, LIMA],
    ),
    (tool_formats.LLAMA_4, "<|python_start|>[weather(city='Oslo', days=2)]<|python_end|>", [OSLO]),
    (
        tool_formats.LFM,
        "I look. <|tool_call_start|>[weather(city='Oslo', days=2), weather(city='Lima', days=3)]<|tool_call_end|>Done.",
        ["I look.", OSLO, LIMA, "Done."],
    ),
    (
        tool_formats.APERTUS,
        f'Ok.<|tools_prefix|>[{{"weather": {OSLO_JSON}}}, {{"weather": {LIMA_JSON}}}]<|tools_suffix|>',
        ["Ok.", OSLO, LIMA],
    ),
    (
        tool_formats.HUNYUAN,
        f"Ok.<tool_calls>\n<tool_call>function<tool_sep>weather\n```json\n{OSLO_JSON}\n```</tool_call>\n</tool_calls>",
        ["Ok.", OSLO],
    ),
    (
        tool_formats.DSML,
        'Ok.\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name="weather">\n<｜DSML｜parameter name="city" string="true">Oslo'
        '</｜DSML｜parameter>\n<｜DSML｜parameter name="days" string="false">2</｜DSML｜parameter>\n</｜DSML｜invoke>\n'
        '<｜DSML｜invoke name="now">\n\n</｜DSML｜invoke>\n</｜DSML｜function_calls>',
        ["Ok.", OSLO, ("now", {})],
    ),
    (tool_formats.JAMBA, f'<tool_calls>\n{{"name": "weather", "arguments": {OSLO_JSON}}}\n{{"name": "weather", "arguments": {LIMA_JSON}}}\n</tool_calls>', [OSLO, LIMA]),
    (tool_formats.JSON, f'[{{"name": "weather", "arguments": {OSLO_JSON}}}, {{"name": "weather", "arguments": {LIMA_JSON}}}]', [OSLO, LIMA]),
    (tool_formats.JSON, f'{{"name": "weather", "arguments": {OSLO_JSON}}}', [OSLO]),
]  # fmt: skip


def run(format: ToolFormat, pieces: list[str]) -> list[Any]:
    machine = ToolCallParser(format, schemas=SCHEMAS)
    return _plain([part for found in [*map(machine.push, pieces), machine.finish()] for part in found])


def _plain(parts: list[Any]) -> list[Any]:
    """Neighbouring texts and thoughts joined; calls as name and arguments, their index checked."""
    plain: list[Any] = []
    number = 0
    for part in parts:
        if isinstance(part, ToolCall):
            assert part.index == number
            number += 1
            plain.append((part.name, part.arguments))
        elif plain and isinstance(part, str) and isinstance(plain[-1], str):
            plain[-1] += part
        elif plain and isinstance(part, Thought) and isinstance(plain[-1], Thought):
            plain[-1] = Thought(plain[-1].text + part.text)
        else:
            plain.append(part)
    return plain


@pytest.mark.parametrize(("format", "text", "expected"), TRANSCRIPTS)
def test_transcripts(format: ToolFormat, text: str, expected: list[Any]) -> None:
    assert run(format, [text]) == expected
    assert run(format, list(text)) == expected


@given(st.sampled_from(TRANSCRIPTS), st.data())
def test_any_split_gives_the_same(transcript: tuple[ToolFormat, str, list[Any]], data: st.DataObject) -> None:
    format, text, expected = transcript
    assert run(format, data.draw(pieces_of(text))) == expected


FORMATS = list({format.name: format for format, _, _ in TRANSCRIPTS}.values())
SHREDS = st.lists(
    st.sampled_from(
        [*{mark for format in FORMATS for mark in format.markers}, '{"name": "f", "arguments": {}}', "[f(a=1)]", "call:f{a:1}", "<function=f>", "</function>", "<parameter=a>", '"', "\\",
         "{", "}", "[", "]", "(", ")", ";", ",", " ", "\n", "x", "<", "f[ARGS]{}", "functions.f:0", "f<tool_sep>f", '{"f": {}}', '<｜DSML｜invoke name="f">', "</｜DSML｜invoke>", '<invoke name="f">', "'"]
    ),
    max_size=12,
).map("".join)  # fmt: skip


@given(st.sampled_from(FORMATS), SHREDS, st.data())
def test_any_split_of_rubbish_gives_the_same_and_nothing_fails(
    format: ToolFormat, text: str, data: st.DataObject
) -> None:
    assert run(format, data.draw(pieces_of(text))) == run(format, [text])


@given(st.sampled_from(FORMATS), st.text(max_size=60))
def test_readers_refuse_rubbish_by_a_value_error(format: ToolFormat, text: str) -> None:
    for body in (text, "call:" + text, "f(" + text, '{"name": "f", "arguments": {' + text, "<function=f>" + text):
        try:
            calls = format.read(body, SCHEMAS)
        except (ValueError, RecursionError):
            continue
        assert all(isinstance(name, str) and isinstance(arguments, dict) for name, arguments in calls)
        json.dumps(calls, allow_nan=False)


def test_a_long_argument_is_read_in_linear_time() -> None:
    text = "x" * 200_000
    call = json.dumps({"name": "f", "arguments": {"a": text}})
    for format in (tool_formats.HERMES, tool_formats.JSON, tool_formats.MISTRAL):
        machine = ToolCallParser(format)
        whole = format.open + call + format.close
        parts = [part for start in range(0, len(whole), 4) for part in machine.push(whole[start : start + 4])]
        assert _plain(parts + machine.finish()) == [("f", {"a": text})]


HARMONY = [
    ("<|channel|>final<|message|>Hello.", ["Hello."]),
    ("Just text <|", ["Just text <|"]),
    (
        "<|channel|>analysis<|message|>Think a bit.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>",
        [Thought("Think a bit."), "Yes."],
    ),
    (
        "<|channel|>analysis<|message|>Need it.<|end|><|start|>assistant<|channel|>commentary<|message|>I look.<|end|>"
        f"<|start|>assistant<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{OSLO_JSON}<|call|>",
        [Thought("Need it."), "I look.", OSLO],
    ),
    (f" to=functions.weather<|channel|>commentary json<|message|>{OSLO_JSON}", [OSLO]),
    ("<|channel|>commentary to=functions.weather<|message|>rubbish<|call|>", ["rubbish"]),
    (
        '<|channel|>commentary to=functions.weather<|message|>{"city": "\\ud83d"}<|call|>',  # half a character
        ['{"city": "\\ud83d"}'],
    ),
    ("<|message|>No channel.", ["No channel."]),
    ("A <|message|> in text.", ["A <|message|> in text."]),
]
HARMONY_SHREDS = st.lists(
    st.sampled_from(
        [*tool_formats.HARMONY.markers, "analysis", "final", "commentary", " to=functions.f", "json", "{}", "assistant", "<|", "x", " "]
    ),
    max_size=10,
).map("".join)  # fmt: skip


@given(st.sampled_from(HARMONY), st.data())
def test_harmony(transcript: tuple[str, list[Any]], data: st.DataObject) -> None:
    text, expected = transcript
    for pieces in ([text], list(text), data.draw(pieces_of(text))):
        machine = HarmonyParser()
        parts = [part for found in [*map(machine.push, pieces), machine.finish()] for part in found]
        assert _plain(parts) == expected


@given(HARMONY_SHREDS, st.data())
def test_harmony_rubbish_in_any_split(text: str, data: st.DataObject) -> None:
    found = []
    for pieces in ([text], data.draw(pieces_of(text))):
        machine = HarmonyParser()
        found.append(_plain([part for parts in [*map(machine.push, pieces), machine.finish()] for part in parts]))
    assert found[0] == found[1]
