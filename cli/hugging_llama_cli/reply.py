"""One streamed reply on its way to the user: what the server is about, the reply, figures."""

import contextlib
import sys
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hugging_llama_cli.api import Json
from hugging_llama_cli.errors import ServerError
from hugging_llama_cli.reply_printer import ReplyPrinter, ReplyView
from hugging_llama_cli.terminal import Spinner, unechoed
from hugging_llama_config.units import format_duration

_ENDED_EARLY = {
    "length": "the reply was cut off at the limit of tokens",
    "shutdown": "the reply was cut off: the server is shutting down",
}


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
    printer = ReplyPrinter(view, sys.stdout)
    with contextlib.ExitStack() as stack:
        stack.callback(items.close)
        stack.enter_context(unechoed(sys.stdin))
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


def _take(item: Json, reply: Reply, printer: ReplyPrinter, spinner: Spinner) -> None:
    if isinstance(progress := item.get("progress"), dict):
        spinner.say(_beginning(progress))
    message = item.get("message")
    source: Mapping[str, Any] = message if isinstance(message, dict) else item
    thinking = str(source.get("thinking") or "")
    content = str(source.get("content" if source is message else "response") or "")
    calls = source.get("tool_calls") or []
    reply.thinking += thinking
    reply.content += content
    reply.tool_calls.extend(calls)
    if printer.shows(thinking, content, calls):
        spinner.stop()
        printer.think(thinking)
        printer.answer(content)
        printer.call(calls)
    elif thinking:
        spinner.say("thinking")


def _beginning(progress: Mapping[str, Any]) -> str:
    """What the server does before the first token, in words."""
    phase = progress.get("phase")
    if phase == "queue":
        wait = f", some {progress['expected_wait']:.0f} s" if progress.get("expected_wait") else ""
        return f"waiting, place {progress.get('position', '?')} in the queue{wait}"
    if phase == "prompt" and isinstance(total := progress.get("total"), int) and total:
        return f"reading the prompt, {progress.get('completed', 0)} of {total} tokens"
    return {"load": "loading the model", "prompt": "reading the prompt"}.get(str(phase), "")


def _print_end(final: Json, view: ReplyView) -> None:
    reason = _ENDED_EARLY.get(str(final.get("done_reason")))
    if reason and sys.stderr.isatty():
        print(f"({reason})", file=sys.stderr)
    if view.verbose:
        print(figures(final), file=sys.stderr)


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
