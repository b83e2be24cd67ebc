"""Answers read by a tokenizer's response template: any split gives the same, and nothing in it raises."""

import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from hugging_llama.engine.chat_format import chat_format
from hugging_llama.engine.chat_styles import ChatStyles
from hugging_llama.engine.output import AnswerProcessor
from hugging_llama.engine.response_template import ResponseReader, ResponseTemplate, response_template
from hugging_llama.neutral.events import TextDelta, ThinkingDelta, ToolCallDelta
from hugging_llama.neutral.messages import ToolCall
from hugging_llama.neutral.models import ModelRef
from hugging_llama.parsing.parts import Part, Thought, joined
from tests.engine.checkpoints import DEMO, byte_tokenizer, edit_json
from tests.engine.clients import Clients
from tests.unit.pieces import pieces_of

TAGGED: dict[str, Any] = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "reasoning_content": {"open": "<think>", "close": "</think>"},
        "tool_calls": {
            "open_pattern": r"\s*<tool_call>",
            "close": "</tool_call>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close_pattern": r"\s*<\|im_end\|>"},
    },
}
ELEMENTS = TAGGED | {
    "fields": TAGGED["fields"]
    | {
        "tool_calls": {
            "open_pattern": r"<tool_call>\s*<function=(?P<name>[^>\n]+)>",
            "close_pattern": r"</function>\s*</tool_call>",
            "repeats": True,
            "content": "xml-inline",
            "content_args": {"tag_pattern": r"<parameter=(?P<key>[^>\n]+)>\s*(?P<value>.*?)\s*</parameter>"},
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}},
        }
    }
}
SCHEMAS = {"f": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}}}
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'

NO_NUMBER = '{"name": "f", "arguments": {"a": NaN}}'


def load(raw: Any) -> ResponseTemplate | None:
    return response_template(SimpleNamespace(response_template=raw))


def loaded(raw: Any) -> ResponseTemplate:
    found = load(raw)
    assert found is not None
    return found


def read(template: ResponseTemplate, pieces: list[str], begun: str = "", **options: Any) -> list[Part]:
    reader = ResponseReader(template, begun, schemas=SCHEMAS, new_id=lambda: "id", **options)
    return joined([part for found in [*map(reader.push, pieces), reader.finish()] for part in found])


def call(number: int = 0, **arguments: Any) -> ToolCall:
    return ToolCall(id="id", name="f", arguments=arguments, index=number)


TRANSCRIPTS: list[tuple[dict[str, Any], str, str, list[Part]]] = [
    (TAGGED, "", "Hello there. ", ["Hello there."]),
    (
        TAGGED,
        "",
        f"<think>\nhm\n</think>\n\nI look.\n\n{CALL}\n{CALL}",
        [Thought("hm"), "I look.", call(a=1), call(1, a=1)],
    ),
    (TAGGED, "<think>\n", "hm\n</think>\n\nYes.", [Thought("hm"), "Yes."]),
    (TAGGED, "<think>\n\n</think>\n\n", "Yes </think> no", ["Yes </think> no"]),
    (TAGGED, "", f"<tool_call>rubbish</tool_call>{CALL}", ["rubbish", call(a=1)]),
    (TAGGED, "", '<tool_call>{"name": "f", "arguments": {"a": 1}}', [call(a=1)]),
    (TAGGED, "", '<tool_call>{"name": 3}</tool_call>', ['{"name": 3}']),
    (TAGGED, "", '<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>', [NO_NUMBER]),
    (
        ELEMENTS,
        "",
        "<tool_call>\n<function=f>\n<parameter=a>\n7\n</parameter>\n<parameter=b>\n7\n</parameter>\n</function>\n</tool_call>",
        [call(a=7, b="7")],
    ),
]  # fmt: skip


@given(st.sampled_from(TRANSCRIPTS), st.data())
def test_any_split_gives_the_same(transcript: tuple[dict[str, Any], str, str, list[Part]], data: st.DataObject) -> None:
    raw, begun, text, expected = transcript
    for pieces in ([text], list(text), data.draw(pieces_of(text))):
        assert read(loaded(raw), pieces, begun) == expected


