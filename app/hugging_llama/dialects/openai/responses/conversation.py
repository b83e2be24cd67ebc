"""Items to the messages of a chat: reasoning, text and calls of one turn become one message."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hugging_llama.dialects.body_values import ValueBudget
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
    if not (messages := conversation.messages()):
        raise InvalidRequestError("there is nothing to answer: 'input' has no message", param="input")
    return messages


@dataclass(slots=True)
class _Turn:
    """A message that may still get calls, and the thoughts that led to them."""

    message: Message
    thoughts: list[str]
    calls: list[ToolCall] = field(default_factory=list)

    def whole(self) -> Message:
        return replace(self.message, thinking="\n".join(filter(None, self.thoughts)), tool_calls=tuple(self.calls))


@dataclass(slots=True)
class _Conversation:
    """Its parts are joined at the end, once: a body may hold a million of them."""

    system: list[str] = field(default_factory=list)
    """Texts at the beginning."""
    turns: list[_Turn] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    """The tools that were called, by the ids of the calls."""
    thoughts: list[str] = field(default_factory=list)
    """That have led to nothing yet."""
    budget: ValueBudget = field(default_factory=ValueBudget)

    def messages(self) -> tuple[Message, ...]:
        content = "\n\n".join(filter(None, self.system))
        system = [Message(role="system", content=content)] if self.system else []
        return (*system, *(turn.whole() for turn in self.turns))

    def add(self, item: Json) -> None:
        match item["type"]:
            case "message":
                self._message(item)
            case "reasoning":
                self.thoughts.append(reasoning_text(item))
            case "function_call":
                arguments = self.budget.read_object(item["arguments"])
                if arguments is None:
                    raise InvalidRequestError("the arguments of a call must be a JSON object as text", param="input")
                self._call(item, arguments)
            case "custom_tool_call":
                self._call(item, {CUSTOM_INPUT: item["input"]})
            case _:
                self._output(item)

    def say(self, message: Message) -> None:
        """One more message. Reasoning is an assistant's; what led to no message of one is dropped."""
        thoughts, self.thoughts = self.thoughts, []
        if message.role == "system" and not self.turns:
            self.system.append(message.content)
        else:
            self.turns.append(_Turn(message, thoughts if message.role == "assistant" else []))

    def _message(self, item: Json) -> None:
        text = "\n".join(part.get("text", part.get("refusal", "")) for part in item["content"])
        self.say(Message(role="system" if item["role"] == "developer" else item["role"], content=text))

    def _call(self, item: Json, arguments: dict[str, Any]) -> None:
        name = full_name(item.get("namespace"), item["name"])
        self.names[item["call_id"]] = name
        if not self.turns or self.turns[-1].message.role != "assistant":
            self.say(Message(role="assistant"))
        turn = self.turns[-1]
        turn.thoughts += self.thoughts
        self.thoughts = []
        turn.calls.append(ToolCall(id=item["call_id"], name=name, arguments=arguments, index=len(turn.calls)))

    def _output(self, item: Json) -> None:
        output = item["output"]
        text = output if isinstance(output, str) else "\n".join(part["text"] for part in output)
        call_id = item["call_id"]
        self.say(Message(role="tool", content=text, tool_call_id=call_id, tool_name=self.names.get(call_id)))


def reasoning_text(item: Mapping[str, Any]) -> str:
    """What was thought: the text itself, else its summary."""
    parts = item.get("content") or item.get("summary") or ()
    return "\n".join(part["text"] for part in parts)
