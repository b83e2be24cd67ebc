"""Request bodies as Ollama's Go server reads them: JSON whatever the content type, one value, the rest ignored."""

import json
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec
from flask import Request

from hugging_llama.dialects.body_clock import PIECE_BYTES
from hugging_llama.dialects.body_stream import BodyStream
from hugging_llama.dialects.body_values import check_values
from hugging_llama.dialects.compression import decompressed
from hugging_llama.errors import BodyTooLargeError, InvalidRequestError

MAX_DEPTH = 200
"""How deep a body may nest: whatever walks through it has one of Python's thousand frames for each level."""

_LITERALS = ("true", "false", "null")


def read_body(request: Request, limit: int, timeout_s: float) -> bytes:
    """The body, decompressed. Flask's own limit would cut a chunked body short without a word, so it is counted here.
    `timeout_s` is for each piece. Raises BodyTooLargeError, BodyTooSlowError, InvalidRequestError, ClientGoneError."""
    if request.content_length is not None and request.content_length > limit:
        raise BodyTooLargeError(limit)
    body, stream = bytearray(), BodyStream(request)
    while piece := stream.read_in_time(min(PIECE_BYTES, limit + 1 - len(body)), timeout_s):
        body += piece
        if len(body) > limit:
            raise BodyTooLargeError(limit)
    return decompressed(bytes(body), request.headers.get("Content-Encoding", ""), limit)


def _no_map(value: Any) -> str:
    return f"json: cannot unmarshal {go_kind(value)} into Go value of type map[string]interface {{}}"


def parse_object(
    body: bytes, empty: str = "missing request body", not_an_object: Callable[[Any], str] = _no_map
) -> dict[str, Any]:
    """The first JSON value of the body, which must be an object; the literal `null` is an empty one.

    Raises InvalidRequestError in the words of Go's decoder, of `empty`, and of what `not_an_object` says of a value.
    """
    if not body.strip():
        raise InvalidRequestError(empty)
    check_values(body)
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = _first_value(body)
    if value is None:
        return {}
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _is_deep(value):
        raise InvalidRequestError("exceeded max depth")
    if not isinstance(value, dict):
        raise InvalidRequestError(not_an_object(value))
    return value


def _is_deep(value: Any) -> bool:
    """Whether lists and objects lie in each other more than MAX_DEPTH times; level by level, as a call a level is what
    must not be."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        inner = (child for part in level for child in (part.values() if isinstance(part, dict) else part))
        level = [child for child in inner if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def go_kind(value: Any) -> str:
    """What Go's decoder calls a JSON value of this type."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "array"
    return "object" if isinstance(value, dict) else "null"


def _first_value(body: bytes) -> Any:
    text = body.decode("utf-8", "replace").lstrip()
    try:
        value, _ = json.JSONDecoder(parse_constant=_refuse_constant).raw_decode(text)
        # once more by the decoder of all other bodies, which knows neither halves of characters nor infinite numbers;
        # the halves become replacement characters, as in Go
        whole = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return msgspec.json.decode(whole)
    except RecursionError:
        raise InvalidRequestError("exceeded max depth") from None
    except json.JSONDecodeError as error:
        raise InvalidRequestError(_go_message(error, text)) from None
    except (ValueError, msgspec.DecodeError):
        raise InvalidRequestError("json: a number is out of range") from None


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidRequestError(f"invalid character '{name[0]}' looking for beginning of value")


def _go_message(error: json.JSONDecodeError, text: str) -> str:
    if error.pos >= len(text) or error.msg.startswith("Unterminated string"):
        return "unexpected EOF"
    character = text[error.pos]
    if error.msg.startswith("Expecting property name"):
        return f"invalid character {character!r} looking for beginning of object key string"
    if error.msg.startswith("Expecting ':'"):
        return f"invalid character {character!r} after object key"
    if error.msg.startswith("Expecting ','"):
        return f"invalid character {character!r} after array element or object key:value pair"
    if error.msg.startswith("Invalid control character"):
        return f"invalid character {character!r} in string literal"
    for literal in _LITERALS:
        if character == literal[0]:
            return _literal_message(literal, text[error.pos :])
    return f"invalid character {character!r} looking for beginning of value"


def _literal_message(literal: str, text: str) -> str:
    """Where `text` stops to be the literal that it begins as."""
    for expected, found in zip(literal, text, strict=False):
        if expected != found:
            return f"invalid character {found!r} in literal {literal} (expecting {expected!r})"
    return "unexpected EOF"
