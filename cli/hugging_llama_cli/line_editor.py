"""Reading messages with editing, completion and a history that outlives the chat."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition, has_selection, is_searching
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.shortcuts import CompleteStyle

from hugging_llama_cli.plain_reader import GREETING, MORE_PROMPT, PROMPT
from hugging_llama_cli.quoted import is_open
from hugging_llama_config.private_file import replace_private_file

_MAX_HISTORY_BYTES = 2**20

Complete = Callable[[str], Iterable[str]]
"""The lines that a line may become."""


class LineEditor:
    """One user's prompt. A message whose `\"\"\"` are open goes on in the next line, as does what was pasted."""

    def __init__(self, history_path: Path | None, complete: Complete, *, colour: bool) -> None:
        self._history = InMemoryHistory() if history_path is None else _PrivateHistory(history_path)
        self._switch = _Switch(self._history)
        self._session: PromptSession[str] = PromptSession(
            history=self._switch,
            completer=_Lines(complete),
            complete_while_typing=False,
            complete_style=CompleteStyle.READLINE_LIKE,
            multiline=Condition(lambda: is_open(get_app().current_buffer.text)),
            prompt_continuation=lambda width, line, wraps: "" if wraps else MORE_PROMPT,
            placeholder=_greeting if colour else None,
            color_depth=None if colour else ColorDepth.DEPTH_1_BIT,
            key_bindings=_keys(),
            enable_suspend=True,
        )
        # of a terminal that is slow to say where its cursor is, nobody needs to be warned
        self._session.app.renderer.cpr_not_supported_callback = None
        if not colour:
            print(GREETING)

    def read(self) -> str:
        """One message. Raises EOFError for Ctrl-D, and KeyboardInterrupt."""
        return self._session.prompt(PROMPT)

    @property
    def abandoned(self) -> str:
        """What stood there when `read` was interrupted."""
        return self._session.default_buffer.text

    def remember(self, wanted: bool) -> None:
        """Whether what is typed from now on goes into the history."""
        self._switch.is_on = wanted


class _PrivateHistory(FileHistory):
    """Nobody else may read what was asked. A home that can't be written to is no reason to fail."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path

    def load_history_strings(self) -> Iterable[str]:
        try:
            if self._path.stat().st_size > _MAX_HISTORY_BYTES:
                self._shorten()
            return super().load_history_strings()
        except OSError:
            return ()

    def store_string(self, string: str) -> None:
        try:
            os.close(os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600))
            super().store_string(string)
        except OSError:
            return

    def _shorten(self) -> None:
        """Keep the newer half, from the beginning of an entry on."""
        kept = self._path.read_bytes()[-_MAX_HISTORY_BYTES // 2 :]
        replace_private_file(self._path, kept[max(kept.find(b"\n#"), 0) :])


class _Switch(History):
    """A history that can be told to take no more."""

    def __init__(self, kept: History) -> None:
        super().__init__()
        self._kept = kept
        self.is_on = True

    def load_history_strings(self) -> Iterable[str]:
        return self._kept.load_history_strings()

    def append_string(self, string: str) -> None:
        if self.is_on:
            super().append_string(string)

    def store_string(self, string: str) -> None:
        self._kept.store_string(string)


class _Lines(Completer):
    """Offers whole lines."""

    def __init__(self, complete: Complete) -> None:
        self._complete = complete

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        for line in self._complete(text):
            # the last word is what people want to see in a list
            yield Completion(line, -len(text), display=line.rpartition(" ")[2])


def _greeting() -> StyleAndTextTuples:
    """Stands where nothing is typed yet, and not in what scrolls up."""
    return [] if get_app().is_done else [("ansibrightblack", GREETING)]


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("c-g", filter=~is_searching & ~has_selection)
    def _open_editor(event: KeyPressEvent) -> None:
        event.current_buffer.open_in_editor()

    @keys.add("escape", "enter")
    def _next_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys
