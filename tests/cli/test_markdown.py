"""Markdown that is still being written, on a screen kept in memory."""

import io
import os
import time

import pyte
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hugging_llama_cli.markdown_stream import MarkdownStream

_TEXT = """\
# A title

Some *text* with **weight**, `code` and <b>tags</b> that is longer than one line of a narrow screen has room for.
A second line.

1. first
2. second
   - inner [link](http://example.org/a_b)

| name | count |
|------|------:|
| a    |     1 |
| long name | 20 |

```python
def f(x):
    return "a string" * x
```

> quoted

The end.
"""


class _Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class _Stream(MarkdownStream):
    """Draws at once, on a screen of a size that can change."""

    def __init__(self, columns: int, rows: int) -> None:
        self.out = _Terminal()
        super().__init__(self.out, clock=lambda: self.now_s)
        self.now_s = 0.0
        self.size = os.terminal_size((columns, rows))
        self.screen = pyte.HistoryScreen(columns, rows, history=1000, ratio=0.5)
        self.screen.set_mode(pyte.modes.LNM)
        self._bytes = pyte.Stream(self.screen)
        self._fed = 0

    def _size(self) -> os.terminal_size:
        return self.size

    def write(self, text: str) -> None:
        self.now_s += 1000
        super().write(text)

    def lines(self) -> list[str]:
        self._bytes.feed(self.out.getvalue()[self._fed :])
        self._fed = len(self.out.getvalue())
        above = ["".join(line[x].data for x in range(self.screen.columns)).rstrip() for line in self.screen.history.top]
        return "\n".join([*above, *(line.rstrip() for line in self.screen.display)]).rstrip("\n").split("\n")


def _shown(pieces: list[str], columns: int = 60, rows: int = 40) -> list[str]:
    stream = _Stream(columns, rows)
    for piece in pieces:
        stream.write(piece)
    stream.finish()
    return stream.lines()


def test_the_screen() -> None:
    assert _shown([_TEXT]) == [
        "A title",
        "",
        "Some text with weight, code and <b>tags</b> that is longer",
        "than one line of a narrow screen has room for.",
        "A second line.",
        "",
        " 1 first",
        " 2 second",
        "    • inner link (http://example.org/a_b)",
        "",
        " name       count",
        " ────────────────",
        " a              1",
        " long name     20",
        "",
        "def f(x):",
        '    return "a string" * x',
        "",
        "▌ quoted",
        "",
        "The end.",
    ]


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("size", [1, 7])
def test_piece_by_piece_the_screen_ends_the_same(columns: int, size: int) -> None:
    pieces = [_TEXT[at : at + size] for at in range(0, len(_TEXT), size)]
    assert _shown(pieces, columns) == _shown([_TEXT], columns)


@hypothesis_settings(max_examples=25, derandomize=True)
@given(st.lists(st.text(alphabet="ab*`_#|-> \n1.", max_size=12), max_size=12))
def test_any_text_ends_as_if_it_had_come_at_once(pieces: list[str]) -> None:
    assert _shown(pieces) == _shown(["".join(pieces)])


def test_what_is_finished_is_written_once_and_scrolls() -> None:
    text = "".join(f"Paragraph number {n} of this answer.\n\n" for n in range(30))
    stream = _Stream(60, 10)
    for at in range(0, len(text), 5):
        stream.write(text[at : at + 5])
    stream.finish()
    assert [line for line in stream.lines() if line] == [f"Paragraph number {n} of this answer." for n in range(30)]
    # each line is drawn while it grows, and never after it has ended
    assert stream.out.getvalue().count("Paragraph number 3 of this answer.") == 1


def test_code_longer_than_the_screen_scrolls_without_being_drawn_again() -> None:
    text = "```\n" + "".join(f"line {n}\n" for n in range(50)) + "```\n"
    stream = _Stream(60, 10)
    for line in text.splitlines(keepends=True):
        stream.write(line)
    stream.finish()
    assert stream.lines() == [f"line {n}" for n in range(50)]
    assert stream.out.getvalue().count("line 3\x1b") <= 2


def test_control_characters_do_nothing() -> None:
    assert _shown(["a\x1b[2Jb\x07\r\n"]) == ["a[2Jb"]


def test_a_narrower_window_loses_nothing() -> None:
    stream = _Stream(60, 20)
    stream.write("one two three four five six seven eight")
    assert stream.lines() == ["one two three four five six seven eight"]
    stream.size = os.terminal_size((20, 20))
    stream.write(" nine")
    stream.finish()
    assert " ".join(stream.lines()[-3:]) == "one two three four five six seven eight nine"


def test_what_comes_too_soon_is_drawn_a_moment_later() -> None:
    out = _Terminal()
    stream = MarkdownStream(out, clock=lambda: 0.0)
    stream.write("first")
    stream.write(" second")
    deadline = time.monotonic() + 60
    while "first second" not in out.getvalue():
        assert time.monotonic() < deadline
        time.sleep(0.01)
