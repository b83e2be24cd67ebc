"""Text that can't do anything to a terminal but be read."""

import re

# C0 and C1 controls except tab and newline: a model or a server must not move this terminal's cursor
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """`text` without the characters that control a terminal."""
    return _CONTROLS.sub("", text)


def one_line(error: BaseException) -> str:
    """An error's message as the one line that follows `Error: `."""
    return one_line_of(str(error))


def one_line_of(text: str) -> str:
    """`text` in one line, with nothing in it that controls a terminal."""
    return printable(" ".join(text.split()))
