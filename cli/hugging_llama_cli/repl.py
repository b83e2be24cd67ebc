"""The interactive chat: reads turns and commands, keeps the conversation."""

import contextlib
import sys
from dataclasses import replace

from hugging_llama_cli import slash
from hugging_llama_cli.api import Json, Server
from hugging_llama_cli.conversation import Conversation
from hugging_llama_cli.errors import CliError, ServerError
from hugging_llama_cli.line_editor import LineEditor
from hugging_llama_cli.plain import one_line, printable
from hugging_llama_cli.reply import ReplyView, show_reply
from hugging_llama_cli.terminal import DIM, RESET, Spinner
from hugging_llama_config.client import ClientSettings

PROMPT = ">>> "
MORE_PROMPT = "... "
_QUOTES = '"""'
_GREETING = "Send a message (/? for help)"


class Repl:
    """One chat on a terminal. `view` and `conversation` are what its commands change."""

    def __init__(self, server: Server, conversation: Conversation, view: ReplyView, settings: ClientSettings) -> None:
        self.server = server
        self.conversation = conversation
        self.view = view
        self._colour = settings.colour
        self.editor = LineEditor(settings.history_path, slash.completions())

    def run(self) -> int:
        """Until `/bye` or Ctrl-D; returns the exit code."""
        self.load()
        self.recall()
        print(f"{DIM}{_GREETING}{RESET}" if self._colour else _GREETING)
        with self.editor:
            while (text := self._read()) is not None:
                if text.startswith("/"):
                    if slash.execute(self, text):
                        break
                elif text.strip():
                    self._ask(text)
        return 0

    def load(self) -> None:
        """Have the model in memory before the first question. Raises ServerError."""
        with Spinner(sys.stderr):
            self.server.post("/api/generate", self.conversation.generate_body("") | {"stream": False})

    def recall(self) -> None:
        """Show what the model's own messages have said before this conversation."""
        shown: Json = {}
        with contextlib.suppress(ServerError):  # nothing that a chat needs
            shown = self.server.post("/api/show", {"model": self.conversation.model})
        messages = shown.get("messages")
        turns = [turn for turn in messages if isinstance(turn, dict)] if isinstance(messages, list) else []
        self.conversation.recalled = turns
        for turn in turns:
            text = printable(str(turn.get("content") or ""))
            if turn.get("role") == "user":
                print(f"{PROMPT}{text}")
            elif turn.get("role") == "assistant":
                print(f"{text}\n")

    def show(self, **changes: bool) -> None:
        """Change how replies are shown."""
        self.view = replace(self.view, **changes)

    def read_quoted(self, text: str) -> str | None:
        '''`text` begins with `"""`; read on until a line ends with them. None if that was interrupted.'''
        text = text[len(_QUOTES) :]
        while not text.rstrip().endswith(_QUOTES):
            try:
                text += "\n" + self.editor.read(MORE_PROMPT)
            except KeyboardInterrupt:
                print()
                return None
            except EOFError:
                print()
                return text
        return text.rstrip().removesuffix(_QUOTES)

    def _read(self) -> str | None:
        """The next message or command; None at the end of the chat."""
        while True:
            try:
                text = self.editor.read(PROMPT)
            except KeyboardInterrupt:
                print("\nUse Ctrl + d or /bye to exit.")
                continue
            except EOFError:
                print()
                return None
            if not text.lstrip().startswith(_QUOTES):
                return text
            quoted = self.read_quoted(text.lstrip())
            # a message in quotes is never a command
            if quoted is not None and quoted.strip():
                return quoted if not quoted.startswith("/") else " " + quoted

    def _ask(self, text: str) -> None:
        self.conversation.ask(text)
        try:
            reply = show_reply(self.server.stream("/api/chat", self.conversation.chat_body()), self.view)
        except CliError as error:
            self.conversation.take_back()
            print(f"Error: {one_line(error)}", file=sys.stderr)
            return
        self.conversation.keep(reply)
