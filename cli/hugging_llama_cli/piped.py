"""What is piped into a command."""

from typing import TextIO


def piped_text(stdin: TextIO | None) -> str:
    """All of stdin if it is no terminal, without white space around it, else ""."""
    return (piped_whole(stdin) or "").strip()


def piped_whole(stdin: TextIO | None) -> str | None:
    """All of stdin as it is, None for a terminal. Bytes that are no UTF-8 are replaced, not refused."""
    if stdin is None or stdin.closed or stdin.isatty():
        return None
    return stdin.buffer.read().decode(errors="replace")
