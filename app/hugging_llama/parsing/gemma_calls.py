"""Gemma's calls: `call:name{key:<|"|>text<|"|>,number:1,list:[…],object:{…}}`, with `<escape>` in FunctionGemma."""

import re
from typing import Any

from hugging_llama.parsing.raw_calls import RawCall, Schemas, real, whole

_NAME = re.compile(r"\s*call:([^\s{}]+)\s*")
_KEY = re.compile(r"\s*([^\s:{}\[\],<]+)\s*:")
_BARE = re.compile(r"\s*([^,{}\[\]<>]*)")
_QUOTES = ('<|"|>', "<escape>", '"')
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")
_DEEPEST = 64


def gemma_calls(body: str, tools: Schemas) -> list[RawCall]:
    """One call. Raises ValueError for anything else."""
    match = _NAME.match(body)
    if not match:
        raise ValueError("no call")
    arguments, end = _object(body, match.end(), 0)
    if body[end:].strip():
        raise ValueError("no call")
    return [(match[1], arguments)]


def _object(text: str, at: int, depth: int) -> tuple[dict[str, Any], int]:
    at = _expect(text, at, "{")
    found: dict[str, Any] = {}
    while not text.startswith("}", _skipped(text, at)):
        key, at = _key(text, at)
        found[key], at = _value(text, at, depth + 1)
        at = _skipped(text, at)
        if not text.startswith(",", at):
            break
        at += 1
    return found, _expect(text, at, "}")


def _array(text: str, at: int, depth: int) -> tuple[list[Any], int]:
    at = _expect(text, at, "[")
    found: list[Any] = []
    while not text.startswith("]", _skipped(text, at)):
        value, at = _value(text, at, depth + 1)
        found.append(value)
        at = _skipped(text, at)
        if not text.startswith(",", at):
            break
        at += 1
    return found, _expect(text, at, "]")


def _key(text: str, at: int) -> tuple[str, int]:
    start = _skipped(text, at)
    for quote in _QUOTES:
        if text.startswith(quote, start):
            key, end = _string(text, start, quote)
            return key, _expect(text, end, ":")
    match = _KEY.match(text, at)
    if not match:
        raise ValueError("no call")
    return match[1], match.end()


def _value(text: str, at: int, depth: int) -> tuple[Any, int]:
    if depth > _DEEPEST:
        raise ValueError("no call")
    start = _skipped(text, at)
    for quote in _QUOTES:
        if text.startswith(quote, start):
            return _string(text, start, quote)
    if text.startswith("{", start):
        return _object(text, start, depth)
    if text.startswith("[", start):
        return _array(text, start, depth)
    match = _BARE.match(text, start)
    word = match[1].strip() if match else ""
    if not match or not word:
        raise ValueError("no call")
    if word in ("true", "false", "null", "None"):
        return {"true": True, "false": False}.get(word), match.end()
    if _NUMBER.fullmatch(word):
        return (real(word) if any(mark in word for mark in ".eE") else whole(word)), match.end()
    return word, match.end()


def _string(text: str, at: int, quote: str) -> tuple[str, int]:
    start = at + len(quote)
    end = text.find(quote, start)
    if end < 0:
        raise ValueError("no call")
    return text[start:end], end + len(quote)


def _expect(text: str, at: int, mark: str) -> int:
    at = _skipped(text, at)
    if not text.startswith(mark, at):
        raise ValueError("no call")
    return at + 1


def _skipped(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at
