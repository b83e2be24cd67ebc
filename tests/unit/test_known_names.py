"""What within a body is told as ignored, and how it is written into a header."""

from typing import Any

import pytest

from hugging_llama.dialects.ignored_header import ignored_text
from hugging_llama.dialects.known_names import MAX_FOUND, AtMost, Kinds, Known, Names

CALL = Names("name", off=("strict",), inner={"arguments": Names()})
TEXT = Names("type", "text")
PARTS = Kinds("type", {None: Names("id"), "text": TEXT}, left_out=("picture",))


def walk(known: Known, value: Any) -> set[str]:
    found: set[str] = set()
    known.walk(value, "", found)
    return found


@pytest.mark.parametrize(
    ("known", "value", "told"),
    [
        (CALL, {"name": "f"}, set()),
        (CALL, {"name": "f", "zz": 1, "yy": False}, {"zz", "yy"}),
        (CALL, {"zz": None, "yy": []}, set()),
        (CALL, {"strict": False}, set()),
        (CALL, {"strict": True}, {"strict"}),
        (CALL, {"arguments": {"a": 1}}, {"arguments.a"}),
        (CALL, {"arguments": "{}"}, set()),
        (CALL, [{"zz": n} for n in range(100)], {"zz"}),
        (CALL, "text", set()),
        (PARTS, [{"type": "text", "text": "a", "cache_control": {}}], {"cache_control"}),
        (PARTS, [{"type": "picture", "zz": 1}, {"type": "film", "zz": 1}, {"type": 5, "zz": 1}], {"picture"}),
        (PARTS, [{"id": "a", "zz": 1}], {"zz"}),
        (AtMost(2, CALL), [{"zz": 1}] * 2, {"zz"}),
        (AtMost(2, CALL), [{"zz": 1}] * 3, set()),
    ],
)
def test_what_nobody_looks_at_is_told(known: Known, value: Any, told: set[str]) -> None:
    assert walk(known, value) == told


def test_names_match_in_any_case_and_the_last_one_that_says_something_counts() -> None:
    value = {"Name": "f", "ARGUMENTS": {"A": 1}, "NAME": None}
    assert walk(CALL, value) == {"arguments.A"}
    assert value == {"name": "f", "arguments": {"A": 1}}
    value = {"Type": "text", "TEXT": "a", "text": "b"}
    assert walk(PARTS, [value]) == set()
    assert value == {"type": "text", "text": "b"}


def test_names_are_bounded() -> None:
    assert len(walk(CALL, {str(n): 1 for n in range(MAX_FOUND + 5)})) == MAX_FOUND


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ({"b", "a.c"}, "a.c, b"),
        ({"über", "a b", "a,b", "a%20b", "a\r\nX: y"}, "a%0D%0AX:%20y, a%20b, a%2520b, a%2Cb, %C3%BCber"),
        ({"x" * 80}, "x" * 80),
        ({"x" * 81}, "x" * 77 + "..."),
        ({"ü" * 40}, "%C3%BC" * 12 + "..."),
        ({f"n{n:02}" for n in range(21)}, ", ".join(f"n{n:02}" for n in range(20)) + ", and 1 more"),
    ],
)
def test_the_header_is_plain_and_short(names: set[str], text: str) -> None:
    assert ignored_text(names) == text
