"""Word wrap, and the spinner, on terminals made of memory."""

import io
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama_cli import terminal as terminal_module
from hugging_llama_cli.terminal import Spinner, TextWriter

_WIDTH = 20


class _Terminal(io.StringIO):
    """Remembers what it was sent, and can work out what its lines look like."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """The lines on the screen: text, line feeds, and the one pair of escapes that takes a word back."""
        screen = ""
        for piece in re.split(r"(\x1b\[\d+D\x1b\[K)", self.getvalue()):
            back = re.fullmatch(r"\x1b\[(\d+)D\x1b\[K", piece)
            screen = screen[: -int(back[1])] if back else screen + piece
        return screen.split("\n")


class _Writer(TextWriter):
    """A writer to a terminal of known width."""

    def _width(self) -> int:
        return _WIDTH


def _wrapped(pieces: list[str]) -> list[str]:
    terminal = _Terminal()
    writer = _Writer(terminal)
    for piece in pieces:
        writer.write(piece)
    return terminal.lines()


def test_words_move_whole_to_the_next_line() -> None:
    assert _wrapped(["The quick br", "own fox ju", "mps over"]) == ["The quick brown fox", "jumps over"]
    assert _wrapped(["one\ntwo\n\nthree"]) == ["one", "two", "", "three"]


def test_a_word_longer_than_a_line_is_cut() -> None:
    assert _wrapped(["x" * 45]) == ["x" * 19, "x" * 19, "x" * 7]
    assert _wrapped(["see ", "x" * 30]) == ["see ", "x" * 19, "x" * 11]


def test_wide_characters_count_twice() -> None:
    assert _wrapped(["語" * 12]) == ["語" * 9, "語" * 3]


@given(st.lists(st.text(alphabet="ab \n", max_size=30), max_size=12))
def test_no_line_is_too_long_and_nothing_is_lost(pieces: list[str]) -> None:
    text = "".join(pieces)
    lines = _wrapped(pieces)
    assert all(len(line.rstrip()) < _WIDTH for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "").replace("\n", "")
    if all(len(word) < _WIDTH for word in text.split()):
        assert " ".join(lines).split() == text.split(), "no word may be torn"


def test_without_a_terminal_text_goes_through_untouched() -> None:
    stream = io.StringIO()
    writer = TextWriter(stream)
    with writer.dimmed():
        writer.write("a\x1b[1m" + "b" * 200)
    assert stream.getvalue() == "a\x1b[1m" + "b" * 200


def test_the_spinner_turns_and_leaves_nothing() -> None:
    terminal = _Terminal()
    with Spinner(terminal):
        deadline = time.monotonic() + 60
        while "⠙" not in terminal.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert terminal.getvalue().startswith("\r⠋ \r⠙ ")
    assert terminal.getvalue().endswith("\r\x1b[K")


@pytest.mark.parametrize("stream", [_Terminal(), io.StringIO()])
def test_a_short_wait_needs_no_spinner(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal_module, "_SPINNER_DELAY_S", 600.0)
    with Spinner(stream) as spinner:
        spinner.stop()
    assert stream.getvalue() == ""
