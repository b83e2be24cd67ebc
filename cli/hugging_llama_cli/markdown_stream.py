"""Markdown on a terminal while it is still being written.

A block that has ended is drawn once and scrolls away; of the one that goes on, the lines that changed are drawn again.
rich is imported with this module, so only who writes Markdown imports it.
"""

import contextlib
import io
import math
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise, takewhile
from typing import ClassVar, TextIO

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown, MarkdownElement
from rich.syntax import Syntax
from rich.theme import Theme

from hugging_llama_cli.plain import printable

_LEAST_PAUSE_S = 0.03
_COST_SHARE = 4.0  # drawing takes a fifth of the time at most
_FALLBACK_SIZE = os.terminal_size((80, 24))
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_TRAILING = re.compile(r" +((?:\x1b\[0m)?)$")
_THEME = Theme(
    {
        "markdown.code": "cyan",
        "markdown.code_block": "none",
        "markdown.h1": "bold underline",
        "markdown.h2": "bold underline",
        "markdown.h3": "bold",
        "markdown.item.bullet": "bold",
        "markdown.item.number": "bold",
        "markdown.block_quote": "italic",
        "markdown.link_url": "underline",
    }
)


class _Code(CodeBlock):
    """Without a frame or a background, so that it can be copied as it is."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        code = str(self.text).rstrip()
        text = Syntax(code, self.lexer_name, theme=self.theme, background_color="default").highlight(code)
        text.rstrip()
        text.style = "none"
        text.overflow = "fold"
        yield text


class _Heading(Heading):
    """Where the text is, and not in the middle of a wide screen."""

    LEVEL_ALIGN: ClassVar = {}


class _Block(Markdown):
    """A block of a document, already parsed."""

    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements, "fence": _Code, "code_block": _Code, "heading_open": _Heading,
    }  # fmt: skip

    def __init__(self, tokens: Sequence[Token]) -> None:
        super().__init__("", code_theme="ansi_dark", hyperlinks=False)
        self.parsed = list(tokens)


class MarkdownStream:
    """Takes the text piece by piece; `finish` draws the end and puts the cursor below it."""

    def __init__(self, stream: TextIO, *, colour: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._colour = colour
        self._clock = clock
        # tags of HTML stay readable: a model that writes about them means them as text
        self._parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
        self._rest = ""
        self._drawn: list[str] = []
        self._is_first = True
        self._next_s = 0.0
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def write(self, text: str) -> None:
        """Draw now, or in a moment if the last drawing was just before."""
        with self._lock:
            self._rest += printable(text)
            pause_s = self._next_s - self._clock()
            if pause_s <= 0:
                self._draw()
            elif self._timer is None:
                self._timer = threading.Timer(pause_s, self._draw_later)
                self._timer.daemon = True
                self._timer.start()

    def finish(self) -> None:
        """Nothing comes any more."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._draw()
            if self._drawn or not self._is_first:
                self._put("\n")
            self._rest, self._drawn, self._is_first = "", [], True

    def _draw_later(self) -> None:
        with self._lock, contextlib.suppress(OSError, ValueError):  # the terminal may be gone
            if self._timer is not None:
                self._timer = None
                self._draw()

    def _draw(self) -> None:
        start_s = self._clock()
        # what a line begins is known when it ends, so only whole lines say where a block has ended
        whole, _, _ = self._rest.rpartition("\n")
        *finished, last = self._blocks(whole) or [[]]
        done = self._lines(finished)
        if finished:
            self._rest = "\n".join(self._rest.split("\n")[(last[0].map or [0])[0] :])
        self._show(done + self._lines(self._blocks(self._rest), is_below=bool(finished)))
        if finished:
            self._drawn, self._is_first = self._drawn[len(done) :], False
        end_s = self._clock()
        self._next_s = end_s + max(_LEAST_PAUSE_S, _COST_SHARE * (end_s - start_s))

    def _blocks(self, text: str) -> list[list[Token]]:
        tokens = self._parser.parse(text)
        for inline in (child for token in tokens for child in token.children or ()):
            if inline.type == "softbreak":  # models end lines where they mean it
                inline.type = "hardbreak"
        starts = [n for n, token in enumerate(tokens) if token.level == 0 and token.nesting >= 0 and token.map]
        return [tokens[first:end] for first, end in pairwise([*starts, len(tokens)])]

    def _lines(self, blocks: Sequence[Sequence[Token]], *, is_below: bool = False) -> list[str]:
        """The lines of blocks, with an empty one above each of them but the very first."""
        lines = [line for block in blocks for line in ("", *self._rendered(block))]
        return lines[1:] if self._is_first and not is_below else lines

    def _rendered(self, block: Sequence[Token]) -> list[str]:
        out = io.StringIO()
        console = Console(
            file=out, width=max(self._size().columns - 1, 1), force_terminal=True, color_system="standard",
            no_color=not self._colour, legacy_windows=False, highlight=False, theme=_THEME, _environ={},
        )  # fmt: skip
        console.print(_Block(block), end="")
        lines = [_TRAILING.sub(r"\1", line) for line in out.getvalue().split("\n")]
        while lines and not _ESCAPES.sub("", lines[-1]):
            lines.pop()
        while lines and not _ESCAPES.sub("", lines[0]):
            lines.pop(0)
        return lines

    def _show(self, lines: list[str]) -> None:
        """Make what is drawn into `lines`; the cursor stands behind the last one, before and after."""
        size, drawn = self._size(), self._drawn
        same = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(drawn, lines, strict=False))))
        # what has scrolled off the screen is out of reach
        first = max(min(same, len(drawn) - 1, len(lines) - 1), len(drawn) - size.lines, 0)
        if drawn == lines:
            return
        up = sum(_rows(line, size.columns) for line in drawn[first:]) - 1 if drawn else 0
        move = (f"\x1b[{up}A" if up > 0 else "") + "\r"
        self._put(move + "\x1b[K\n".join(lines[first:]) + "\x1b[K" + ("\x1b[J" if len(lines) < len(drawn) else ""))
        self._drawn = lines

    def _size(self) -> os.terminal_size:
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            return _FALLBACK_SIZE
        return size if size.columns and size.lines else _FALLBACK_SIZE

    def _put(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _rows(line: str, columns: int) -> int:
    """How many rows a line takes; more than one if the window has become narrower since it was drawn."""
    return max(1, math.ceil(cell_len(_ESCAPES.sub("", line)) / columns))
