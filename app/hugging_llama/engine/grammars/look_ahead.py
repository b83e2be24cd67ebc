"""Whether an answer can go on behind a token, where other options forbid tokens that its grammar needs."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import llguidance.numpy
import numpy as np

from hugging_llama.engine.grammars.bits import forbid

ForbiddenAfter = Callable[[Sequence[int]], Collection[int]]
"""The ids that must not come behind these further tokens."""

_FEW = 4
"""Where more tokens may follow there is a way, as far as one looks."""
_MOST_MASKS = 16


class LookAhead:
    """Follows the narrow ways of a grammar, where one or a few tokens may follow, for a while.

    `matcher` is the caller's to give away; `size` the number of its tokens.
    """

    def __init__(self, matcher: Any, size: int, forbidden_after: ForbiddenAfter) -> None:
        self._matcher = matcher
        self._forbidden_after = forbidden_after
        self._bits = llguidance.numpy.allocate_token_bitmask(1, size)
        self._num_left = _MOST_MASKS

    def leads_on(self, token_id: int) -> bool:
        """False if all ways behind this token are forbidden soon. True for a token that is not the grammar's."""
        return not self._matcher.consume_token(token_id) or self._has_way([token_id])

    def _has_way(self, taken: list[int]) -> bool:
        if self._matcher.is_stopped() or self._matcher.is_accepting() or not self._num_left:
            return True
        self._num_left -= 1
        llguidance.numpy.fill_next_token_bitmask(self._matcher, self._bits, 0)
        row = self._bits[0]
        forbid(row, list(self._forbidden_after(taken)))
        allowed: list[int] = np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little")).tolist()
        if len(allowed) > _FEW:
            return True
        return any(self._goes_on(token_id, taken) for token_id in allowed)

    def _goes_on(self, token_id: int, taken: list[int]) -> bool:
        if not self._matcher.consume_token(token_id):
            return True
        found = self._has_way([*taken, token_id])
        self._matcher.rollback(1)
        return found
