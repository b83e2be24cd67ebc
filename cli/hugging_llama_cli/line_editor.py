"""Reading lines with editing, completion and a history that outlives the chat."""

import contextlib
import os
import readline
from collections.abc import Sequence
from pathlib import Path

_HISTORY_LINES = 1000


class LineEditor:
    """GNU readline or libedit behind `input`. Entering reads the history, leaving writes it."""

    def __init__(self, history_path: Path | None, completions: Sequence[str]) -> None:
        self._history_path = history_path
        self._remembers = history_path is not None
        self._completions = completions

    def __enter__(self) -> "LineEditor":
        readline.set_history_length(_HISTORY_LINES)
        readline.set_completer_delims("")
        readline.set_completer(self._complete)
        is_libedit = "libedit" in (readline.__doc__ or "")
        readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
        if self._history_path is not None:
            with contextlib.suppress(OSError):
                readline.read_history_file(self._history_path)
        return self

    def __exit__(self, *exc_info: object) -> None:
        readline.set_completer(None)
        if self._history_path is None or not self._remembers:
            return
        with contextlib.suppress(OSError):  # a home that can't be written to is no reason to fail
            # made by us first, so that nobody else may read what was asked
            os.close(os.open(self._history_path, os.O_CREAT | os.O_WRONLY, 0o600))
            readline.write_history_file(self._history_path)

    def read(self, prompt: str) -> str:
        """One line; a pasted block counts as one. Raises EOFError and KeyboardInterrupt."""
        return input(prompt)

    def remember(self, wanted: bool) -> None:
        """Whether what is typed from now on goes into the history."""
        self._remembers = wanted
        readline.set_auto_history(wanted)

    def _complete(self, text: str, state: int) -> str | None:
        matches = [word for word in self._completions if word.startswith(text)] if text.startswith("/") else []
        return matches[state] if state < len(matches) else None
