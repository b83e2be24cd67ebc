"""Attention by torch's own operators: rows that lie side by side attend together, padded to the longest of them.

Keys are never repeated for the query heads that share them: at decode these heads are the queries of one head, in a
prompt they are a batch over the same keys. Both keep the fused kernels (`enable_gqa` is ten times slower at decode
on the CPU, and with a mask it has no fused kernel on CUDA).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from hugging_llama.engine.kv_step import KVStep
from hugging_llama.engine.spans import Span, causal_mask

# scores of softcap and sink layers are made explicitly, this many float32 values at a time
_MAX_SCORE_ELEMENTS = 2**24


@dataclass(frozen=True, slots=True)
class AttentionKind:
    """What one layer's attention does besides scaling its scores.

    `window` counts the keys a query sees, itself included; `softcap` limits scores; `sinks` `[num_heads]` take part
    in the softmax and contribute nothing.
    """

    scaling: float
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None


def padded_attention(step: KVStep, layer: int, query: Tensor, kind: AttentionKind) -> list[Tensor]:
    """The outputs `[n, num_heads, value_head_dim]` of the step's spans in their order; `query` `[T, heads, dim]`."""
    attend = Attend(query, kind)
    return [attend(span, layer) for span in step.spans]


def whole_attention(query: Tensor, keys: Tensor, values: Tensor, kind: AttentionKind) -> Tensor:
    """Causal attention without a step: `query` `[B, num_heads, n, dim]` are the last of `keys`, `values`
    `[B, num_kv_heads, columns, dim]`. Returns `[B, n, num_heads, value_head_dim]`.
    """
    rows, num_heads, n, dim = query.shape
    num_kv_heads, num_keys = keys.shape[1:3]
    positions = torch.arange(num_keys - n, num_keys, device=query.device)[None]
    mask = causal_mask(positions, 0, num_keys, kind.window, query)
    group, attend = num_heads // num_kv_heads, Attend(query, kind)
    if attend.is_plain:
        keys, values = (tensor.repeat_interleave(group, dim=1) for tensor in (keys, values))
        return attend.fused(query, keys, values, mask).transpose(1, 2)
    out = attend.explicit(query.reshape(rows, num_kv_heads, group, n, dim), keys, values, mask)
    return out.flatten(1, 2).transpose(1, 2)


class Attend:
    """One layer's attention for one span after the other."""

    __slots__ = ("_kind", "_query")

    def __init__(self, query: Tensor, kind: AttentionKind) -> None:
        self._query = query
        self._kind = kind

    def __call__(self, span: Span, layer: int) -> Tensor:
        rows = slice(span.first_row, span.first_row + span.num_rows)
        buffer = span.slab.keys[layer]
        num_kv_heads, num_heads = buffer.shape[1], self._query.shape[1]
        group, n = num_heads // num_kv_heads, span.num_queries
        low, mask = span.mask(self._kind.window, self._query)
        keys = buffer[rows, :, low : span.num_keys]
        values = span.slab.values[layer][rows, :, low : span.num_keys]
        query = self._query[span.start : span.stop]
        if n == 1:
            query = query.reshape(span.num_rows, num_kv_heads, group, -1)
            if self.is_plain:
                out = self.fused(query, keys, values, mask)
            else:
                out = self.explicit(query.unsqueeze(3), keys, values, mask).squeeze(3)
            return out.reshape(span.num_rows, num_heads, -1)
        query = query.transpose(0, 1).reshape(num_kv_heads, group, n, -1)
        if self.is_plain:
            shared = keys.expand(group, -1, -1, -1), values.expand(group, -1, -1, -1)
            out = self.fused(query.transpose(0, 1), *shared, mask).transpose(0, 1)
        else:
            out = self.explicit(query[None], keys, values, mask)[0]
        return out.reshape(num_heads, n, -1).transpose(0, 1)

    @property
    def is_plain(self) -> bool:
        """True if a fused kernel makes its scores."""
        return self._kind.softcap is None and self._kind.sinks is None

    def fused(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Torch's own kernel; shapes as it takes them."""
        return functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=self._kind.scaling)

    def explicit(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """For scores that no fused kernel makes, some queries at a time.

        `query` `[rows, num_kv_heads, group, n, dim]`, `keys`, `values` `[rows, num_kv_heads, columns, dim]`, `mask`
        `[rows, 1, n, columns]`; returns the shape of `query` with the values' last dimension.
        """
        elements_per_query = query.shape[0] * query.shape[1] * query.shape[2] * keys.shape[2]
        step = max(_MAX_SCORE_ELEMENTS // elements_per_query, 1)
        parts = []
        for at in range(0, query.shape[3], step):
            part = query[:, :, :, at : at + step]
            packed = part.flatten(2, 3) * self._kind.scaling
            scores = torch.matmul(packed, keys.transpose(2, 3)).float().reshape(*part.shape[:4], -1)
            part_mask = None if mask is None else mask[:, :, None, at : at + step]
            weights = self._weights(scores, part_mask).to(values.dtype)
            parts.append(torch.matmul(weights.flatten(2, 3), values).reshape(*part.shape[:4], -1))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=3)

    def _weights(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Softmax of float32 `scores` `[rows, num_kv_heads, group, n, columns]`, which are used up."""
        softcap, sinks = self._kind.softcap, self._kind.sinks
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        if mask is not None:
            scores += mask
        if sinks is None:
            return torch.softmax(scores, dim=-1)
        # a sink takes part in the softmax and contributes nothing
        sinks = sinks.float().reshape(1, scores.shape[1], scores.shape[2], 1, 1)
        scores = torch.cat((scores, sinks.expand(*scores.shape[:4], 1)), dim=-1)
        return torch.softmax(scores, dim=-1)[..., :-1]
