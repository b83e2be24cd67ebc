"""How much a request's body may hold, beside its bytes.

A list in JSON is three bytes, and as Python has it more than fifty: twenty million of them fit into a body, and whoever
makes them, or walks through them, serves nobody else for a minute.
"""

import json
from typing import Any

from hugging_llama.errors import InvalidRequestError

MAX_VALUES = 1_000_000
"""As many token ids as a long prompt has."""
MAX_NAMES = 200_000
"""Of all objects together."""
MAX_PARTS = 200_000
"""Lists and objects."""


class ValueBudget:
    """What one request may hold, its body or all texts in it that are JSON themselves."""

    def __init__(self) -> None:
        self._values = MAX_VALUES
        self._names = MAX_NAMES
        self._parts = MAX_PARTS

    def spend(self, text: bytes) -> None:
        """Raise InvalidRequestError if the JSON in `text` holds more than is left; nothing of it is made for that."""
        outside = without_strings(text)
        if outside is not None:
            self._values -= outside.count(b",") + 1
            self._names -= outside.count(b":")
            self._parts -= _num_parts(outside)
        if outside is None or min(self._values, self._names, self._parts) < 0:
            raise InvalidRequestError(
                f"the request holds too much: it may have {MAX_VALUES:,} values, {MAX_NAMES:,} names, and "
                f"{MAX_PARTS:,} lists and objects"
            )

    def read_object(self, text: str) -> dict[str, Any] | None:
        """The JSON object in `text`, {} for an empty one; None if there is none. Raises as `spend` does."""
        self.spend(text.encode("utf-8", "replace"))
        try:
            value = json.loads(text or "{}")
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None


def check_values(body: bytes) -> None:
    """Raise InvalidRequestError if the JSON in `body` holds more than a request may."""
    # with all that stands in its strings: few bodies have as much
    if body.count(b",") >= MAX_VALUES or body.count(b":") > MAX_NAMES or _num_parts(body) > MAX_PARTS:
        ValueBudget().spend(body)


def without_strings(text: bytes) -> bytes | None:
    """What stands outside of strings; None if these alone are too many."""
    bare = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    if bare.count(b'"') > 2 * (MAX_VALUES + MAX_NAMES):
        return None
    return b"".join(bare.split(b'"')[::2])


def _num_parts(text: bytes) -> int:
    return text.count(b"[") + text.count(b"{")
