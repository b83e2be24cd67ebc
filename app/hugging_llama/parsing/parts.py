"""What an answer is made of: reasoning, text and calls, in order."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from hugging_llama.neutral.messages import ToolCall


@dataclass(frozen=True, slots=True)
class Thought:
    """More of the reasoning."""

    text: str


Part = Thought | str | ToolCall

PartT = TypeVar("PartT", bound=Part)


def joined(parts: Iterable[PartT]) -> list[PartT]:
    """`parts` with neighbours of one kind joined and empty ones left out."""
    found: list[Any] = []
    for part in parts:
        last = found[-1] if found else None
        if isinstance(part, str) and isinstance(last, str):
            found[-1] = last + part
        elif isinstance(part, Thought) and isinstance(last, Thought):
            found[-1] = Thought(last.text + part.text)
        elif part not in ("", Thought("")):
            found.append(part)
    return found
