"""Prompt-lookup decoding: what followed the last few tokens when they came before is a guess at what follows now.

A guess costs no model (Saxena, "Prompt Lookup Decoding", 2023), and checking it costs little where a step is bound
by reading the weights. It is right often where an answer repeats its prompt: in code that is changed, in summaries,
in JSON. Every guessed token is compared with the one that is sampled in its place, so the text is the same as
without guesses, whatever the options.
"""

from collections.abc import Sequence as TokenIds

_NGRAM_SIZES = (4, 3, 2)
_FIRST_DRAFT = 4
_FIRST_PAUSE = 32
_LONGEST_PAUSE = 512
_SMOOTHING = 0.2
_WORTHWHILE = 0.25


class DraftFinder:
    """The guesses for one sequence, at most `max_draft_tokens` a step; fewer while they prove wrong, and none for a
    while when hardly any was right."""

    def __init__(self, max_draft_tokens: int) -> None:
        self._max = max_draft_tokens
        self._size = min(_FIRST_DRAFT, max_draft_tokens)
        self._hit_rate = 0.5
        self._silent_until = 0
        self._pause = _FIRST_PAUSE
        self._ends: dict[tuple[int, ...], int] = {}
        self._num_indexed = 0

    def find(self, token_ids: list[int], room: int) -> list[int]:
        """Tokens that may follow `token_ids`, at most `room`."""
        self._index(token_ids)
        size = min(self._size, room)
        if size <= 0 or len(token_ids) < self._silent_until:
            return []
        for n in _NGRAM_SIZES:
            end = self._ends.get(tuple(token_ids[-n:]))
            if end is not None:
                return token_ids[end : end + size]
        return []

    def count(self, num_drafted: int, num_right: int, num_tokens: int) -> None:
        """Of `num_drafted` guesses so many were right; the sequence has `num_tokens` now."""
        self._hit_rate += _SMOOTHING * (num_right / num_drafted - self._hit_rate)
        if num_right == num_drafted:
            self._size = min(2 * self._size, self._max)
        else:
            self._size = max(min(num_right + 2, self._max), 1)
        if self._hit_rate < _WORTHWHILE:
            self._silent_until = num_tokens + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self._hit_rate = 0.5
        elif num_right == num_drafted:
            self._pause = _FIRST_PAUSE

    def restart(self) -> None:
        """The tokens were shifted: positions known so far mean nothing any more."""
        self._ends.clear()
        self._num_indexed = self._silent_until = 0

    def _index(self, token_ids: TokenIds[int]) -> None:
        """Notes where each n-gram ended last; the one at the very end is left out, nothing follows it yet."""
        for end in range(max(self._num_indexed, 1), len(token_ids)):
            for n in _NGRAM_SIZES:
                if end >= n:
                    self._ends[tuple(token_ids[end - n : end])] = end
        self._num_indexed = max(len(token_ids), self._num_indexed)
