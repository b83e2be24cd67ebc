"""How much a request's body may hold, beside its bytes."""

import json
from typing import Any

from hugging_llama.errors import InvalidRequestError
from hugging_llama_config.json_values import count_all, count_outside

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
        found = count_outside(text, MAX_VALUES + MAX_NAMES)
        if found is not None:
            self._values -= found.commas + 1
            self._names -= found.colons
            self._parts -= found.parts
        if found is None or min(self._values, self._names, self._parts) < 0:
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
    found = count_all(body)
    if found.commas >= MAX_VALUES or found.colons > MAX_NAMES or found.parts > MAX_PARTS:
        ValueBudget().spend(body)
