"""Chat messages and tools, as every dialect means them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A function call by the model. `arguments` keeps the key order in which the model wrote them."""

    id: str
    name: str
    arguments: dict[str, Any]
    index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that the model may call. `parameters` is its JSON Schema, key order preserved."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a chat. `role` is system, user, assistant or tool; others go to the template unchecked."""

    role: str
    content: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str | None = None
    tool_call_id: str | None = None


def begins_answer(messages: Sequence[Message]) -> bool:
    """Whether the last message is the beginning of the answer that is asked for: text of the model's own."""
    last = messages[-1] if messages else None
    return last is not None and last.role == "assistant" and bool(last.content) and not last.tool_calls
