"""The texts that a tokenizer reads as control tokens, found in what strangers say.

A model may have tens of thousands of them. A regular expression with as many alternatives takes seconds to compile and
minutes to search a long text, in which no other thread gets its turn; the tokenizers library searches for all at once.
For a few, as nearly all models have them, the regular expression is the fast one.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Protocol

from tokenizers import AddedToken, Tokenizer, models
from transformers.utils import chat_template_utils

_START, _END = (getattr(chat_template_utils, name, "") for name in ("_CONTROL_TOKEN_START", "_CONTROL_TOKEN_END"))
_encode_piece: Any = getattr(chat_template_utils, "_encode_chat_piece", None)
_CAN_MARK = bool(_START and _END and _encode_piece)
_MARKS = re.compile(f"{_START}([^{_START}{_END}]*){_END}|[{_START}{_END}]") if _CAN_MARK else re.compile("(?!)()")


_MOST_ALTERNATIVES = 300


class ControlTokens:
    """Those of one tokenizer with one template, such as the one that ends a turn."""

    def __init__(self, tokenizer: Any, template: str | None) -> None:
        special: set[str] = set()
        chosen = getattr(tokenizer, "chat_control_tokens", None)  # of a tokenizer that says so itself
        for token in tokenizer.added_tokens_decoder.values():
            is_written = bool(template) and token.content in (template or "") and not token.content.isspace()
            if token.special or (is_written if chosen is None else token.content in chosen):
                special.add(token.content)
        special |= {text for text in tokenizer.all_special_tokens if text}
        self._places = _places({text for text in special if len(text) > 1})

    def marked(self, value: Any) -> Any:
        """`value` with transformers' marks around each control token, in all its strings but the keys; `marked_ids`
        reads them.

        Where transformers has no such marks, the tokens are defused.
        """
        return self._marked(value) if _CAN_MARK else self.defused(value)

    def _marked(self, value: Any) -> Any:
        if isinstance(value, str):
            unmarked = value.replace(_START, "").replace(_END, "")  # which could be used to forge them
            return self._places.replaced(unmarked, lambda found: f"{_START}{found}{_END}")
        if isinstance(value, dict):
            return {key: self._marked(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._marked(item) for item in value]
        return value

    def defused(self, value: Any) -> Any:
        """`value` with a space in each control token, in all its strings; same shape."""
        if isinstance(value, str):
            return self._places.replaced(value, lambda found: f"{found[0]} {found[1:]}")
        if isinstance(value, dict):
            return {self.defused(key): self.defused(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.defused(item) for item in value]
        return value

    def defused_keys(self, value: Any) -> Any:
        """The same for the keys of dicts alone: marks take care of the other strings, not of these."""
        if isinstance(value, dict):
            return {self.defused(key): self.defused_keys(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.defused_keys(item) for item in value]
        return value


def marked_ids(tokenizer: Any, text: str) -> list[int]:
    """The ids of a rendered text: what is marked in it becomes plain text. Raises ValueError if that can't be had.

    As transformers' `encode_marked_chat`, whose pattern has an alternative for each added token.
    """
    pieces = _pieces(tokenizer, text)
    ids: list[int] = tokenizer.encode(next(pieces)[0], add_special_tokens=False)
    line_end: list[int] | None = None
    for piece, as_text in pieces:
        line_end = line_end or tokenizer.encode("\n", add_special_tokens=False)
        piece_ids = _encode_piece(tokenizer, piece, as_text, line_end)
        if as_text and tokenizer.convert_tokens_to_ids(piece) in piece_ids:
            raise ValueError(f"Can't sanitize {piece!r}: the tokenizer produces it from plain text")
        ids += piece_ids
    return ids


def _pieces(tokenizer: Any, text: str) -> Iterator[tuple[str, bool]]:
    """What lies between marks, with whether it was a control token; the first never was. Lone marks, which a template
    may leave, break the text."""
    first, *others = _MARKS.split(text)
    yield first, False
    added: dict[str, int] = tokenizer.get_added_vocab() if others else {}
    for number, piece in enumerate(others):
        if piece:
            yield piece, number % 2 == 0 and piece in added


class _Places(Protocol):
    """Finds texts in texts: at each place the longest, from the left."""

    def replaced(self, text: str, other: Callable[[str], str]) -> str:
        """`text` with something in place of each that is found."""
        ...


def _places(texts: Collection[str]) -> _Places:
    return _Few(texts) if len(texts) <= _MOST_ALTERNATIVES else _Many(texts)


class _Few:
    """By a regular expression."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._pattern = re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or "(?!)")

    def replaced(self, text: str, other: Callable[[str], str]) -> str:
        return self._pattern.sub(lambda found: other(found[0]), text)


class _Many:
    """By the tokenizers library."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._searcher = Tokenizer(models.WordLevel({"": 0}, unk_token=""))
        self._searcher.add_tokens([AddedToken(text, normalized=False) for text in sorted(texts)])

    def replaced(self, text: str, other: Callable[[str], str]) -> str:
        found = self._searcher.encode(text.encode("utf-8", "replace").decode(), add_special_tokens=False)
        if not any(found.ids):
            return text
        parts = zip(found.ids, found.offsets, strict=True)
        return "".join(other(text[start:end]) if token_id else text[start:end] for token_id, (start, end) in parts)