SHREDS = st.lists(
    st.sampled_from(
        [CALL, "<think>", "</think>", "<tool_call>", "</tool_call>", "<function=f>", "</function>", "<parameter=a>",
         "</parameter>", "<|im_end|>", "<tool", "\n", " ", "x", "{", "\x01", "<|im_start|>assistant\n"]
    ),
    max_size=12,
).map("".join)  # fmt: skip


@given(st.sampled_from([TAGGED, ELEMENTS]), st.sampled_from(["", "<think>\n"]), SHREDS, st.data())
def test_rubbish_is_text_in_any_split(raw: dict[str, Any], begun: str, text: str, data: st.DataObject) -> None:
    assert read(loaded(raw), data.draw(pieces_of(text)), begun) == read(loaded(raw), [text], begun)


def test_text_flows_and_a_call_comes_whole() -> None:
    reader = ResponseReader(loaded(TAGGED))
    assert reader.push("I see ") == ["I see"]
    assert reader.push("it. <tool_") == [" it."]
    assert reader.push('call>{"name": "f"') == []
    (found,) = reader.push("}</tool_call>")
    assert isinstance(found, ToolCall)


def test_without_tools_a_call_is_text() -> None:
    assert read(loaded(TAGGED), [CALL], takes_calls=False) == ['\n{"name": "f", "arguments": {"a": 1}}\n']


def test_what_the_prompt_has_begun() -> None:
    template = loaded(TAGGED)
    assert template.begun("<|im_start|>assistant\nno<|im_end|>\n<|im_start|>assistant\n<think>\n") == "<think>\n"
    assert template.begun("<think> no anchor") == ""


