"""Items to the messages of a chat: reasoning, text and calls of one turn become one message."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hugging_llama.dialects.openai.render import Json
from hugging_llama.dialects.openai.responses.tools import CUSTOM_INPUT, full_name
from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.messages import Message, ToolCall


def parse_conversation(instructions: str, items: Iterable[Json]) -> tuple[Message, ...]:
    """Raises InvalidRequestError for a conversation without a message or with a call whose arguments are no object.

    System texts at the beginning, the instructions among them, become one: many templates take no second one.
    """
    conversation = _Conversation()
    if instructions:
        conversation.say(Message(role="system", content=instructions))
    for item in items:
        conversation.add(item)
    if not conversation.messages:
        raise InvalidRequestError("there is nothing to answer: 'input' has no message", param="input")
    return tuple(conversation.messages)


@dataclass(slots=True)
class _Conversation:
    messages: list[Message] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    """The tools that were called, by the ids of the calls."""
    thinking: str = ""

    def add(self, item: Json) -> None:
        match item["type"]:
            case "message":
                self._message(item)
            case "reasoning":
                self.thinking = "\n".join(filter(None, (self.thinking, reasoning_text(item))))
            case "function_call":
                self._call(item, _arguments(item["arguments"]))
            case "custom_tool_call":
                self._call(item, {CUSTOM_INPUT: item["input"]})
            case _:
                self._output(item)

    def say(self, message: Message) -> None:
        """One more message. Reasoning that led to none is dropped."""
        self.thinking = ""
        if message.role == "system" and len(self.messages) == 1 and self.messages[0].role == "system":
            content = "\n\n".join(filter(None, (self.messages[0].content, message.content)))
            self.messages[0] = replace(message, content=content)
            return
        self.messages.append(message)

    def _message(self, item: Json) -> None:
        text = "\n".join(part.get("text", part.get("refusal", "")) for part in item["content"])
        role = "system" if item["role"] == "developer" else item["role"]
        self.say(Message(role=role, content=text, thinking=self.thinking if role == "assistant" else ""))

    def _call(self, item: Json, arguments: dict[str, Any]) -> None:
        name = full_name(item.get("namespace"), item["name"])
        self.names[item["call_id"]] = name
        last = self.messages[-1] if self.messages else None
        if last is None or last.role != "assistant":
            self.say(Message(role="assistant", thinking=self.thinking))
            last = self.messages[-1]
        elif self.thinking:
            last = replace(last, thinking="\n".join(filter(None, (last.thinking, self.thinking))))
        self.thinking = ""
        call = ToolCall(id=item["call_id"], name=name, arguments=arguments, index=len(last.tool_calls))
        self.messages[-1] = replace(last, tool_calls=(*last.tool_calls, call))

    def _output(self, item: Json) -> None:
        output = item["output"]
        text = output if isinstance(output, str) else "\n".join(part["text"] for part in output)
        call_id = item["call_id"]
        self.say(Message(role="tool", content=text, tool_call_id=call_id, tool_name=self.names.get(call_id)))


def reasoning_text(item: Mapping[str, Any]) -> str:
    """What was thought: the text itself, else its summary."""
    parts = item.get("content") or item.get("summary") or ()
    return "\n".join(part["text"] for part in parts)


def _arguments(text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text or "{}")
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise InvalidRequestError("the arguments of a call must be a JSON object as text", param="input")
    return parsed
