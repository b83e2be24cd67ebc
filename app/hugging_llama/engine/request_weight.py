"""Which requests take long to make work of, before a step of theirs is computed."""

from collections.abc import Mapping
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


def is_token_ids(value: tuple[Any, ...] | list[Any]) -> bool:
    """Numbers alone, which nobody has to read."""
    return bool(value) and all(isinstance(item, int) for item in value)


def _is_long(value: Any) -> bool:
    """Looks no further than it must."""
    weight, left = 0, [value]
    while left and weight <= LONG:
        found = left.pop()
        weight += _VALUE
        if isinstance(found, str):
            weight += len(found)
        elif isinstance(found, Mapping):
            left.extend(found)
            left.extend(found.values())
        elif isinstance(found, tuple | list):
            if is_token_ids(found):
                weight += len(found)
            else:
                left.extend(found)
        elif is_dataclass(found) and not isinstance(found, type):
            left.extend(getattr(found, field.name) for field in fields(found))
    return weight > LONG
