"""Help that fits the terminal; elsewhere it is as it was written."""

import os
import sys
from collections.abc import Sequence


def fitted(text: str) -> str:
    """Paragraphs at the terminal's width. What is set out in columns, by two spaces, stays as it is."""
    width = _width()
    if not width or all(len(line) < width for line in text.splitlines()):
        return text
    import textwrap  # argparse imports it anyway, as it prints

    paragraphs = text.strip().split("\n\n")
    return "\n\n".join(part if "  " in part else textwrap.fill(part, width - 1) for part in paragraphs)


def entries(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Names and what they mean, in two columns."""
    width, cells = _width(), max(len(name) for name, _ in pairs) + 5
    if not width or all(cells + len(text) < width for _, text in pairs):
        return [f"  {name:<{cells - 2}}{text}" for name, text in pairs]
    import textwrap

    lines = []
    for name, text in pairs:
        first = f"  {name:<{cells - 2}}"
        lines.append(textwrap.fill(text, width - 1, initial_indent=first, subsequent_indent=" " * cells))
    return lines


def _width() -> int:
    """The terminal's, 0 elsewhere."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError, AttributeError):
        return 0
