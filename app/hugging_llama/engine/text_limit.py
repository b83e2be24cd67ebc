"""How much text is tokenised at once: a tokenizer takes some two hundred bytes of memory for each byte of it."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from hugging_llama.engine.request_weight import values
from hugging_llama.errors import TextTooLongError
from hugging_llama_config.tokenizer_limits import PARTS, text_growth

_USUAL_BYTES = 8 * 2**20
_BYTES_PER_TOKEN = 16
"""Rarely do more stand behind one token, but in runs of spaces."""
_MOST_BYTES = 32 * 2**20
"""A context is what a model's files claim."""
_USUAL_GROWTH = 4
_BYTES_PER_CHARACTER = 4


class TextLimit:
    """The limit for one tokenizer: what its model's context can hold, at least 8 MiB, and never more than 32 MiB.

    A tokenizer that lengthens its texts more than usual gets less of them.
    """

    def __init__(self, tokenizer: Any, longest_context: int = 0) -> None:
        limit = min(max(_USUAL_BYTES, longest_context * _BYTES_PER_TOKEN), _MOST_BYTES)
        self.max_bytes = int(limit * _USUAL_GROWTH / max(_growth(tokenizer), _USUAL_GROWTH))

    def check(self, value: Any) -> None:
        """All texts in `value`, at any depth, keys included, are counted together. Raises TextTooLongError."""
        num_characters = sum(map(len, _texts(value)))
        if num_characters * _BYTES_PER_CHARACTER <= self.max_bytes:
            return
        num_bytes = sum(map(_size, _texts(value)))
        if num_bytes > self.max_bytes:
            raise TextTooLongError(num_bytes, self.max_bytes)


def _texts(value: Any) -> Iterator[str]:
    return (found for found in values(value) if isinstance(found, str))


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _growth(tokenizer: Any) -> float:
    """By the rules that the tokenizer has, wherever they come from; 1 where they can't be told."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules: dict[str, Any] = {}
    for part in PARTS:
        with contextlib.suppress(Exception):  # written in Python, or not there: of a kind that no file can bring
            rules[part] = json.loads(getattr(backend, part).__getstate__())
    return text_growth(rules)
