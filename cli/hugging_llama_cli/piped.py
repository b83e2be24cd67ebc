"""What is piped into a command."""

from typing import TextIO


def piped_text(stdin: TextIO | None) -> str:
    """All of stdin if it is no terminal, else "". Bytes that are no UTF-8 are replaced, not refused."""
    if stdin is None or stdin.closed or stdin.isatty():
        return ""
    return stdin.buffer.read().decode(errors="replace").strip()
