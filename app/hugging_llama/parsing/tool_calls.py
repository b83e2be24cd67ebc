"""Finds tool calls in an answer that comes piece by piece."""

import secrets
import string
from collections.abc import Callable, Mapping
from typing import Any

from hugging_llama.neutral.messages import ToolCall
from hugging_llama.parsing.call_bodies import is_cut
from hugging_llama.parsing.partial import held_length, trailing_space
from hugging_llama.parsing.parts import joined
from hugging_llama.parsing.tool_formats import HERMES, ToolFormat
from hugging_llama.parsing.value_end import ValueEnd

_ALPHABET = string.ascii_lowercase + string.digits


def new_call_id() -> str:
    """`call_` and 8 random characters of a-z and 0-9."""
    return "call_" + "".join(secrets.choice(_ALPHABET) for _ in range(8))


class ToolCallParser:
    """Fed piece by piece; gives text and whole calls in order. `schemas` are the tools' parameters by name.

    Text before a call flows. White space next to a call is dropped. What stands between the marks but is no call
    comes back as text, marks included. A call that the model forgot to close is taken at the end, where the format
    shows that it is whole.
    """

    def __init__(
        self,
        format: ToolFormat = HERMES,
        *,
        schemas: Mapping[str, Mapping[str, Any]] = {},
        new_id: Callable[[], str] = new_call_id,
    ) -> None:
        self._format = format
        self._schemas = schemas
        self._new_id = new_id
        self._held = ""
        self._opening = ""  # the mark that the call being read began with, and the white space before it
        self._inside = False
        self._end = ValueEnd()
        self._search_from = 0
        self._num_calls = 0
        self._can_be_bare = format.is_bare
        self._after_call = False
        self._marks = (format.open, *format.noise) if format.open else format.noise

    def push(self, text: str) -> list[str | ToolCall]:
        """More text and more calls; never an empty string."""
        self._held += text
        found: list[str | ToolCall] = []
        while self._read_call(found) if self._inside else self._read_text(found):
            pass
        return joined(found)

    def finish(self) -> list[str | ToolCall]:
        """What was held back: an unclosed call, or the beginning of one as text."""
        held, self._held = self._held, ""
        if not self._inside:
            return [] if self._after_call and not held.strip() else joined([held])
        calls = [] if self._format.needs_close else self._calls(held)
        return list(calls) if calls else joined([self._opening + held])

    def _read_text(self, found: list[str | ToolCall]) -> bool:
        """Lets text flow up to the next mark; True if one has come."""
        if self._after_call:
            self._held = self._held.lstrip().lstrip(self._format.between).lstrip()
            self._after_call = not self._held
        if self._can_be_bare and not self._after_call:
            start = self._held.lstrip()
            if start and start[0] in self._format.starts:
                self._open(self._held[: len(self._held) - len(start)], start)
                return True
            self._can_be_bare = not start
            if not start:
                return False
        at, mark = min(((at, m) for m in self._marks if (at := self._held.find(m)) >= 0), default=(-1, ""))
        end = at if at >= 0 else len(self._held) - held_length(self._held, self._marks)
        keep = end - trailing_space(self._held[:end])
        found.append(self._held[:keep])
        if at < 0:
            self._held = self._held[keep:]
            return False
        rest = self._held[at + len(mark) :]
        if mark == self._format.open:
            self._open(self._held[keep : at + len(mark)], rest)
        else:
            self._held, self._after_call, self._can_be_bare = rest, True, self._format.is_bare
        return True

    def _open(self, opening: str, rest: str) -> None:
        self._opening, self._held = opening, rest
        self._inside, self._search_from = True, 0
        self._end = ValueEnd(self._format.starts, self._format.quotes)

    def _read_call(self, found: list[str | ToolCall]) -> bool:
        """Reads up to the end of the call; True if it has come."""
        if not self._format.close:
            end = self._end.find(self._held)
            return end is not None and self._close(found, end, "")
        close = self._format.close
        while (at := self._held.find(close, self._search_from)) >= 0:
            self._search_from = at + len(close)
            if self._close(found, at, close):
                return True
        self._search_from = max(self._search_from, len(self._held) - len(close) + 1)
        return False

    def _close(self, found: list[str | ToolCall], end: int, close: str) -> bool:
        """Takes what is read for a call, or for text; False if it goes on behind this mark."""
        body = self._held[:end]
        calls = self._calls(body)
        if not calls and close and is_cut(body):
            return False
        found.extend(calls or [self._opening + body + close])
        self._held = self._held[end + len(close) :]
        self._inside, self._opening = False, ""
        self._after_call = bool(calls)
        self._can_be_bare = bool(calls) and self._format.is_bare
        return True

    def _calls(self, body: str) -> list[ToolCall]:
        """The calls that `body` is; empty if it is anything else."""
        try:
            calls = self._format.read(body, self._schemas)
        except (ValueError, RecursionError):
            return []
        made = [
            ToolCall(id=self._new_id(), name=name, arguments=arguments, index=self._num_calls + number)
            for number, (name, arguments) in enumerate(calls)
        ]
        self._num_calls += len(made)
        return made
