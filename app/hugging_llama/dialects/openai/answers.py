"""Answers of several endpoints."""

from typing import Any

from flask import Response

from hugging_llama.dialects.openai.render import encode

IGNORED_HEADER = "X-Ignored-Fields"
_MAX_SHOWN = 20


def json_response(value: Any) -> Response:
    """One object as the whole answer."""
    return Response(encode(value), content_type="application/json")


def with_ignored(response: Response, names: list[str]) -> Response:
    """The answer, with what of the request nothing is done with in a header."""
    shown = [name for name in names[:_MAX_SHOWN] if name.isascii() and name.isprintable() and len(name) <= 80]
    if shown:
        response.headers[IGNORED_HEADER] = ", ".join(shown)
    return response
