"""One attention function for every model: flattened `[1, T]` input, keys and values in our own cache.

Registered with transformers' `AttentionInterface`; no mask function is registered under that name, so models build
no mask and pass None. The step's layout comes in as the keyword `kv_step`, which models hand down untouched.

Keys are never repeated for the query heads that share them: at decode these heads are the queries of one head, in a
prompt they are a batch over the same keys. Both keep the fused kernels (`enable_gqa` is ten times slower at decode
on the CPU, and with a mask it has no fused kernel on CUDA).
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

from hugging_llama.engine.kv_cache import KVSlot, LayerShape, Slab

ATTENTION_NAME = "hugging_llama"
STEP_KWARG = "kv_step"

# scores of softcap and sink layers are made explicitly, this many float32 values at a time
_MAX_SCORE_ELEMENTS = 2**24


class UnsupportedAttentionError(Exception):
    """A model wants attention that can't be computed from the cache. It never leaves the self-test."""


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
        return low, _causal_mask(first[:, None] + torch.arange(n, device=like.device), low, num_keys, window, like)


@dataclass(slots=True)
class DecodeWrite:
    """Where the new keys and values of one slab's decode rows go: `slab[rows[i], :, positions[i]]`."""

    slab: Slab
    rows: Tensor
    positions: Tensor
    start: int
    stop: int


