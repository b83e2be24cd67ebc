"""The interactive chat: reads turns and commands, keeps the conversation."""

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hugging_llama_cli import slash
from hugging_llama_cli.api import Json, Server
from hugging_llama_cli.conversation import Conversation, called
from hugging_llama_cli.errors import CliError, ServerError
from hugging_llama_cli.kept_chat import KeptChat
from hugging_llama_cli.models import capabilities, local_models, name_of
from hugging_llama_cli.pictures import names_picture, with_pictures
from hugging_llama_cli.plain import one_line, printable
from hugging_llama_cli.plain_reader import GREETING, PROMPT, PlainReader
from hugging_llama_cli.quoted import unquoted
from hugging_llama_cli.reply import show_reply
from hugging_llama_cli.reply_printer import ReplyView
from hugging_llama_cli.terminal import Spinner, TextWriter, unechoed
from hugging_llama_config.client import ClientSettings

if TYPE_CHECKING:
    from hugging_llama_cli.line_editor import LineEditor


class Repl:
    """One chat on a terminal. `view` and `conversation` are what its commands change."""

    def __init__(
        self,
        server: Server,
        conversation: Conversation,
        view: ReplyView,
        settings: ClientSettings,
        kept: KeptChat | None = None,
    ) -> None:
        self.server = server
        self.conversation = conversation
        self.view = view
        self._kept = kept
        self.thoughts = ""
        self.can_see = False
        self._names: list[str] | None = None
        self.editor = self._reader(settings)

    def run(self) -> int:
        """Until `/bye` or Ctrl-D; returns the exit code."""
        self.load()
        self.recall()
        if self._kept is not None and self.conversation.messages:
            print(f"The session '{self._kept.name}' goes on after {len(self.conversation.messages)} messages.")
            self._print_turns(self.conversation.messages[-2:])
        is_over = False
        while not is_over:
            # a second Ctrl-C may come when the first has already ended what it was meant for
            with contextlib.suppress(KeyboardInterrupt):
                is_over = self._turn()
        return 0

    def _reader(self, settings: ClientSettings) -> "PlainReader | LineEditor":
        if settings.is_dumb:
            print(GREETING)
            return PlainReader()
        # prompt_toolkit takes a third of a second to import
        from hugging_llama_cli.line_editor import LineEditor

        return LineEditor(settings.history_path, self._complete, colour=settings.colour)

    def _turn(self) -> bool:
        """One message or command; whether the chat is over."""
        text = self._read()
        if text is None:
            return True
        if text.startswith("/") and not (self.can_see and names_picture(text)):
            return slash.execute(self, text)
        if text.strip():
            self._ask(text)
        return False

    def load(self) -> None:
        """Have the model in memory before the first question. Raises ServerError."""
        with unechoed(sys.stdin), Spinner(sys.stderr, f"loading {self.conversation.model}"):
            self.server.post("/api/generate", self.conversation.generate_body("") | {"stream": False})

    def recall(self) -> None:
        """Show what the model's own messages have said before this conversation."""
        shown: Json = {}
        with contextlib.suppress(ServerError):  # nothing that a chat needs
            shown = self.server.post("/api/show", {"model": self.conversation.model})
        self.can_see = "vision" in capabilities(shown)
        messages = shown.get("messages")
        turns = [turn for turn in messages if isinstance(turn, dict)] if isinstance(messages, list) else []
        self.conversation.recalled = turns
        self._print_turns(turns)

    def show(self, **changes: bool) -> None:
        """Change how replies are shown."""
        self.view = replace(self.view, **changes)

    def save(self) -> None:
        """Keep what was said so far, if it is to be kept."""
        if self._kept is not None:
            try:
                self._kept.save()
            except CliError as error:  # the chat itself goes on
                print(f"Warning: {one_line(error)}", file=sys.stderr)

    def _read(self) -> str | None:
        """The next message or command; None at the end of the chat."""
        while True:
            try:
                text = self.editor.read()
            except KeyboardInterrupt:
                if not self.editor.abandoned:
                    print("Use Ctrl + d or /bye to exit.")
                continue
            except EOFError:
                return None
            quoted = unquoted(text)
            if quoted is None:
                return text
            # a message in quotes is never a command
            if quoted.strip():
                return quoted if not quoted.startswith("/") else " " + quoted

    def _ask(self, text: str) -> None:
        pictures: list[str] = []
        if self.can_see:
            try:
                text, pictures = with_pictures(text, sys.stderr)
            except CliError as error:
                print(f"Error: {one_line(error)}", file=sys.stderr)
                return
        self.conversation.ask(text, pictures)
        try:
            while self._answer() and self._answer_calls():
                pass
        except CliError as error:
            self.conversation.take_back()
            print(f"Error: {one_line(error)}", file=sys.stderr)
            return
        except KeyboardInterrupt:
            self.conversation.take_back()
            raise
        self.save()

    def _answer(self) -> bool:
        """One turn of the model; whether it calls tools of ours. Raises CliError."""
        body = self.conversation.chat_body() | {"progress": True}
        reply = show_reply(self.server.stream("/api/chat", body), self.view.of(self.conversation.format))
        self.thoughts = reply.thinking
        self.conversation.keep(reply)
        return bool(reply.tool_calls and self.conversation.tools and not reply.interrupted)

    def _answer_calls(self) -> bool:
        """Have the user play the tools; whether there are results for all calls."""
        for call in self.conversation.messages[-1]["tool_calls"]:
            try:
                result = input(f"What does {printable(called(call))} answer? (empty: nothing) ")
            except EOFError:
                print()
                return False
            if not result.strip():
                return False
            self.conversation.answer_call(call, result)
        return True

    def _complete(self, text: str) -> list[str]:
        """The commands, and the models' names behind those that take one, which `text` may become."""
        if not text.startswith("/"):
            return []
        command, space, _ = text.partition(" ")
        if space and command in slash.OF_MODELS:
            return [line for line in (f"{command} {name}" for name in self._model_names()) if line.startswith(text)]
        return [line for line in slash.completions() if line.startswith(text)]

    def _model_names(self) -> list[str]:
        if self._names is None:
            with contextlib.suppress(ServerError):
                self._names = [name_of(model).removesuffix(":latest") for model in local_models(self.server)]
        return self._names or []

    def _print_turns(self, turns: Sequence[Json]) -> None:
        writer = TextWriter(sys.stdout, wrap=self.view.wrap, colour=self.view.colour)
        for turn in turns:
            text = str(turn.get("content") or "")
            if turn.get("role") == "user":
                writer.write(f"{PROMPT}{text}\n")
            elif turn.get("role") == "assistant":
                writer.write(f"{text}\n\n")
