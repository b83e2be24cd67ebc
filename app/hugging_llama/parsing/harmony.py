"""The answers of gpt-oss: messages with a channel each, for reasoning, calls and the text that users see.

Source: https://cookbook.openai.com/articles/openai-harmony
"""

import re
from collections.abc import Callable

from hugging_llama.neutral.messages import ToolCall
from hugging_llama.parsing.call_bodies import json_object
from hugging_llama.parsing.partial import held_length
from hugging_llama.parsing.parts import Part, Thought, joined
from hugging_llama.parsing.tool_calls import new_call_id

START, CHANNEL, MESSAGE, CONSTRAIN = "<|start|>", "<|channel|>", "<|message|>", "<|constrain|>"
ENDS = ("<|end|>", "<|call|>", "<|return|>")

_RECIPIENT = re.compile(r"to=(?:functions\.)?([^\s<]+)")
_CHANNEL_NAME = re.compile(re.escape(CHANNEL) + r"\s*(\w+)")


class HarmonyParser:
    """Fed piece by piece; gives reasoning, text and whole calls in order.

    The prompt ends where the header of a message begins. Without a header all is text.
    """

    def __init__(self, *, new_id: Callable[[], str] = new_call_id) -> None:
        self._new_id = new_id
        self._held = ""
        self._in_header = True
        self._header = ""
        self._is_first = True
        self._has_text = False
        self._num_calls = 0

    def push(self, text: str) -> list[Part]:
        """More reasoning, text and calls; never an empty one."""
        self._held += text
        found: list[Part] = []
        while self._read_header() if self._in_header else self._read_body(found):
            pass
        return joined(found)

    def finish(self) -> list[Part]:
        """What was held back; a call whose end mark is an end-of-sequence token is taken now."""
        held, self._held = self._held, ""
        if self._in_header:
            return [held] if self._is_first and held.strip() and CHANNEL not in held else []
        return joined(self._message(held, is_whole=True))

    @property
    def is_inside(self) -> bool:
        """Whether a message of reasoning has begun and not ended."""
        return not self._in_header and not self._recipient and self._is_analysis

    @property
    def is_aside(self) -> bool:
        """Whether what came last is known to be no part of a text: reasoning, a call, or a header."""
        if self._in_header:
            return not self._is_first
        return self.is_inside or bool(self._recipient) or not (self._has_text or self._held)

    @property
    def _is_analysis(self) -> bool:
        match = _CHANNEL_NAME.search(self._header)
        return match is not None and match[1] == "analysis"

    @property
    def _recipient(self) -> str:
        match = _RECIPIENT.search(self._header)
        return match[1] if match else ""

    def _read_header(self) -> bool:
        """True once the body begins."""
        if self._is_first and not _may_be_header(self._held):
            self._header, self._in_header, self._is_first = "", False, False
            return True
        at = self._held.find(MESSAGE)
        if at < 0:
            return False
        self._header, self._held = self._held[:at], self._held[at + len(MESSAGE) :]
        self._in_header = self._is_first = self._has_text = False
        return True

    def _read_body(self, found: list[Part]) -> bool:
        """True if the message has ended."""
        marks = (*ENDS, START)
        at, mark = min(((at, m) for m in marks if (at := self._held.find(m)) >= 0), default=(-1, ""))
        if at < 0:
            if not self._recipient:
                keep = len(self._held) - held_length(self._held, marks)
                found += self._message(self._held[:keep], is_whole=False)
                self._held = self._held[keep:]
            return False
        found += self._message(self._held[:at], is_whole=True)
        self._held = self._held[at + len(mark) :]
        self._in_header = True
        return True

    def _message(self, text: str, *, is_whole: bool) -> list[Part]:
        if recipient := self._recipient:
            return [self._call(recipient, text)] if is_whole else []
        self._has_text = self._has_text or bool(text)
        return [Thought(text) if self._is_analysis else text]

    def _call(self, name: str, text: str) -> ToolCall | str:
        try:
            arguments = json_object(text)
        except (ValueError, RecursionError):
            return text
        self._num_calls += 1
        return ToolCall(id=self._new_id(), name=name, arguments=arguments, index=self._num_calls - 1)


def _may_be_header(text: str) -> bool:
    """Whether an answer that begins like this begins with a message's header."""
    start = text.lstrip()
    begins = (CHANNEL, START, MESSAGE, CONSTRAIN, "to=")
    return not start or any(start.startswith(mark) or mark.startswith(start) for mark in begins)