@dataclass(slots=True)
class KVStep:
    """The layout of one step: decode tokens first, sorted by slab and row, then prompt chunks, then padding.

    `layer` is set by caches that know which layer attends next; else the module says it.
    """

    writes: list[DecodeWrite]
    decode: list[Span]
    prefill: list[Span]
    num_padding: int = 0
    layer: int | None = None

    def write(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Stores this step's `key`, `value` `[1, num_kv_heads, T, head_dim]` of one layer."""
        new_keys, new_values = key[0], value[0]
        for write in self.writes:
            at, where = slice(write.start, write.stop), (write.rows, slice(None), write.positions)
            write.slab.keys[layer][where] = new_keys[:, at].transpose(0, 1)
            write.slab.values[layer][where] = new_values[:, at].transpose(0, 1)
        for span in self.prefill:
            at, columns = slice(span.start, span.stop), slice(span.first_positions[0], span.num_keys)
            span.slab.keys[layer][span.first_row, :, columns] = new_keys[:, at]
            span.slab.values[layer][span.first_row, :, columns] = new_values[:, at]


@dataclass(slots=True)
class LayerProbe:
    """Stands in for a KVStep to learn what a model's attention layers receive; attends causally over `T` tokens.

    `windows` is the sliding window each layer was called with. A layer that comes twice in one forward (as cross
    attention does) is noted in `repeated`.
    """

    shapes: dict[int, LayerShape] = field(default_factory=dict)
    windows: dict[int, int | None] = field(default_factory=dict)
    repeated: set[int] = field(default_factory=set)
    layer: int | None = None

    def note(self, layer: int, key: Tensor, value: Tensor, window: int | None) -> None:
        """Remembers one call."""
        if layer in self.shapes:
            self.repeated.add(layer)
        self.shapes[layer] = LayerShape(key.shape[1], key.shape[3], value.shape[3])
        self.windows[layer] = window


def batched_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    kv_step: KVStep | LayerProbe | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention over the cache, causal within each sequence.

    `query` `[1, num_heads, T, head_dim]`, `key` and `value` `[1, num_kv_heads, T, head_dim]`; returns
    `[1, T, num_heads, value_head_dim]`. Decode tokens may come as T rows instead, `[T, num_heads, 1, head_dim]`, and
    then leave as `[T, 1, num_heads, value_head_dim]`. `s_aux` are attention sinks `[num_heads]`, `softcap` limits
    scores.

    Without a step `key` and `value` `[B, num_kv_heads, keys, head_dim]` are all that `query` `[B, num_heads, T,
    head_dim]` sees, its own at the end: so `generate` runs with this function, too.

    Raises UnsupportedAttentionError for what it can't honour; the self-test at load then chooses the other runner.
    """
    if position_bias is not None or attention_mask is not None or not getattr(module, "is_causal", True):
        raise UnsupportedAttentionError("it attends in its own way, with masks or a bias")
    if kv_step is None:
        return _Attend(query, scaling, softcap, sliding_window, s_aux).over(key, value), None
    # layers may share one attention module
    layer: int = module.layer_idx if kv_step.layer is None else kv_step.layer  # type: ignore[assignment]
    has_rows = query.shape[0] > 1
    if has_rows:
        if query.shape[2] != 1:
            raise UnsupportedAttentionError("rows of several tokens can't be batched")
        query, key, value = (tensor.transpose(0, 2) for tensor in (query, key, value))
    attend = _Attend(query, scaling, softcap, sliding_window, s_aux)
    if isinstance(kv_step, LayerProbe):
        kv_step.note(layer, key, value, sliding_window)
        return query.new_zeros(1, query.shape[2], query.shape[1], value.shape[3]), None
    kv_step.write(layer, key, value)
    # spans lie in input order without gaps
    parts = [attend(span, layer) for span in (*kv_step.decode, *kv_step.prefill)]
    if kv_step.num_padding:
        parts.append(parts[0].new_zeros(1, kv_step.num_padding, *parts[0].shape[2:]))
    out = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
    return out.transpose(0, 1) if has_rows else out, None


class _Attend:
    """One layer's attention for one span after the other."""

    __slots__ = ("_query", "_scaling", "_sinks", "_softcap", "_window")

    def __init__(
        self,
        query: Tensor,
        scaling: float | None,
        softcap: float | None,
        window: int | None,
        sinks: Tensor | None,
    ) -> None:
        self._query = query
        self._scaling = scaling
        self._softcap = softcap
        self._window = window
        self._sinks = sinks

    def __call__(self, span: Span, layer: int) -> Tensor:
        """Returns `[1, span length, num_heads, value_head_dim]`."""
        rows = slice(span.first_row, span.first_row + span.num_rows)
        buffer = span.slab.keys[layer]
        num_kv_heads, num_heads = buffer.shape[1], self._query.shape[1]
        group, n = num_heads // num_kv_heads, span.num_queries
        low, mask = span.mask(self._window, self._query)
        keys = buffer[rows, :, low : span.num_keys]
        values = span.slab.values[layer][rows, :, low : span.num_keys]
        query = self._query[0, :, span.start : span.stop]
        if n == 1:
            # the model made [T, heads, dim], so this is a view: [rows, num_kv_heads, group, dim]
            query = query.transpose(0, 1).reshape(span.num_rows, num_kv_heads, group, -1)
            if self._is_plain:
                out = self._fused(query, keys, values, mask)
            else:
                out = self._explicit(query.unsqueeze(3), keys, values, mask).squeeze(3)
            return out.reshape(1, span.num_rows, num_heads, -1)
        query = query.reshape(num_kv_heads, group, n, -1)
        if self._is_plain:
            shared = keys.expand(group, -1, -1, -1), values.expand(group, -1, -1, -1)
            out = self._fused(query.transpose(0, 1), *shared, mask).transpose(0, 1)
        else:
            out = self._explicit(query[None], keys, values, mask)[0]
        return out.reshape(1, num_heads, n, -1).transpose(1, 2)

    def over(self, keys: Tensor, values: Tensor) -> Tensor:
        """All queries `[B, num_heads, n, dim]` over their own `keys` and `values` `[B, num_kv_heads, columns, dim]`.

        Returns `[B, n, num_heads, value_head_dim]`.
        """
        query = self._query
        rows, num_heads, n, dim = query.shape
        num_kv_heads, num_keys = keys.shape[1:3]
        positions = torch.arange(num_keys - n, num_keys, device=query.device)[None]
        mask = _causal_mask(positions, 0, num_keys, self._window, query)
        group = num_heads // num_kv_heads
        if self._is_plain:
            keys, values = (tensor.repeat_interleave(group, dim=1) for tensor in (keys, values))
            return self._fused(query, keys, values, mask).transpose(1, 2)
        out = self._explicit(query.reshape(rows, num_kv_heads, group, n, dim), keys, values, mask)
        return out.flatten(1, 2).transpose(1, 2)

    @property
    def _is_plain(self) -> bool:
        return self._softcap is None and self._sinks is None

    def _fused(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        return functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=self._scaling)

    def _explicit(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """For scores that no fused kernel makes, some queries at a time.

        `query` `[rows, num_kv_heads, group, n, dim]`, `keys`, `values` `[rows, num_kv_heads, columns, dim]`, `mask`
        `[rows, 1, n, columns]`; returns the shape of `query` with the values' last dimension.
        """
        scale = query.shape[-1] ** -0.5 if self._scaling is None else self._scaling
        elements_per_query = query.shape[0] * query.shape[1] * query.shape[2] * keys.shape[2]
        step = max(_MAX_SCORE_ELEMENTS // elements_per_query, 1)
        parts = []
        for at in range(0, query.shape[3], step):
            part = query[:, :, :, at : at + step]
            packed = part.flatten(2, 3) * scale
            scores = torch.matmul(packed, keys.transpose(2, 3)).float().reshape(*part.shape[:4], -1)
            part_mask = None if mask is None else mask[:, :, None, at : at + step]
            weights = self._weights(scores, part_mask).to(values.dtype)
            parts.append(torch.matmul(weights.flatten(2, 3), values).reshape(*part.shape[:4], -1))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=3)

    def _weights(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Softmax of float32 `scores` `[rows, num_kv_heads, group, n, columns]`, which are used up."""
        if self._softcap is not None:
            scores = torch.tanh(scores / self._softcap) * self._softcap
        if mask is not None:
            scores += mask
        if self._sinks is None:
            return torch.softmax(scores, dim=-1)
        # a sink takes part in the softmax and contributes nothing
        sinks = self._sinks.float().reshape(1, scores.shape[1], scores.shape[2], 1, 1)
        scores = torch.cat((scores, sinks.expand(*scores.shape[:4], 1)), dim=-1)
        return torch.softmax(scores, dim=-1)[..., :-1]


def _causal_mask(positions: Tensor, low: int, num_keys: int, window: int | None, like: Tensor) -> Tensor:
    """The additive mask `[rows, 1, queries, num_keys - low]` of queries at `positions` `[rows, queries]`."""
    columns = torch.arange(low, num_keys, device=like.device)
    hidden = columns > positions[:, :, None]
    if window is not None:
        hidden |= columns <= positions[:, :, None] - window
    mask = torch.zeros(hidden.shape, dtype=like.dtype, device=like.device)
    # the lowest finite value, not -inf: blocks that are hidden as a whole then give no NaN in any kernel
    mask.masked_fill_(hidden, torch.finfo(like.dtype).min)
    return mask[:, None]


AttentionInterface.register(ATTENTION_NAME, batched_attention)


def decode_layout(
    slots: list[KVSlot], positions: list[int], device: torch.device
) -> tuple[list[DecodeWrite], list[Span]]:
    """The layout of decode tokens at `positions`; `slots` must be sorted by slab and row, token i is slot i's."""
    writes: list[DecodeWrite] = []
    spans: list[Span] = []
    start = 0
    while start < len(slots):
        slab = slots[start].slab
        stop = start
        while stop < len(slots) and slots[stop].slab is slab:
            row = slots[stop].row
            if stop > start and row == slots[stop - 1].row + 1:
                spans[-1].first_positions.append(positions[stop])
                spans[-1].stop += 1
            else:
                spans.append(Span(slab, row, stop, stop + 1, [positions[stop]]))
            stop += 1
        rows = torch.tensor([slot.row for slot in slots[start:stop]], device=device)
        where = torch.tensor(positions[start:stop], device=device)
        writes.append(DecodeWrite(slab, rows, where, start, stop))
        start = stop
    return writes, spans
