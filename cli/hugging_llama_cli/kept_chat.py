"""A conversation that goes on where a session ended, and is kept as it goes."""

import contextlib
from pathlib import Path

from hugging_llama_cli.api import Json
from hugging_llama_cli.conversation import Conversation
from hugging_llama_cli.sessions import Session, SessionStore


class KeptChat:
    """Entering reads the session into the conversation and keeps others out of it. Raises CliError."""

    def __init__(self, home: Path, name: str, conversation: Conversation) -> None:
        self._store = SessionStore(home)
        self._session = Session(name=name, model=conversation.model)
        self._conversation = conversation
        self._lock = contextlib.ExitStack()

    @property
    def name(self) -> str:
        return self._session.name

    def __enter__(self) -> "KeptChat":
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._store.opened(self.name))
            found = self._store.read(self.name)
            self._lock = stack.pop_all()
        if found is not None:
            self._session = found
            self._conversation.messages = list(found.messages)
            self._conversation.options = dict(found.options)
            self._conversation.system = found.system
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._lock.close()

    def save(self) -> None:
        """Keep what was said so far; a chat in which nothing ever was makes no file. Raises CliError."""
        kept: list[Json] = list(self._conversation.messages)
        if not kept and not self._session.created_at:
            return
        self._session.model = self._conversation.model
        self._session.messages = kept
        self._session.options, self._session.system = self._conversation.options, self._conversation.system
        self._store.write(self._session)
