"""Answers of several endpoints."""

from typing import Any

from flask import Response

from hugging_llama.dialects.ignored_fields import with_ignored as with_ignored
from hugging_llama.dialects.openai.render import encode


def json_response(value: Any) -> Response:
    """One object as the whole answer."""
    return Response(encode(value), content_type="application/json")
