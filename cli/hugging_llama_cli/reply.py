"""One streamed reply on its way to the user: spinner, thinking, answer, figures."""

import contextlib
import json
import sys
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO

from hugging_llama_cli.api import Json
from hugging_llama_cli.errors import ServerError
from hugging_llama_cli.terminal import Spinner, TextWriter
from hugging_llama_config.units import format_duration

_ENDED_EARLY = {
    "length": "the reply was cut off at the limit of tokens",
    "shutdown": "the reply was cut off: the server is shutting down",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyView:
    """How replies are shown on `stdout`; `thinking` False hides the model's reasoning."""

    thinking: bool = True
    wrap: bool = True
    colour: bool = True
    verbose: bool = False


@dataclass(slots=True)
class Reply:
    """What has come of a reply. `final` is its last object; `interrupted` says that the user ended it."""

    content: str = ""
    thinking: str = ""
    tool_calls: list[Any] = field(default_factory=list)
    final: Json | None = None
    interrupted: bool = False


def show_reply(items: Generator[Json, None, None], view: ReplyView) -> Reply:
    """Print a reply as it arrives. Ctrl-C closes the connection and ends the reply.

    Raises ServerError if the stream breaks off.
    """
    reply = Reply()
    printer = _Printer(view, sys.stdout)
    with contextlib.ExitStack() as stack:
        stack.callback(items.close)
        spinner = stack.enter_context(Spinner(sys.stderr))
        try:
            for item in items:
                _take(item, reply, printer, spinner)
                if item.get("done"):
                    reply.final = item
                    break
        except KeyboardInterrupt:
            reply.interrupted = True
        finally:
            spinner.stop()
            printer.finish()
    if reply.interrupted:
        return reply
    if reply.final is None:
        raise ServerError("the server broke off its answer")
    _print_end(reply.final, view)
    return reply


def _take(item: Json, reply: Reply, printer: "_Printer", spinner: Spinner) -> None:
    message = item.get("message")
    source: Mapping[str, Any] = message if isinstance(message, dict) else item
    thinking = str(source.get("thinking") or "")
    content = str(source.get("content" if source is message else "response") or "")
    calls = source.get("tool_calls") or []
    if not (thinking or content or calls):
        return
    spinner.stop()
    reply.thinking += thinking
    reply.content += content
    reply.tool_calls.extend(calls)
    printer.think(thinking)
    printer.answer(content)
    for call in calls:
        printer.answer(json.dumps(call.get("function", call) if isinstance(call, dict) else call) + "\n")


def _print_end(final: Json, view: ReplyView) -> None:
    reason = _ENDED_EARLY.get(str(final.get("done_reason")))
    if reason and sys.stderr.isatty():
        print(f"({reason})", file=sys.stderr)
    if view.verbose:
        print(figures(final), file=sys.stderr)


class _Printer:
    """Thinking between its two lines, then the answer, then an empty line on a terminal."""

    def __init__(self, view: ReplyView, stream: TextIO) -> None:
        self._shows_thinking = view.thinking
        self._is_terminal = stream.isatty()
        self._writer = TextWriter(stream, wrap=view.wrap, colour=view.colour)
        self._is_thinking = False
        self._last = ""

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
        self._write(text)

    def finish(self) -> None:
        self._end_thinking()
        if self._last and self._last != "\n":
            self._write("\n")
        if self._last and self._is_terminal:
            self._write("\n")

    def _end_thinking(self) -> None:
        if self._is_thinking:
            self._is_thinking = False
            with self._writer.dimmed():
                self._write(("" if self._last == "\n" else "\n") + "...done thinking.\n\n")

    def _write(self, text: str) -> None:
        self._last = text[-1]
        self._writer.write(text)


def figures(final: Json) -> str:
    """What `--verbose` prints: times, token counts and rates."""
    lines = [
        ("total duration", _time(final.get("total_duration"))),
        ("load duration", _time(final.get("load_duration"))),
    ]
    for key, label in (("prompt_eval", "prompt eval"), ("eval", "eval")):
        count, seconds = final.get(f"{key}_count"), _seconds(final.get(f"{key}_duration"))
        if not isinstance(count, int):
            continue
        lines.append((f"{label} count", f"{count} token(s)"))
        lines.append((f"{label} duration", format_duration(seconds)))
        if seconds > 0:
            lines.append((f"{label} rate", f"{count / seconds:.2f} tokens/s"))
    return "\n".join(f"{label + ':':<22}{text}" for label, text in lines if text)


def _time(value: Any) -> str:
    return format_duration(_seconds(value)) if isinstance(value, int | float) else ""


def _seconds(value: Any) -> float:
    """Whole numbers are nanoseconds; a server may be set to send fractions, which are seconds."""
    if isinstance(value, float):
        return value
    return value / 1e9 if isinstance(value, int) else 0.0
