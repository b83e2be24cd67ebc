"""Token ids to text, one at a time; a character that takes several tokens comes out when it is whole."""

from collections import deque
from collections.abc import Collection, Sequence
from typing import Any

from tokenizers.decoders import DecodeStream

_CONTEXT_TOKENS = 6
"""So many ids before the next one decide how it is written, for instance whether a space precedes it."""

_MAX_PENDING = 24
"""A character takes a handful of tokens at most; so many without one are bytes that are no text."""

_BROKEN = "\ufffd"


class Detokenizer:
    """The text of one answer.

    `prompt_ids`: the prompt, for what stands before the first token (its last few ids are used). `hidden_ids`: ids
    that have no text of their own, such as the end of a turn. An incomplete character at the very end is dropped.
    """

    def __init__(
        self, tokenizer: Any, *, prompt_ids: Sequence[int] = (), hidden_ids: Collection[int] = frozenset()
    ) -> None:
        self._tokenizer = tokenizer
        self._hidden_ids = hidden_ids
        self._context: list[int] = []
        self._context_pieces: deque[int] = deque()
        self._pending: list[int] = []
        self._backend: Any = getattr(tokenizer, "_tokenizer", None) if getattr(tokenizer, "is_fast", False) else None
        self._remember(self._end_of(prompt_ids))
        self._stream = DecodeStream(ids=list(self._context)) if self._backend is not None else None

    def push(self, token_id: int) -> str:
        """The text that `token_id` completes, possibly empty."""
        if token_id in self._hidden_ids:
            return ""
        self._pending.append(token_id)
        text = self._step(token_id)
        if text:
            self._remember(self._pending)
            self._pending = []
        return text

    def finish(self) -> str:
        """The rest, without an incomplete character."""
        text = self._written().rstrip(_BROKEN) if self._pending else ""
        self._pending = []
        return text

    def _remember(self, ids: list[int]) -> None:
        """Adds the ids of one piece of text to the context. Whole pieces leave it: half a character is no context."""
        self._context += ids
        self._context_pieces.append(len(ids))
        while len(self._context) - self._context_pieces[0] >= _CONTEXT_TOKENS:
            del self._context[: self._context_pieces.popleft()]

    def _end_of(self, prompt_ids: Sequence[int]) -> list[int]:
        """The last few ids of the prompt, from the beginning of a character on."""
        for size in range(_CONTEXT_TOKENS, 2 * _CONTEXT_TOKENS):
            ids = [token_id for token_id in prompt_ids[-size:] if token_id not in self._hidden_ids]
            if size >= len(prompt_ids) or not self._decode(ids).startswith(_BROKEN):
                break
        return ids

    def _step(self, token_id: int) -> str:
        if self._stream is not None and len(self._pending) <= _MAX_PENDING:
            try:
                return self._stream.step(self._backend, token_id) or ""
            except Exception:
                # A decoder that rewrites what it has written before can't be streamed by the library.
                self._stream = None
        self._stream = None
        text = self._written()
        if text.endswith(_BROKEN) and len(self._pending) <= _MAX_PENDING:
            return ""
        return text

    def _written(self) -> str:
        """What the pending ids add to the text of those before them."""
        before = self._decode(self._context)
        return self._decode(self._context + self._pending)[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text


def try_tokenizer(tokenizer: Any) -> None:
    """Raises whatever a tokenizer raises that was read but does not work."""
    tokenizer.decode(tokenizer("A word or two.").input_ids)
