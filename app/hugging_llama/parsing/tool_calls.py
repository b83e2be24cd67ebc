"""Finds tool calls in an answer: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>` and its relatives."""

import json
import math
import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hugging_llama.neutral.messages import ToolCall
from hugging_llama.parsing.partial import held_length, trailing_space

_ALPHABET = string.ascii_lowercase + string.digits


def new_call_id() -> str:
    """`call_` and 8 random characters of a-z and 0-9."""
    return "call_" + "".join(secrets.choice(_ALPHABET) for _ in range(8))


@dataclass(frozen=True, slots=True)
class ToolCallSyntax:
    """How a family writes a call. An empty `close` means that the call goes on to the end of the answer.

    With an empty `open` an answer that starts with a brace or a bracket is one call as a whole.
    """

    open: str = "<tool_call>"
    close: str = "</tool_call>"


class ToolCallParser:
    """Fed piece by piece; gives text and whole calls in order.

    Text before a call flows. White space next to a call is dropped. What stands between the tags but is no call
    comes back as text, tags included. A call that the model forgot to close is taken at the end.
    """

    def __init__(self, syntax: ToolCallSyntax = ToolCallSyntax(), *, new_id: Callable[[], str] = new_call_id) -> None:
        self._syntax = syntax
        self._new_id = new_id
        self._held = ""
        self._space = ""  # white space before the call being read; it returns if that is no call
        self._inside = False
        self._search_from = 0
        self._num_calls = 0
        self._started = False
        self._after_call = False

    def push(self, text: str) -> list[str | ToolCall]:
        """More text and more calls; never an empty string."""
        self._held += text
        found: list[str | ToolCall] = []
        while self._read_call(found) if self._inside else self._read_text(found):
            pass
        return _joined(found)

    def finish(self) -> list[str | ToolCall]:
        """What was held back: an unclosed call, or the beginning of one as text."""
        held, self._held = self._held, ""
        if not self._inside:
            return [] if self._after_call and not held.strip() else _joined([held])
        calls = self._calls(held)
        return list(calls) if calls else _joined([self._space + self._syntax.open + held])

    def _read_text(self, found: list[str | ToolCall]) -> bool:
        """Lets text flow up to the next opening tag; True if one has come."""
        if self._after_call:
            self._held = self._held.lstrip()
            self._after_call = not self._held
        if not self._syntax.open:
            return self._read_bare(found)
        at = self._held.find(self._syntax.open)
        end = at if at >= 0 else len(self._held) - held_length(self._held, (self._syntax.open,))
        keep = end - trailing_space(self._held[:end])
        found.append(self._held[:keep])
        if at < 0:
            self._held = self._held[keep:]
            return False
        self._space = self._held[keep:at]
        self._held = self._held[at + len(self._syntax.open) :]
        self._inside, self._search_from = True, 0
        return True

    def _read_bare(self, found: list[str | ToolCall]) -> bool:
        text = self._held.lstrip()
        if not self._started and not text:
            return False
        if not self._started and text[0] in "{[":
            self._inside = True
            return True
        self._started = True
        found.append(self._held)
        self._held = ""
        return False

    def _read_call(self, found: list[str | ToolCall]) -> bool:
        """Reads up to the closing tag; True if it has come. A tag within a JSON string is part of that string."""
        close = self._syntax.close
        if not close:
            return False
        while (at := self._held.find(close, self._search_from)) >= 0:
            body = self._held[:at]
            self._search_from = at + len(close)
            calls = self._calls(body)
            if not calls and _ends_in_string(body):
                continue
            found.extend(calls or [self._space + self._syntax.open + body + close])
            self._held = self._held[self._search_from :]
            self._inside, self._space = False, ""
            self._after_call = bool(calls)
            return True
        self._search_from = max(self._search_from, len(self._held) - len(close) + 1)
        return False

    def _calls(self, body: str) -> list[ToolCall]:
        """The calls that `body` is; empty if it is anything else."""
        try:
            value = json.loads(body, parse_constant=_refuse, parse_float=_finite)
            calls = [_name_and_arguments(item) for item in (value if isinstance(value, list) else [value])]
        except (ValueError, RecursionError):
            return []
        made = [
            ToolCall(id=self._new_id(), name=name, arguments=arguments, index=self._num_calls + number)
            for number, (name, arguments) in enumerate(calls)
        ]
        self._num_calls += len(made)
        return made


def _name_and_arguments(value: Any) -> tuple[str, dict[str, Any]]:
    """Raises ValueError if `value` is no call."""
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        raise ValueError("no call")
    arguments = value.get("arguments", value.get("parameters"))
    if isinstance(arguments, str) and arguments.strip():
        arguments = json.loads(arguments, parse_constant=_refuse, parse_float=_finite)
    arguments = {} if arguments is None or arguments == "" else arguments
    if not isinstance(arguments, dict):
        raise ValueError("arguments are no object")
    # A lone surrogate is legal in JSON's escapes, yet can't be sent on: encoding raises UnicodeEncodeError.
    json.dumps([value["name"], arguments], ensure_ascii=False).encode()
    return value["name"], arguments


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("number out of range")
    return value


def _ends_in_string(body: str) -> bool:
    """Whether the end of `body` lies within a JSON string."""
    inside = escaped = False
    for character in body:
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = inside
        elif character == '"':
            inside = not inside
    return inside


def _joined(parts: list[str | ToolCall]) -> list[str | ToolCall]:
    """`parts` with neighbouring texts joined and empty ones left out."""
    joined: list[str | ToolCall] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part != "":
            joined.append(part)
    return joined
