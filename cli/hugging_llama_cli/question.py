"""A question that a person at a terminal answers with yes or no."""

import sys


def confirmed(question: str) -> bool:
    """Enter alone means yes; so does nothing else but yes itself."""
    print(f"{question} [Y/n] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):  # Ctrl-D
        print(file=sys.stderr)
        return False
    return answer.strip().lower() in ("", "y", "yes")
