"""A terminal to write on: running text with word wrap, dimmed text, a spinner; and keys that don't show."""

import contextlib
import itertools
import os
import termios
import threading
import time
import unicodedata
from collections.abc import Iterator
from typing import TextIO

from hugging_llama_cli.plain import printable

DIM, RESET = "\x1b[2m", "\x1b[0m"
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_ASCII_FRAMES = "|/-\\"
_FRAME_S = 0.1
_SPINNER_DELAY_S = 0.3  # what is quicker than this needs no spinner
_MIN_WRAP_CELLS = 10
_FALLBACK_COLUMNS = 80


class TextWriter:
    """Writes text piece by piece. On a terminal words wrap whole and control characters are dropped.

    Elsewhere the text goes through untouched.
    """

    def __init__(self, stream: TextIO, *, wrap: bool = True, colour: bool = True) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._colour = colour and self._is_terminal
        self._wrap = wrap and self._is_terminal
        self._column = 0
        self._word = ""

    def write(self, text: str) -> None:
        """Write at once: a word that turns out too long for its line is taken back and moved to the next."""
        if self._is_terminal:
            text = printable(text)
        width = self._width()
        if self._wrap and width >= _MIN_WRAP_CELLS:
            text = "".join(self._wrapped(char, width) for char in text)
        self._stream.write(text)
        self._stream.flush()

    @contextlib.contextmanager
    def dimmed(self) -> Iterator[None]:
        """What is written inside is dim where the terminal can."""
        self._stream.write(DIM if self._colour else "")
        try:
            yield
        finally:
            self._stream.write(RESET if self._colour else "")
            self._stream.flush()

    def _width(self) -> int:
        return columns(self._stream)  # asked each time, so that a resized window is respected

    def _wrapped(self, char: str, width: int) -> str:
        if char == "\n":
            self._column, self._word = 0, ""
            return char
        cells = _cells(char)
        if char in " \t":
            self._word = ""
            if self._column + cells >= width:  # the space at the end of a full line is the line break
                self._column = 0
                return "\n"
            self._column += cells
            return " " if char == "\t" else char
        moved = ""
        if self._column + cells > width - 1:
            word_cells = sum(map(_cells, self._word))
            if word_cells < self._column and cells == 1:
                moved = (f"\x1b[{word_cells}D\x1b[K" if word_cells else "") + "\n" + self._word
                self._column = word_cells
            else:  # one word as long as the line, or a script without spaces
                moved, self._word, self._column = "\n", "", 0
        self._word += char
        self._column += cells
        return moved + char


def columns(stream: TextIO) -> int:
    """How wide the terminal is; 0 if the stream leads elsewhere."""
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return 0


class Spinner:
    """Turns on a terminal until it is stopped, behind it what is waited for and how long; nothing anywhere else."""

    def __init__(self, stream: TextIO, label: str = "") -> None:
        self._stream = stream
        self._label = label
        self._started_s = time.monotonic()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        if stream.isatty():
            self._thread = threading.Thread(target=self._turn, daemon=True)
            self._thread.start()

    def say(self, label: str) -> None:
        """What is waited for now."""
        self._label = label or self._label

    def stop(self) -> None:
        """Wipe it away. May be called more than once."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def __enter__(self) -> "Spinner":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _turn(self) -> None:
        if self._stopped.wait(_SPINNER_DELAY_S):
            return
        utf = (getattr(self._stream, "encoding", None) or "").lower().startswith("utf")
        with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
            for frame in itertools.cycle(_FRAMES if utf else _ASCII_FRAMES):
                self._stream.write(f"\r{frame} {self._text()}")
                self._stream.flush()
                if self._stopped.wait(_FRAME_S):
                    break
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _text(self) -> str:
        if not self._label:
            return ""
        seconds = f" {time.monotonic() - self._started_s:.0f}s"
        room = max(0, (columns(self._stream) or _FALLBACK_COLUMNS) - 3 - len(seconds))
        return f"{printable(self._label)[:room]}{seconds}\x1b[K"


@contextlib.contextmanager
def unechoed(stdin: TextIO | None) -> Iterator[None]:
    """What is typed meanwhile waits for the next prompt and does not show among the output; Ctrl-C works on."""
    try:
        descriptor = stdin.fileno() if stdin is not None else -1
        before = termios.tcgetattr(descriptor)
    except (OSError, ValueError, termios.error):  # no terminal
        yield
        return
    quiet = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    try:
        termios.tcsetattr(descriptor, termios.TCSANOW, quiet)
        yield
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSANOW, before)


def _cells(char: str) -> int:
    """How many columns a character takes."""
    if unicodedata.combining(char) or char in "\u200b\u200d\ufe0f":
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
