"""Reads single values of the `options` object. A reader raises TypeError for a value that is not of its type."""

import math
from collections.abc import Callable
from typing import Any

from hugging_llama.errors import InvalidRequestError

_INT64 = 2**63
_MOST_ITEMS = 10_000
_LARGEST_BIAS = 1e4


def number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)


def integer(value: Any) -> int:
    """Any number, cut toward zero."""
    found = number(value)
    if not math.isfinite(found) or abs(found) >= _INT64:
        raise TypeError
    return int(found)


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def early_stopping(value: Any) -> bool | str:
    """True, false or "never", as in transformers."""
    if not isinstance(value, bool) and value != "never":
        raise TypeError
    result: bool | str = value
    return result


def array_of(read: Callable[[Any], Any], name: str, items: str) -> Callable[[Any], tuple[Any, ...]]:
    """A reader of arrays whose items `read` reads; `items` is their name in the error text."""

    def read_array(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise TypeError
        if len(value) > _MOST_ITEMS:
            raise InvalidRequestError(f'option "{name}" has more than {_MOST_ITEMS} items', param=name)
        try:
            return tuple(read(item) for item in value)
        except TypeError:
            raise InvalidRequestError(f'option "{name}" must be of an array of {items}', param=name) from None

    return read_array


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def token_id(value: Any) -> int:
    """A whole number that can be a token id."""
    found = integer(value)
    if not 0 <= found < 2**31:
        raise TypeError
    return found


def token_run(value: Any) -> tuple[int, ...]:
    """An array of token ids, at least one."""
    if not isinstance(value, list) or not 0 < len(value) <= _MOST_ITEMS:
        raise TypeError
    return tuple(token_id(item) for item in value)


def logit_bias(value: Any) -> tuple[tuple[int | str, float], ...]:
    """An object of biases by token: digits are an id, anything else is the token's text."""
    if not isinstance(value, dict):
        raise TypeError
    if len(value) > _MOST_ITEMS:
        raise InvalidRequestError(f'option "logit_bias" has more than {_MOST_ITEMS} items', param="logit_bias")
    return tuple((_token(token), _bias(bias)) for token, bias in value.items())


def _token(name: str) -> int | str:
    return int(name) if name.isascii() and name.isdigit() and len(name) < 10 else name


def _bias(value: Any) -> float:
    try:
        found = number(value)
    except TypeError:
        found = math.nan
    if not abs(found) <= _LARGEST_BIAS:
        raise InvalidRequestError(
            f'option "logit_bias" must hold numbers between {-_LARGEST_BIAS:g} and {_LARGEST_BIAS:g}',
            param="logit_bias",
        )
    return found
