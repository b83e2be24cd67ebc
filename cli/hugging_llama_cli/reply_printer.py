"""How a reply looks: thinking between its two lines, then the answer, as Markdown where that was agreed on."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TextIO

from hugging_llama_cli.terminal import TextWriter
from hugging_llama_config.units import format_duration

if TYPE_CHECKING:
    from hugging_llama_cli.markdown_stream import MarkdownStream


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyView:
    """How replies are shown on `stdout`; `thinking` False folds the model's reasoning; `markdown` needs a
    terminal, and `wrap`."""

    thinking: bool = True
    wrap: bool = True
    colour: bool = True
    verbose: bool = False
    markdown: bool = False

    def of(self, answer_format: object) -> "ReplyView":
        """This one for answers in a format: JSON is no Markdown."""
        return replace(self, markdown=self.markdown and answer_format is None)


class ReplyPrinter:
    """Prints one reply. Elsewhere than on a terminal the answer is the model's text, byte for byte."""

    def __init__(self, view: ReplyView, stream: TextIO) -> None:
        self._shows_thinking = view.thinking
        self._is_terminal = stream.isatty()
        self._writer = TextWriter(stream, wrap=view.wrap, colour=view.colour)
        self._markdown = _markdown(stream, view.colour) if view.markdown and view.wrap and self._is_terminal else None
        self._is_thinking = False
        self._folded_since_s: float | None = None
        self._last = ""

    def shows(self, thinking: str, content: str, calls: Sequence[Any]) -> bool:
        """Whether printing these changes anything; what is folded is only counted."""
        if thinking and not self._shows_thinking and self._folded_since_s is None:
            self._folded_since_s = time.monotonic()
        return bool(content or calls or (thinking and self._shows_thinking))

    def think(self, text: str) -> None:
        if not text or not self._shows_thinking:
            return
        with self._writer.dimmed():
            if not self._is_thinking:
                self._is_thinking = True
                text = "Thinking...\n" + text.lstrip()
            self._write(text)

    def answer(self, text: str) -> None:
        if not text:
            return
        self._end_thinking()
        if self._markdown is None:
            self._write(text)
        else:
            self._last = text[-1]
            self._markdown.write(text)

    def call(self, calls: Sequence[Any]) -> None:
        """The tools that the model wants to be called: on a terminal as in a program, else as JSON."""
        if not calls:
            return
        self._end_thinking()
        self._end_markdown()
        for call in calls:
            function = call.get("function", call) if isinstance(call, dict) else call
            if self._is_terminal and isinstance(function, dict):
                with self._writer.dimmed():
                    self._write(f"Tool call: {_as_call(function)}\n")
            else:
                self._write(json.dumps(function) + "\n")

    def finish(self) -> None:
        self._end_thinking()
        self._end_markdown()
        if self._last and self._last != "\n":
            self._write("\n")
        if self._last and self._is_terminal:
            self._write("\n")

    def _end_thinking(self) -> None:
        if self._is_thinking:
            self._is_thinking = False
            with self._writer.dimmed():
                self._write(("" if self._last == "\n" else "\n") + "...done thinking.\n\n")
        if self._folded_since_s is not None:
            took_s, self._folded_since_s = time.monotonic() - self._folded_since_s, None
            if self._is_terminal:
                # what comes in one piece took a time that only the server knows
                time_text = f" for {format_duration(took_s)}" if (took_s := round(took_s, 1)) else ""
                with self._writer.dimmed():
                    self._write(f"Thought{time_text}.\n\n")

    def _end_markdown(self) -> None:
        if self._markdown is not None and self._last:
            self._markdown.finish()
            self._last = "\n"

    def _write(self, text: str) -> None:
        self._last = text[-1]
        self._writer.write(text)


def _markdown(stream: TextIO, colour: bool) -> "MarkdownStream":
    # rich is loaded for this alone
    from hugging_llama_cli.markdown_stream import MarkdownStream

    return MarkdownStream(stream, colour=colour)


def _as_call(function: Mapping[str, Any]) -> str:
    """`get_weather(city="Paris")`."""
    arguments = function.get("arguments")
    if isinstance(arguments, dict):
        text = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in arguments.items())
    else:
        text = "" if arguments is None else json.dumps(arguments, ensure_ascii=False)
    return f"{function.get('name', '')}({text})"
