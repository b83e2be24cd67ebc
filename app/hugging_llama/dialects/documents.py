"""The documents of a request to rerank, which several dialects have."""

from typing import Any

from hugging_llama.dialects.body_fields import JsonSchema
from hugging_llama.dialects.known_names import AtMost, Names
from hugging_llama.errors import InvalidRequestError

MAX_DOCUMENTS = 10_000
DOCUMENTS: JsonSchema = {
    "type": "array",
    "maxItems": MAX_DOCUMENTS,
    "items": {
        "anyOf": [
            {"type": "string"},
            {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}},
        ]
    },
}

HOLD_TEXT = AtMost(MAX_DOCUMENTS, Names("text"))


def parse_documents(value: Any) -> list[str]:
    """A list of texts, or of objects with one under `text`; there may be none. Raises InvalidRequestError."""
    if not isinstance(value, list):
        raise InvalidRequestError("documents must be a list of texts", param="documents")
    if len(value) > MAX_DOCUMENTS:
        raise InvalidRequestError(f"documents must have at most {MAX_DOCUMENTS} items", param="documents")
    return [_text(item, place) for place, item in enumerate(value)]


def _text(item: Any, place: int) -> str:
    text = item.get("text") if isinstance(item, dict) else item
    if not isinstance(text, str):
        raise InvalidRequestError(
            f"documents[{place}] must be a text, or an object with one under 'text'", param="documents"
        )
    return text
