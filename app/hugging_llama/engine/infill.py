"""Fills a gap between two texts by the tokens that a tokenizer has for it."""

from collections.abc import Callable
from typing import Any

from hugging_llama.engine.control_tokens import ControlTokens
from hugging_llama.neutral.infill import InfillFormat, infill_format

Encode = Callable[[str], list[int]]


class Infill:
    """The tokens of one tokenizer. `encode` gives the ids of a text alone. `end_ids` end what fills the gap."""

    def __init__(self, tokenizer: Any, format: InfillFormat, encode: Encode) -> None:
        added: dict[str, int] = tokenizer.get_added_vocab()
        self._ids = added
        self._format = format
        self._encode = encode
        self._control_tokens = ControlTokens(tokenizer, "\0".join((*format.own_tokens, *format.ends)))
        self.end_ids = frozenset(added[token] for token in (*format.own_tokens, *format.ends) if token in added)

    @classmethod
    def of(cls, tokenizer: Any, encode: Encode) -> "Infill | None":
        """None for a tokenizer without such tokens."""
        format = infill_format(tokenizer.get_added_vocab())
        return cls(tokenizer, format, encode) if format else None

    def parts(self, prefix: str, suffix: str) -> tuple[list[int], list[int]]:
        """The ids of both texts; control tokens in them become plain text by a space."""
        prefix, suffix = self._control_tokens.defused([prefix, suffix])
        return self._encode(prefix), self._continued(suffix)

    def joined(self, before: list[int], behind: list[int]) -> list[int]:
        """The ids of both texts between the tokens of the format, in its order."""
        parts = [[self._ids[self._format.prefix], *before], [self._ids[self._format.suffix], *behind]]
        if self._format.suffix_first:
            parts.reverse()
        middle = [self._ids[self._format.middle]] if self._format.middle else []
        return [*parts[0], *parts[1], *middle]

    def _continued(self, text: str) -> list[int]:
        """The ids of `text` without the space that SentencePiece puts in front of every text."""
        line_end = self._encode("\n")
        ids = self._encode("\n" + text)
        return ids[len(line_end) :] if ids[: len(line_end)] == line_end else self._encode(text)


def nearest(before: list[int], behind: list[int], room: int) -> tuple[list[int], list[int]]:
    """At most `room` ids of both, those next to the gap; half of them behind it if both are long."""
    num_behind = min(len(behind), max(room // 2, room - len(before)))
    return before[len(before) - min(len(before), room - num_behind) :], behind[:num_behind]
