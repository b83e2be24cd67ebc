"""Thinking and answer come apart in the same way, whatever the pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.parsing.thinking import ThinkingParser
from tests.unit.pieces import pieces_of

TEXTS = st.lists(
    st.sampled_from(["<think>", "</think>", "<thi", "</", " ", "\n", "a", "b<", "word "]), max_size=10
).map("".join)


def run(pieces: list[str], *, inside: bool = False, **tags: str) -> tuple[str, str]:
    machine = ThinkingParser(inside=inside, **tags)
    parts = [machine.push(piece) for piece in pieces] + [machine.finish()]
    return "".join(thinking for thinking, _ in parts), "".join(answer for _, answer in parts)


@pytest.mark.parametrize(
    ("text", "inside", "expected"),
    [
        ("<think>\nhm\n</think>\n\nhello ", False, ("hm", "hello ")),
        ("\n <think>hm</think>x", False, ("hm", "x")),
        ("hello <think>no</think>", False, ("", "hello <think>no</think>")),
        ("  hello", False, ("", "  hello")),
        ("hm\n</think>\n\nhello", True, ("hm", "hello")),
        ("<think>\nhm</think>hello", True, ("hm", "hello")),
        ("hm and more \n", True, ("hm and more", "")),
        ("<think>\n\n</think>\n\nhello", False, ("", "hello")),
        ("<think>a </thin b</think>c</think>", False, ("a </thin b", "c</think>")),
        ("<th", False, ("", "<th")),
        (" \n", False, ("", " \n")),
        ("", True, ("", "")),
    ],
)
def test_parts(text: str, inside: bool, expected: tuple[str, str]) -> None:
    assert run([text], inside=inside) == expected


def test_text_flows_as_soon_as_it_is_certain() -> None:
    machine = ThinkingParser()
    assert machine.push("<think>I see ") == ("I see", "")
    assert not machine.answering
    assert machine.push("it") == (" it", "")
    assert machine.push(".\n</think>\n\nYes") == (".", "Yes")
    assert machine.answering
    assert machine.push(" ") == ("", " ")


def test_other_tags() -> None:
    machine = ThinkingParser(open_tag="[THINK]", close_tag="[/THINK]")
    assert machine.push("[THINK]hm[/THINK]yes") == ("hm", "yes")


ANSWER_TAGS = {"answer_open": "<answer>", "answer_close": "</answer>"}


@pytest.mark.parametrize(
    ("text", "inside", "expected"),
    [
        ("<think>hm</think>\n<answer>\nYes.\n</answer>\n", False, ("hm", "Yes.")),
        ("hm</think>Yes </answer> no", True, ("hm", "Yes </answer> no")),
        ("<answer>Yes.</answer>", False, ("", "Yes.")),
        ("<answer>Yes </an", False, ("", "Yes </an")),
        ("<ans", False, ("", "<ans")),
        ("<think>hm</think> <ans", False, ("hm", "<ans")),
        ("<think>hm</think><answer>a</answer> b <answer>c</answer>", False, ("hm", "ab <answer>c</answer>")),
    ],
)
def test_tags_around_the_answer(text: str, inside: bool, expected: tuple[str, str]) -> None:
    assert run([text], inside=inside, **ANSWER_TAGS) == expected
    assert run(list(text), inside=inside, **ANSWER_TAGS) == expected


def test_an_answer_that_ends_with_a_tag_of_its_own() -> None:
    tags = {"open_tag": "Steps:", "close_tag": "[BEGIN]", "answer_close": "[END]"}
    assert run(["one two [BEGIN]\nYes.\n[END]"], inside=True, **tags) == ("one two", "Yes.")


@given(TEXTS, st.booleans(), st.data())
def test_any_split_gives_the_same(text: str, inside: bool, data: st.DataObject) -> None:
    whole = run([text], inside=inside)
    assert run(data.draw(pieces_of(text)), inside=inside) == whole
    if not inside and not text.lstrip().startswith("<think>"):
        assert whole == ("", text)


@given(TEXTS.map(lambda text: text.replace("a", "<answer>").replace("word", "</answer>")), st.booleans(), st.data())
def test_any_split_gives_the_same_with_tags_around_the_answer(text: str, inside: bool, data: st.DataObject) -> None:
    whole = run([text], inside=inside, **ANSWER_TAGS)
    assert run(data.draw(pieces_of(text)), inside=inside, **ANSWER_TAGS) == whole
