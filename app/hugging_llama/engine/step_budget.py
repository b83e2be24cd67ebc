"""How many prompt tokens a step may take, so that running streams don't wait for them too long."""

import math

_SMOOTHING = 0.3


class StepBudget:
    """Follows what a prompt token costs and gives as many as fit into `target_s` beside the decode rows.

    A prompt's tokens get dearer the further it goes, since each attends to all before it, and dearer still on a
    machine whose cores are wanted elsewhere: so the cost is measured, step by step, never assumed. `fixed` tokens a
    step, if it is not 0, are given instead.
    """

    def __init__(self, *, fixed: int, lowest: int, highest: int, target_s: float) -> None:
        self._fixed = fixed
        self._lowest = lowest
        self._highest = highest
        self._target_s = target_s
        self._token_s = 0.0
        self._decode_s = 0.0

    def tokens(self, *, num_decode: int) -> int:
        """Prompt tokens for a step with so many decode rows. With none nobody waits, so the chunk is the largest."""
        if self._fixed:
            return max(self._fixed - num_decode, 1)
        if not num_decode:
            return self._highest
        if not self._token_s:
            # nothing is known yet: the first chunk beside streams is a careful one
            return self._lowest
        room_s = self._target_s - self._decode_s
        return max(self._lowest, min(self._highest, math.floor(room_s / self._token_s)))

    def observe(self, seconds: float, *, num_prefill: int, num_decode: int) -> None:
        """A step of so many prompt tokens and decode rows took `seconds`."""
        if not num_prefill:
            self._decode_s = _smoothed(self._decode_s, seconds)
            return
        own_s = seconds - (self._decode_s if num_decode else 0.0)
        token_s = max(own_s, 0.0) / num_prefill
        # a dearer token counts at once: the next chunk must not be too long; a cheaper one little by little
        self._token_s = token_s if token_s > self._token_s else _smoothed(self._token_s, token_s)


def _smoothed(old: float, new: float) -> float:
    return new if not old else old + _SMOOTHING * (new - old)
