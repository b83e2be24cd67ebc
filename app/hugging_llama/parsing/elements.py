"""Values between an opening and a closing tag, one after the other; JSON may hold the closing tag in a string."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from hugging_llama.parsing.json_kinds import kinds_of
from hugging_llama.parsing.raw_calls import decoder

IsJson = Callable[[re.Match[str]], bool]
"""Whether JSON stands behind this opening tag and no text."""


def read_elements(
    text: str, at: int, opening: re.Pattern[str], close: str, is_json: IsJson, *, end: str = ""
) -> tuple[list[tuple[re.Match[str], str]], int]:
    """Each opening tag with its value, and the index behind the last one. What stands between elements says nothing.

    `end` closes what the elements are in. An element that is not closed is left where it is.
    """
    found: list[tuple[re.Match[str], str]] = []
    while (match := opening.search(text, at)) is not None:
        if end and 0 <= text.find(end, at) < match.start():
            break
        stop = _json_end(text, match.end(), close) if is_json(match) else -1
        stop = text.find(close, match.end()) if stop < 0 else stop
        if stop < 0:
            break
        found.append((match, text[match.end() : stop]))
        at = stop + len(close)
    return found, at


def json_by(parameters: Mapping[str, Any] | None) -> IsJson:
    """By the tool's schema: whether it wants something else than a string behind the name in the tag."""
    properties = (parameters or {}).get("properties")
    schemas = properties if isinstance(properties, dict) else {}

    def is_json(match: re.Match[str]) -> bool:
        kinds = kinds_of(schemas.get(match[1]))
        return bool(kinds) and "string" not in kinds

    return is_json


def on_lines(text: str) -> str:
    """A value without the line ends that set it apart."""
    return text.removeprefix("\n").removesuffix("\n")


def _json_end(text: str, at: int, close: str) -> int:
    """Where `close` follows a JSON value, -1 if it does not."""
    start = at + len(text[at : at + 8]) - len(text[at : at + 8].lstrip())
    try:
        _, end = decoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return -1
    while end < len(text) and text[end].isspace():
        end += 1
    return end if text.startswith(close, end) else -1
