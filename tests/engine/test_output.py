"""From ids to events: characters stay whole, spaces stay right, tags and stop strings never show."""

import functools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from hugging_llama.engine.chat_format import chat_format, marker_ids
from hugging_llama.engine.detokenizer import Detokenizer
from hugging_llama.engine.output import AnswerProcessor
from hugging_llama.neutral.events import GenerateEvent, TextDelta, ThinkingDelta, ToolCallDelta
from hugging_llama.neutral.messages import ToolCall
from hugging_llama.parsing.thinking_tags import ThinkingTags
from hugging_llama.parsing.tool_calls import ToolCallParser
from hugging_llama.parsing.tool_formats import HERMES, ToolFormat
from tests.engine.checkpoints import DEMO, byte_tokenizer, piece_tokenizer
from tests.unit.test_tool_formats import SCHEMAS, TRANSCRIPTS

THINK = ThinkingTags("<think>", "</think>")


@functools.cache
def tokenizer_named(name: str) -> Any:
    if name == "demo":
        return AutoTokenizer.from_pretrained(DEMO)
    return byte_tokenizer() if name == "byte" else piece_tokenizer()


def ids_of(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


def pieces(tokenizer: Any, ids: list[int], **options: Any) -> list[str]:
    machine = Detokenizer(tokenizer, **options)
    return [*(machine.push(token_id) for token_id in ids), machine.finish()]


class Slow:
    """A tokenizer without a fast backend: the same ids, decoded by `decode` alone."""

    is_fast = False

    def __init__(self, tokenizer: Any) -> None:
        self.decode = tokenizer.decode


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("name", ["demo", "byte", "piece"])
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁\ufffd"), max_size=20))
def test_pieces_join_to_the_text_and_no_character_is_split(name: str, fast: bool, text: str) -> None:
    tokenizer = tokenizer_named(name)
    prompt = ids_of(tokenizer, "x")
    ids = ids_of(tokenizer, text)
    whole = tokenizer.decode(prompt + ids, skip_special_tokens=False)[len(tokenizer.decode(prompt)) :]
    found = pieces(tokenizer if fast else Slow(tokenizer), ids, prompt_ids=prompt)
    assert "".join(found) == whole
    assert not any("\ufffd" in piece for piece in found)


@given(st.lists(st.integers(0, 300), max_size=60))
def test_any_ids_give_some_text(ids: list[int]) -> None:
    assert isinstance("".join(pieces(tokenizer_named("byte"), ids)), str)


def test_an_incomplete_character_at_the_end_is_dropped() -> None:
    tokenizer = tokenizer_named("byte")
    ids = ids_of(tokenizer, "a🙂")
    assert "".join(pieces(tokenizer, ids[:-1])) == "a"


@pytest.mark.parametrize("fast", [True, False])
def test_bytes_that_are_no_text_are_not_held_back_for_ever(fast: bool) -> None:
    tokenizer = tokenizer_named("byte")
    lead = ids_of(tokenizer, "🙂")[0]
    machine = Detokenizer(tokenizer if fast else Slow(tokenizer))
    assert "".join(machine.push(lead) for _ in range(40)) != ""


def test_the_prompt_decides_about_the_first_space() -> None:
    tokenizer = tokenizer_named("piece")
    blue = tokenizer.convert_tokens_to_ids("▁blue")
    assert "".join(pieces(tokenizer, [blue], prompt_ids=tokenizer.encode("sky is"))) == " blue"
    assert "".join(pieces(tokenizer, [blue])) == "blue"


def test_hidden_ids_have_no_text() -> None:
    tokenizer = tokenizer_named("demo")
    ids = ids_of(tokenizer, "hello<|im_end|> there")
    assert "".join(pieces(tokenizer, ids, hidden_ids={2})) == "hello there"


def answer(text: str, *, name: str = "demo", **options: Any) -> list[GenerateEvent]:
    """All events for `text`, neighbouring deltas of one kind joined."""
    tokenizer = tokenizer_named(name)
    machine = AnswerProcessor(tokenizer, new_id=lambda: "call_x", **options)
    found: list[GenerateEvent] = []
    for token_id in ids_of(tokenizer, text):
        found += machine.push(token_id)
        if machine.stop is not None:
            break
    found += machine.finish()
    assert machine.finish() == []
    joined: list[GenerateEvent] = []
    for event in found:
        last = joined[-1] if joined else None
        if isinstance(event, TextDelta) and isinstance(last, TextDelta):
            joined[-1] = TextDelta(last.text + event.text)
        elif isinstance(event, ThinkingDelta) and isinstance(last, ThinkingDelta):
            joined[-1] = ThinkingDelta(last.text + event.text)
        else:
            joined.append(event)
    return joined


CALL = '<tool_call>\n{"name": "f", "arguments": {"a": "ü"}}\n</tool_call>'


@pytest.mark.parametrize("name", ["demo", "byte"])
def test_thinking_then_text_then_a_call(name: str) -> None:
    thinking, text, call = answer(
        f"<think>\nhm ü\n</think>\n\nLook: {CALL}", name=name, thinking=THINK, tool_syntax=HERMES
    )
    assert thinking == ThinkingDelta("hm ü")
    assert text == TextDelta("Look:")
    assert isinstance(call, ToolCallDelta)
    assert call.call.arguments == {"a": "ü"}


def test_a_call_within_the_thinking_is_no_call() -> None:
    found = answer(f"<think>{CALL}</think>ok", thinking=THINK, tool_syntax=HERMES)
    assert found == [ThinkingDelta(CALL), TextDelta("ok")]


@pytest.mark.parametrize(
    ("text", "options", "count"),
    [
        ("<think>hm</think>ok", {"thinking": THINK}, 11),
        ("hm</think>ok", {"thinking": THINK, "inside_thinking": True}, 10),
        ("hm</think>ok", {"thinking": THINK, "inside_thinking": True, "show_thinking": False}, 10),
        ("hm", {"thinking": THINK, "inside_thinking": True}, 2),
        ("hm</think>ok", {"thinking": THINK}, 0),
        ("<think>hm</think>ok", {}, 0),
        ("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>ok",
         {"has_channels": True}, 10),
    ],
)  # fmt: skip
def test_the_tokens_of_reasoning_are_counted(text: str, options: dict[str, Any], count: int) -> None:
    """One a byte: those inside, the one that opened it and those that closed it."""
    tokenizer = tokenizer_named("byte")
    machine = AnswerProcessor(tokenizer, **options)
    ids = ids_of(tokenizer, text)
    assert len(ids) == len(text)
    for token_id in ids:
        machine.push(token_id)
    machine.finish()
    assert machine.num_thinking_tokens == count


def test_thinking_that_nobody_wants_is_dropped() -> None:
    assert answer("hm</think>ok", thinking=THINK, inside_thinking=True, show_thinking=False) == [TextDelta("ok")]


def test_raw_text_is_not_searched() -> None:
    text = f"<think>x</think>{CALL}"
    assert answer(text) == [TextDelta(text)]


def test_stop_strings_end_the_answer() -> None:
    assert answer("one two three", stops=["wo th"]) == [TextDelta("one t")]
    assert answer("one two", stops=["two more"]) == [TextDelta("one two")]


def test_nothing_is_shown_behind_a_stop_string() -> None:
    machine = AnswerProcessor(tokenizer_named("byte"), stops=["b"])
    events = [event for token_id in ids_of(tokenizer_named("byte"), "abc") for event in machine.push(token_id)]
    assert events == [TextDelta("a")]
    assert machine.stop is not None
    assert machine.finish() == []


def test_a_tag_that_is_a_special_token_is_seen() -> None:
    tokenizer = byte_tokenizer(template="{{ '[TOOL_CALLS]' if tools }}", markers=())
    tokenizer.add_special_tokens({"additional_special_tokens": ["[TOOL_CALLS]"]})
    kind = chat_format(tokenizer)
    (marker,) = marker_ids(tokenizer, kind)
    assert tokenizer.convert_ids_to_tokens(marker) == "[TOOL_CALLS]"


@pytest.mark.parametrize(("format", "text"), [(format, text) for format, text, _ in TRANSCRIPTS])
def test_marks_of_calls_may_be_special_tokens(format: ToolFormat, text: str) -> None:
    """Tokenizers call some of a family's marks special, which have no text: of those within a call, too."""
    template = f"{{{{ tools }}}}{' '.join(format.markers)}"
    tokenizer = byte_tokenizer(template=template, markers=())
    tokenizer.add_special_tokens({"additional_special_tokens": list(format.markers)})
    shown = marker_ids(tokenizer, replace(chat_format(tokenizer), tool_syntax=format))
    machine = AnswerProcessor(
        tokenizer,
        hidden_ids=frozenset(tokenizer.all_special_ids) - shown,
        tool_syntax=format,
        tool_schemas=SCHEMAS,
        new_id=lambda: "id",
    )
    ids = tokenizer.encode(text, add_special_tokens=False)
    events = [event for token_id in ids for event in machine.push(token_id)] + machine.finish()
    parser = ToolCallParser(format, schemas=SCHEMAS, new_id=lambda: "id")
    expected = [part for part in [*parser.push(text), *parser.finish()] if isinstance(part, ToolCall)]
    assert [event.call for event in events if isinstance(event, ToolCallDelta)] == expected


@given(
    st.lists(st.sampled_from(["<think>", "</think>", CALL, "</tool_call>", "STOP", " ", "\n", "ü", "x"]), max_size=8)
)
def test_no_tag_of_a_whole_block_leaks(parts: list[str]) -> None:
    found = answer(
        "".join(parts), name="byte", thinking=THINK, inside_thinking=True, tool_syntax=HERMES, stops=["STOP"]
    )
    text = "".join(event.text for event in found if isinstance(event, TextDelta))
    assert "STOP" not in text
    assert CALL not in text


def test_stop_strings_are_looked_for_in_the_answer_only() -> None:
    found = answer("<think>\nhm\n</think>\n\none\ntwo", name="byte", thinking=THINK, stops=["\n"])
    assert "".join(event.text for event in found if isinstance(event, ThinkingDelta)) == "hm"
    assert "".join(event.text for event in found if isinstance(event, TextDelta)) == "one"


def test_text_held_back_for_a_stop_string_stays_before_a_call() -> None:
    text, call, more = answer(f"one ST{CALL}OP", tool_syntax=HERMES, stops=["STOP"])
    assert (text, more) == (TextDelta("one ST"), TextDelta("OP"))
    assert isinstance(call, ToolCallDelta)


@pytest.mark.parametrize("is_cut", [True, False])
def test_reasoning_that_was_cut_may_end_once_more(is_cut: bool) -> None:
    tokenizer = tokenizer_named("demo")
    machine = AnswerProcessor(tokenizer, thinking=THINK, tool_syntax=HERMES, is_cut=lambda: is_cut)
    call = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    events: list[GenerateEvent] = []
    for token_id in ids_of(tokenizer, f"<think>\nhm\n</think>\n\nIt is.\n</think>\n\nYes.{call}"):
        events += machine.push(token_id)
    events += machine.finish()
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert text == ("It is.\n\nYes." if is_cut else "It is.\n</think>\n\nYes.")
    assert isinstance(events[-1], ToolCallDelta)
