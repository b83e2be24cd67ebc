"""Which requests take long to make work of, before a step of theirs is computed."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from hugging_llama.neutral.requests import (
    ChatPrompt,
    ClassifyRequest,
    EmbedRequest,
    GenerateRequest,
    InsertPrompt,
    TokenizeRequest,
)

LONG = 2**18
"""Characters: a tokenizer reads a million in about a second, and takes some hundred bytes for each."""
_VALUE = 16
"""What a value costs beside its characters."""


def is_slow(request: object) -> bool:
    """Whether its text is LONG, or is written by a template that it brings along, which may take seconds."""
    if isinstance(request, EmbedRequest | ClassifyRequest):
        return _is_long(request.inputs)
    if not isinstance(request, GenerateRequest | TokenizeRequest):
        return False
    prompt = request.prompt
    return (isinstance(prompt, ChatPrompt | InsertPrompt) and bool(prompt.template)) or _is_long(prompt)


def values(value: Any) -> Iterator[Any]:
    """All values in `value`, itself and the keys of mappings included, at any depth and in no order; token ids are one
    value, as nobody has to read them."""
    left = [value]
    while left:
        found = left.pop()
        yield found
        if isinstance(found, Mapping):
            left.extend(found)
            left.extend(found.values())
        elif isinstance(found, tuple | list):
            if not _is_token_ids(found):
                left.extend(found)
        elif is_dataclass(found) and not isinstance(found, type):
            left.extend(getattr(found, field.name) for field in fields(found))


def _is_token_ids(value: tuple[Any, ...] | list[Any]) -> bool:
    return bool(value) and all(isinstance(item, int) for item in value)


def _is_long(value: Any) -> bool:
    """Looks no further than it must."""
    weight = 0
    for found in values(value):
        weight += _VALUE
        if isinstance(found, str) or (isinstance(found, tuple | list) and _is_token_ids(found)):
            weight += len(found)
        if weight > LONG:
            return True
    return False
