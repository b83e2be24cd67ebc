"""Bodies as Go's decoder reads them."""

import contextlib
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.dialects.body_values import MAX_NAMES, MAX_PARTS, MAX_VALUES, ValueBudget
from hugging_llama.dialects.json_body import parse_object
from hugging_llama.errors import InvalidRequestError
from hugging_llama_config.json_values import count_outside


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a":1}', {"a": 1}),
        (b'{"a":1} trailing', {"a": 1}),
        (b'{"a":1}{"a":2}', {"a": 1}),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b"null", {}),
        (b"null" + b"[" * 300, {}),
        (b' \n {"z":1,"b":2}', {"z": 1, "b": 2}),
    ],
)
def test_one_value_is_read(body: bytes, value: object) -> None:
    assert parse_object(body) == value


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "missing request body"),
        (b"  ", "missing request body"),
        (b"{", "unexpected EOF"),
        (b'{"a":', "unexpected EOF"),
        (b'{"a', "unexpected EOF"),
        (b"hello", "invalid character 'h' looking for beginning of value"),
        (b"tru", "unexpected EOF"),
        (b'{"a":nul', "unexpected EOF"),
        (b'{"a":tru}', "invalid character '}' in literal true (expecting 'e')"),
        (b"[fake]", "invalid character 'k' in literal false (expecting 'l')"),
        (b"[nil]", "invalid character 'i' in literal null (expecting 'u')"),
        (b"{a:1}", "invalid character 'a' looking for beginning of object key string"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":NaN}', "invalid character 'N' looking for beginning of value"),
        (b"[1]", "json: cannot unmarshal array into Go value of type map[string]interface {}"),
        (b'"x"', "json: cannot unmarshal string into Go value of type map[string]interface {}"),
    ],
)
def test_bad_bodies_are_refused_in_gos_words(body: bytes, message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_object(body)
    assert caught.value.message == message


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_an_invalid_request(body: bytes) -> None:
    with contextlib.suppress(InvalidRequestError):
        assert isinstance(parse_object(body), dict)


def test_depth_is_bounded() -> None:
    with pytest.raises(InvalidRequestError):
        parse_object(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


@given(
    st.dictionaries(
        st.text(), st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), st.lists)
    )
)
def test_key_order_survives(value: dict[str, object]) -> None:
    assert list(parse_object(json.dumps(value).encode())) == list(value)


TOO_MUCH = {
    "values": b"1," * MAX_VALUES + b"1",
    "lists": b"[]," * MAX_PARTS + b"1",
    "objects": b"{}," * MAX_PARTS + b"1",
    "texts": b'"",' * MAX_VALUES + b"1",
    "names": b'{"a":1},' * (MAX_NAMES // 2) + b'{"a":1,"b":2},' * (MAX_NAMES // 2) + b"1",
    "texts of quotation marks": rb'"\"",' * MAX_VALUES + b"1",
}


@pytest.mark.parametrize("kind", TOO_MUCH)
def test_a_body_of_very_many_values_is_refused_before_they_are_made(kind: str) -> None:
    body = b'{"messages":[%s]}' % TOO_MUCH[kind]
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequestError, match="the request holds too much: it may have 1,000,000 values"):
            parse_object(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(body) + 100 * 2**20


def test_a_long_text_is_one_value_whatever_it_says() -> None:
    text = '[{"a": "\\"b\\", \\\\", "c": [1, 2]}]' * MAX_PARTS
    body = {"prompt": text, "context": list(range(100_000))}
    assert parse_object(json.dumps(body).encode()) == body


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('a",:[]{}\\ \n', max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('a",:[]{}\\', max_size=4), inner, max_size=4),
    max_leaves=20,
)


def counted(value: object) -> tuple[int, int]:
    """Lists and objects, and names."""
    if not isinstance(value, dict | list):
        return 0, 0
    inner = [counted(part) for part in (value.values() if isinstance(value, dict) else value)]
    names = len(value) if isinstance(value, dict) else 0
    return 1 + sum(parts for parts, _ in inner), names + sum(found for _, found in inner)


@given(JSON)
def test_what_stands_in_strings_does_not_count(value: object) -> None:
    found = count_outside(json.dumps(value).encode(), 1000)
    assert found is not None
    assert (found.parts, found.colons) == counted(value)


def test_texts_that_are_json_have_one_budget() -> None:
    budget = ValueBudget()
    for _ in range(2):
        budget.spend(b"[]," * (MAX_PARTS // 2 - 1) + b"[]")
    with pytest.raises(InvalidRequestError, match="the request holds too much"):
        budget.spend(b"[]")
