"""What a `run` has agreed on with its user: the model, how to ask it, and what was said so far."""

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hugging_llama_cli.api import Json
from hugging_llama_cli.errors import UsageError
from hugging_llama_cli.reply import Reply

_TOOL = '[{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]'
THINK_LEVELS = ("high", "medium", "low", "max")


@dataclass(slots=True, kw_only=True)
class Conversation:
    """The state that requests are made from. `think` None leaves it to the model, `tools` are those that it may call.

    `recalled` are the model's own messages, which the server puts before those of every chat;
    `pictures` go with a single answer.
    """

    model: str
    recalled: list[Json] = field(default_factory=list)
    messages: list[Json] = field(default_factory=list)
    options: Json = field(default_factory=dict)
    system: str = ""
    format: Any = None
    think: bool | str | None = None
    keep_alive: str | float | None = None
    pictures: list[str] = field(default_factory=list)
    tools: list[Json] = field(default_factory=list)

    def generate_body(self, prompt: str) -> Json:
        """For one answer without history; without a prompt it only loads the model."""
        body = {"model": self.model, "prompt": prompt} | self._common()
        more = {"system": self.system, "images": self.pictures}
        return body | {key: value for key, value in more.items() if value}

    def chat_body(self) -> Json:
        """For the next turn of the conversation."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        body = {"model": self.model, "messages": system + self.messages} | self._common()
        return body | ({"tools": self.tools} if self.tools else {})

    def create_body(self, name: str) -> Json:
        """For a model of that name that begins where this conversation is."""
        said = self.recalled + self.messages if self.messages else []  # what is left out goes on as it is
        # what tools were asked and have answered can't be part of a model; what was made of it can
        said = [turn for turn in said if turn.get("role") != "tool" and not turn.get("tool_calls")]
        turns = [{key: str(message.get(key) or "") for key in ("role", "content")} for message in said]
        texts = {"system": self.system, "messages": [turn for turn in turns if turn["content"]]}
        kept = {key: value for key, value in texts.items() if value}
        return {"model": name, "from": self.model, "parameters": self.options} | kept

    def ask(self, text: str, pictures: Sequence[str] = ()) -> None:
        """Append the user's turn; pictures are in base64."""
        self.messages.append({"role": "user", "content": text} | ({"images": list(pictures)} if pictures else {}))

    def answer_call(self, call: Json, text: str) -> None:
        """Append what the tool has answered that the model's last turn called."""
        message: Json = {"role": "tool", "tool_name": called(call), "content": text}
        self.messages.append(message | ({"tool_call_id": call["id"]} if call.get("id") else {}))

    def keep(self, reply: Reply) -> None:
        """Append the model's turn, or take back the user's if nothing came of it."""
        if not reply.content and not reply.tool_calls:
            self.take_back()
            return
        message: Json = {"role": "assistant", "content": reply.content}
        if reply.thinking:
            message["thinking"] = reply.thinking
        if reply.tool_calls:
            message["tool_calls"] = reply.tool_calls
        self.messages.append(message)

    def take_back(self) -> None:
        """Forget the user's last turn and what came of it: it was never answered, and templates want turns to
        alternate."""
        while self.messages and self.messages.pop()["role"] != "user":
            pass

    def _common(self) -> Json:
        values = {"options": self.options or None, "format": self.format, "think": self.think}
        return {k: v for k, v in (values | {"keep_alive": self.keep_alive}).items() if v is not None}


def called(call: Json) -> str:
    """The name of the tool that a call is for."""
    function = call.get("function")
    return str(function.get("name") or "") if isinstance(function, dict) else ""


def parse_tools(path: str) -> list[Json]:
    """The tools in a JSON file: one, or a list of them, as Ollama's and OpenAI's APIs take them."""
    try:
        found = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise UsageError(f"the tools' file '{path}' can't be read: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"the tools' file '{path}' holds no JSON: {error}") from None
    tools = found if isinstance(found, list) else [found]
    if not tools or not all(isinstance(tool, dict) and called(tool) for tool in tools):
        raise UsageError(f"'{path}' must hold tools such as {_TOOL}")
    return tools


def parse_format(text: str) -> Any:
    """`json` as it is, else a JSON schema, or the file that holds one."""
    if text in ("", "json"):
        return text or None
    with contextlib.suppress(OSError, ValueError):  # a schema is longer than a name may be
        if os.path.isfile(text):
            return _schema_of_file(text)
    try:
        return json.loads(text)
    except ValueError:
        raise UsageError("the format must be 'json', a JSON schema or a file with one") from None


def _schema_of_file(path: str) -> Any:
    try:
        schema = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"the format's file '{path}' holds no JSON: {error}") from None
    return schema


def parse_think(text: str) -> bool | str:
    """`true`, `false` or a level."""
    if text in ("true", "false"):
        return text == "true"
    if text in THINK_LEVELS:
        return text
    raise UsageError(f"think must be true, false or one of {', '.join(THINK_LEVELS)}, not '{text}'")


def parse_keep_alive(text: str) -> str | float:
    """A bare number is seconds; anything else is a duration that the server reads."""
    try:
        return float(text)
    except ValueError:
        return text
