"""A look around within the layers of a forward over long inputs, on a CPU: between torch's calls, and between blocks of
queries of its fused attention.

One layer over 131,000 tokens takes minutes, in which nobody can end a forward whose caller has left, and an unload of
its model, for which all loads wait, waits, too. Each row of attention's result is computed from its own query, so that
blocks of them change nothing.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_MOST_PAIRS = 2**27
"""Of queries and keys in all heads of a block: half a second for heads of 64 numbers on two cores."""
_CAUSAL_FACTOR = 8
"""So many times as much is computed in one call where a query sees what is before it: a block needs a mask for that,
and took 1.2 to 1.5 times as long over 8,192 tokens."""
_LOOK_EVERY_S = 0.1


def query_blocks(
    lengths: Sequence[int], device: torch.device, between: Callable[[], None]
) -> AbstractContextManager[Any]:
    """Inside, `between` is called between the blocks of attention over rows of so many tokens, and every now and then
    between other calls; what it raises ends the forward. Other threads don't notice, short rows are not touched."""
    pairs = len(lengths) * max(lengths, default=0) ** 2
    # a head's pairs; real models have at least four
    return _QueryBlocks(between) if device.type == "cpu" and 4 * pairs > _MOST_PAIRS else nullcontext()


class _QueryBlocks(TorchFunctionMode):
    def __init__(self, between: Callable[[], None]) -> None:
        super().__init__()
        self._between = between
        self._looked_at = time.monotonic()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if time.monotonic() - self._looked_at > _LOOK_EVERY_S:
            self._look()
        if func is functional.scaled_dot_product_attention:
            return self._attention(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _look(self) -> None:
        self._between()
        self._looked_at = time.monotonic()

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **options: Any,
    ) -> Tensor:
        """`query` `[..., heads, queries, head_dim]`, `key` and `value` `[..., heads, keys, head_dim]`, `attn_mask` as
        wide as the scores or to be broadcast."""
        num_queries, num_keys = query.shape[-2], key.shape[-2]
        size = max(_MOST_PAIRS // max(query.shape[:-2].numel() * num_keys, 1), 1)
        if num_queries <= size * (_CAUSAL_FACTOR if is_causal else 1):
            return functional.scaled_dot_product_attention(
                query, key, value, attn_mask, dropout_p, is_causal, **options
            )
        blocks = []
        for first in range(0, num_queries, size):
            self._look()
            last = min(first + size, num_queries)
            keys = min(last, num_keys) if is_causal else num_keys
            mask = attn_mask
            if is_causal:
                mask = torch.ones(last - first, keys, dtype=torch.bool, device=query.device).tril(first)
            elif mask is not None and mask.shape[-2] == num_queries:
                mask = mask[..., first:last, :]
            blocks.append(
                functional.scaled_dot_product_attention(
                    query[..., first:last, :], key[..., :keys, :], value[..., :keys, :], mask, dropout_p, **options
                )
            )
        return torch.cat(blocks, dim=-2)
