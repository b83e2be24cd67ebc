"""Bodies as Go's decoder reads them."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.dialects.json_body import parse_object
from hugging_llama.errors import InvalidRequestError


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