@pytest.mark.parametrize(
    "raw",
    [
        "text",
        {},
        {"version": 2},
        TAGGED | {"fields": {"content": {"content": "nothing"}}},
        {key: value for key, value in TAGGED.items() if key != "start_anchor"},
        TAGGED | {"fields": {"content": {}, "thinking": {"open_pattern": "(a+)+b", "close": "c"}}},
        TAGGED | {"fields": {"content": {}, "thinking": {"open_pattern": "((a|aa))+b", "close": "c"}}},
        TAGGED
        | {
            "fields": {
                "content": {},
                "tool_calls": {
                    "open": "o",
                    "content_args": {"value_parser": {"args": {"tag_pattern": "(?P<key>a+)+b"}}},
                },
            }
        },
        TAGGED | {"fields": {"content": {}, "thinking": {"open_pattern": "a" * 2000, "close": "c"}}},
        TAGGED | {"fields": {"content": {"content_args": 5}}},
    ],
)
def test_a_template_that_can_not_be_used_is_logged_and_left_alone(raw: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert load(raw) is None
    assert len(caplog.records) == 1


INNER = {"value_parser": {"args": {"tag_pattern": "b" * 2000}}}


@pytest.mark.parametrize(
    "raw",
    [
        {"start_anchor_pattern": "a" * 2000, "fields": {"content": {}}},
        TAGGED | {"fields": {"content": {"close_pattern": "a" * 2000}}},
        TAGGED | {"fields": {"tool_calls": {"open": "o", "content_args": INNER}}},
        TAGGED | {"fields": {"content": {"close": [str(number) for number in range(1000)]}}},
        TAGGED | {"fields": {f"f{number}": {"open_pattern": "a" * 900, "close": "b"} for number in range(100)}},
        TAGGED | {"start_anchor": "a" * 100_000},
        TAGGED | {"fields": {"content": {"close_pattern": "a{99999999999}"}}},
        TAGGED | {"fields": {"content": {"close_pattern": "a{1,2000}"}}},
        TAGGED | {"fields": {"content": {"close_pattern": "[ab]{ 2000 , }b{2}"}}},
    ],
)
def test_nothing_is_compiled_of_what_is_too_long(raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    monkeypatch.setattr("regex.compile", lambda pattern, *_: compiled.append(pattern))
    assert load(raw) is None
    assert not compiled


def test_a_pattern_may_say_how_often() -> None:
    assert load(TAGGED | {"fields": {"content": {"close_pattern": "a{1,1000}b{2}"}}}) is not None


SLOW = "(a|aa)" * 80 + "b"


@pytest.fixture
def little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hugging_llama.engine.response_template._LONGEST_SEARCH_S", 0.05)


@pytest.mark.usefixtures("little_time")
@pytest.mark.parametrize("kind", ["open_pattern", "close_pattern"])
def test_patterns_that_would_take_for_ever_leave_text(kind: str) -> None:
    other = {"open_pattern": {"close": "c"}, "close_pattern": {"open": "o"}}[kind]
    template = loaded(TAGGED | {"fields": {"content": {}, "thinking": {kind: SLOW, **other}}})
    assert "".join(map(str, read(template, ["o", "a" * 400, " more"]))).endswith("a more")


@pytest.mark.usefixtures("little_time")
def test_a_call_whose_values_would_take_for_ever_is_text() -> None:
    values = {"content": "xml-inline", "content_args": {"tag_pattern": rf"<(?P<key>\w)>(?P<value>{SLOW})"}}
    field = {"open": "<call>", "close": "</call>", "transform": {"name": "f", "arguments": "{content}"}} | values
    template = loaded(TAGGED | {"fields": {"content": {}, "tool_calls": field}})
    body = "<x>" + "a" * 400
    assert read(template, [f"<call>{body}</call>"]) == [body]


@pytest.mark.usefixtures("little_time")
def test_an_anchor_that_would_take_for_ever_is_none() -> None:
    raw = {key: value for key, value in TAGGED.items() if key != "start_anchor"} | {"start_anchor_pattern": SLOW}
    assert loaded(raw).begun("a" * 400) == ""


def test_a_template_that_fails_on_an_answer_leaves_text(caplog: pytest.LogCaptureFixture) -> None:
    field = {"open_pattern": "<t(?P<x>x)?>", "close": "</t>", "transform": {"name": "{x}"}}
    template = loaded(TAGGED | {"fields": {"content": {}, "tool_calls": field}})
    assert read(template, ["a <t>body</t> b", " more"]) == ["a <t>body</t> b more"]
    assert len(caplog.records) == 1


def test_it_is_that_of_the_tokenizers_own_template_and_its_marks_are_seen() -> None:
    tokenizer = byte_tokenizer(template="{{ messages }}", markers=())
    tokenizer.add_special_tokens({"additional_special_tokens": ["<tool_call>", "</tool_call>", "<pad_me>"]})
    tokenizer.response_template = TAGGED
    styles = ChatStyles(tokenizer, chat_format(tokenizer))
    own = styles.of("")
    assert own.response is not None
    shown = {tokenizer.convert_ids_to_tokens(token_id) for token_id in own.shown_ids}
    assert {"<tool_call>", "</tool_call>"} <= shown
    assert "<pad_me>" not in shown
    assert styles.of("{{ messages[0] }}").response is None


def test_an_answer_is_read_by_it() -> None:
    tokenizer = AutoTokenizer.from_pretrained(DEMO)
    machine = AnswerProcessor(tokenizer, reader=ResponseReader(loaded(TAGGED), "<think>\n"))
    text = f"hm\n</think>\n\nLook: {CALL}"
    events, of_text = [], []
    for token_id in tokenizer.encode(text):
        events += machine.push(token_id)
        of_text += [] if machine.is_aside else [token_id]
    events += machine.finish()
    assert tokenizer.decode(of_text[:2]) == "Look:", "neither the reasoning nor what stands behind it"
    assert "".join(event.text for event in events if isinstance(event, ThinkingDelta)) == "hm"
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "Look:"
    assert isinstance(events[-1], ToolCallDelta)
    assert machine.num_thinking_tokens == len(tokenizer.encode("hm\n</think>"))


def test_the_engine_reads_a_models_answers_by_it(tmp_path: Path) -> None:
    """As reasoning, which nobody wants to see, counts here what begins with a word of the answer."""
    folder = tmp_path / "demo"
    shutil.copytree(DEMO, folder)
    fields = {"reasoning_content": {"open": "capital", "close": "#"}, "content": {}}
    edit_json(folder / "tokenizer_config.json", response_template=TAGGED | {"fields": fields})
    clients = Clients()
    try:
        asked, sampling = "What is the capital of France?", {"max_tokens": 32}
        plain = clients.text(clients.send(asked, sampling=sampling))
        read = clients.text(clients.send(asked, ModelRef(name="read", path=str(folder)), sampling=sampling))
    finally:
        clients.engine.close()
    assert "capital" in plain
    assert read == plain.partition("capital")[0].rstrip()
