"""Packed numbers within an answer, as its JSON encoder asks for them: one row at a time becomes Python's floats."""

from array import array
from typing import Any


def plain(value: Any) -> list[float]:
    """Of an array. Raises NotImplementedError for anything else, as an `enc_hook` does."""
    if not isinstance(value, array):
        raise NotImplementedError(f"{type(value).__name__} is no JSON")
    return value.tolist()
