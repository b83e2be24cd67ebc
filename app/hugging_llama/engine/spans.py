"""Rows of the KV cache that attend together in torch's kernels, and the masks they need."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from hugging_llama.engine.kv_cache import Slab


@dataclass(slots=True)
class Span:
    """Rows of one slab that attend together: consecutive rows with one query each, or one row with a prompt chunk.

    `start`, `stop` are their places in the flattened input; `first_positions` the position of each row's first
    query. The mask is built once per window and shared by all layers.
    """

    slab: Slab
    first_row: int
    start: int
    stop: int
    first_positions: list[int]
    _masks: dict[int | None, tuple[int, Tensor | None]] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        return len(self.first_positions)

    @property
    def num_queries(self) -> int:
        """Queries per row."""
        return (self.stop - self.start) // len(self.first_positions)

    @property
    def num_keys(self) -> int:
        """The longest row, this step's tokens included."""
        return max(self.first_positions) + self.num_queries

    def mask(self, window: int | None, like: Tensor) -> tuple[int, Tensor | None]:
        """The first key column that any row sees, and the additive mask over `[num_rows, 1, queries, columns]`.

        `window` counts the keys a query sees, itself included. None: every query sees every column.
        """
        if window is not None and window >= self.num_keys:
            window = None
        if window not in self._masks:
            self._masks[window] = self._build_mask(window, like)
        return self._masks[window]

    def _build_mask(self, window: int | None, like: Tensor) -> tuple[int, Tensor | None]:
        n, num_keys, shortest = self.num_queries, self.num_keys, min(self.first_positions)
        low = 0 if window is None else max(shortest - window + 1, 0)
        if n == 1 and shortest + 1 == num_keys:
            return low, None
        first = torch.tensor(self.first_positions, device=like.device)
        return low, causal_mask(first[:, None] + torch.arange(n, device=like.device), low, num_keys, window, like)


def causal_mask(positions: Tensor, low: int, num_keys: int, window: int | None, like: Tensor) -> Tensor:
    """The additive mask `[rows, 1, queries, num_keys - low]` of queries at `positions` `[rows, queries]`."""
    columns = torch.arange(low, num_keys, device=like.device)
    hidden = columns > positions[:, :, None]
    if window is not None:
        hidden |= columns <= positions[:, :, None] - window
    mask = torch.zeros(hidden.shape, dtype=like.dtype, device=like.device)
    # the lowest finite value, not -inf: blocks that are hidden as a whole then give no NaN in any kernel
    mask.masked_fill_(hidden, torch.finfo(like.dtype).min)
    return mask[:, None]
