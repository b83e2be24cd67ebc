"""The shapes that behaviours produce."""

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
Check = tuple[str, Any]
"""How an answer is judged, and what it is judged by: see `evaluate.is_correct`."""

DO_NOT_KNOW = "I do not know"


@dataclass(frozen=True)
class Example:
    """One question and its answer; `short` is the bare fact, for answers in JSON."""

    question: str
    answer: str
    thinking: str
    check: Check
    short: Any = None


@dataclass(frozen=True)
class ToolUse:
    """One tool, a question that needs it, the call, what the tool returns and what the user is told."""

    tool: Json
    name: str
    arguments: Json
    question: str
    result: str
    answer: str | None
    goal: str

    @property
    def kind(self) -> list[str]:
        return self.goal.split()[:2]


@dataclass(frozen=True)
class Conversation:
    messages: list[Json]
    tools: list[Json] | None
    check: Check


@dataclass(frozen=True)
class Drill:
    """Pieces of plain text, each with whether it is to be learned."""

    pieces: list[tuple[str, bool]]


Document = str | Drill | Conversation
