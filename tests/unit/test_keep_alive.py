"""keep_alive in every spelling."""

import math
from typing import Any

import pytest

from hugging_llama.dialects.ollama.values import parse_keep_alive
from hugging_llama.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        (0, 0),
        (0.0, 0),
        ("0", 0),
        ("0s", 0),
        ("0m", 0),
        (5, 5),
        (1.5, 1.5),
        (-1, math.inf),
        (-0.5, math.inf),
        ("-1m", math.inf),
        ("-1ns", math.inf),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("100ms", 0.1),
        ("250us", 0.00025),
        ("250µs", 0.00025),
        ("3ns", 3e-9),
        ("+2s", 2),
        (2**63, math.inf),
    ],
)
def test_what_is_understood(value: Any, seconds: float | None) -> None:
    assert parse_keep_alive(value) == (seconds if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "Unsupported type: 'bool'"),
        ([], "Unsupported type: '[]interface {}'"),
        ({}, "Unsupported type: 'map[string]interface {}'"),
        ("5", 'time: missing unit in duration "5"'),
        ("", 'time: invalid duration ""'),
        ("soon", 'time: invalid duration "soon"'),
        ("5 m", 'time: unknown unit " m" in duration "5 m"'),
        ("5d", 'time: unknown unit "d" in duration "5d"'),
    ],
)
def test_what_is_refused_in_gos_words(value: Any, text: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_keep_alive(value)
    assert caught.value.message == text
