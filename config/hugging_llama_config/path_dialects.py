"""Which API a path belongs to, for answers to requests that reach no route."""

from typing import Literal
from urllib.parse import unquote

Dialect = Literal["anthropic", "openai", "ollama"]
_ANTHROPIC = "/v1/messages"


def dialect_of(path: str) -> Dialect:
    """The API of a path as it was asked for: routes are found by what its escapes mean, and whatever the number of
    slashes before it."""
    asked = "/" + unquote(path).lstrip("/")
    if asked == _ANTHROPIC or asked.startswith(f"{_ANTHROPIC}/"):
        return "anthropic"
    return "openai" if asked.startswith(("/v1/", "/v2/")) else "ollama"
