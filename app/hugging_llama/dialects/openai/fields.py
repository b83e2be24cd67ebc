"""Fields of request bodies with OpenAI's sentences."""

from typing import Any

from hugging_llama.dialects import body_fields
from hugging_llama.dialects.body_fields import JsonSchema
from hugging_llama.errors import InvalidRequestError


class Typed(body_fields.Typed):
    """A field of exactly these JSON types, within a range if it is a number."""

    type_text = "Invalid type for '{name}': expected {wanted}, got {found}."
    range_text = "Invalid value for '{name}': must be {bound}."


def needed_text(name: str, about: str) -> Typed:
    """A text without which a request is refused in OpenAI's words."""
    return Typed(str, required=True, error_messages={"required": f"you must provide a {name} parameter"}, about=about)


TEXT_OR_TEXTS: JsonSchema = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
TEXTS_OR_IDS: JsonSchema = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}},
        {"type": "array", "items": {"type": "integer", "minimum": 0}},
        {"type": "array", "items": {"type": "array", "items": {"type": "integer", "minimum": 0}}},
    ]
}

TextOrIds = str | tuple[int, ...]


def texts_or_ids(value: Any) -> list[TextOrIds] | None:
    """A text, texts, token ids, or lists of them, as a list in any case; None for anything else, a mixture too."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        return None
    if all(isinstance(item, str) for item in value):
        return list(value)
    if all(map(_is_id, value)):
        return [tuple(value)]
    if all(isinstance(item, list) and all(map(_is_id, item)) for item in value):
        return [tuple(item) for item in value]
    return None


def parse_truncation(value: int) -> int | None:
    """vLLM's `truncate_prompt_tokens`: the longest input, -1 for all that the model takes. Raises
    InvalidRequestError."""
    if value == 0:
        raise InvalidRequestError(
            "Invalid value for 'truncate_prompt_tokens': no token would be left.", param="truncate_prompt_tokens"
        )
    return value if value > 0 else None


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31
