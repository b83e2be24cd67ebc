"""One attention function for every model: flattened `[1, T]` input, keys and values in our own cache.

Registered with transformers' `AttentionInterface`; no mask function is registered under that name, so models build
no mask and pass None. The step's layout comes in as the keyword `kv_step`, which models hand down untouched.

Queries that share a key/value head are packed along the length, `[B, num_kv_heads, group * n, head_dim]`, so keys
are never repeated and the fused CPU kernel is used (with `enable_gqa` it is ten times slower at decode).
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
    _masks: dict[tuple[int | None, int], tuple[int, Tensor | None]] = field(default_factory=dict)

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

    def mask(self, window: int | None, group: int, like: Tensor) -> tuple[int, Tensor | None]:
        """The first key column that any row sees, and the additive mask over `[num_rows, 1, queries, columns]`.

        `window` counts the keys a query sees, itself included. `group` copies of the queries are packed one after
        the other; a single query needs no copies, its mask is broadcast. None: every query sees every column.
        """
        if window is not None and window >= self.num_keys:
            window = None
        key = (window, group)
        if key not in self._masks:
            self._masks[key] = self._build_mask(window, group if self.num_queries > 1 else 1, like)
        return self._masks[key]

    def _build_mask(self, window: int | None, group: int, like: Tensor) -> tuple[int, Tensor | None]:
        n, num_keys, shortest = self.num_queries, self.num_keys, min(self.first_positions)
        low = 0 if window is None else max(shortest - window + 1, 0)
        if n == 1 and shortest + 1 == num_keys:
            return low, None
        device = like.device
        columns = torch.arange(low, num_keys, device=device)
        first = torch.tensor(self.first_positions, device=device)
        positions = (first[:, None] + torch.arange(n, device=device))[:, :, None]
        hidden = columns > positions
        if window is not None:
            hidden |= columns <= positions - window
        mask = torch.zeros(hidden.shape, dtype=like.dtype, device=device)
        # the lowest finite value, not -inf: blocks that are hidden as a whole then give no NaN in any kernel
        mask.masked_fill_(hidden, torch.finfo(like.dtype).min)
        return low, mask.repeat(1, group, 1)[:, None]


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
    """The layout of one step: decode tokens first, sorted by slab and row, then prompt chunks, then padding."""

    writes: list[DecodeWrite]
    decode: list[Span]
    prefill: list[Span]
    num_padding: int = 0

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
    `[1, T, num_heads, value_head_dim]`. `s_aux` are attention sinks `[num_heads]`, `softcap` limits scores.
    Raises NotImplementedError for what it can't honour; the self-test at load then chooses the other runner.
    """
    if kv_step is None or position_bias is not None or query.shape[0] != 1:
        raise NotImplementedError("attention was called without a step, with a position bias or with rows")
    if attention_mask is not None or not getattr(module, "is_causal", True):
        raise NotImplementedError("only plain causal attention can be batched")
    layer: int = module.layer_idx  # type: ignore[assignment]
    attend = _Attend(query, scaling, softcap, sliding_window, s_aux)
    if isinstance(kv_step, LayerProbe):
        kv_step.note(layer, key, value, sliding_window)
        return query.new_zeros(1, query.shape[2], query.shape[1], value.shape[3]), None
    kv_step.write(layer, key, value)
    # spans lie in input order without gaps
    parts = [attend(span, layer) for span in (*kv_step.decode, *kv_step.prefill)]
    if kv_step.num_padding:
        parts.append(parts[0].new_zeros(1, kv_step.num_padding, *parts[0].shape[2:]))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1), None


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
        low, mask = span.mask(self._window, group, self._query)
        keys = buffer[rows, :, low : span.num_keys]
        values = span.slab.values[layer][rows, :, low : span.num_keys]
        query = self._query[0, :, span.start : span.stop]
        if n == 1:
            # rows of one query each; the model made [T, heads, dim], so this is a view
            query = query.transpose(0, 1).reshape(span.num_rows, num_kv_heads, group, -1)
            return self._attend(query, keys, values, mask).reshape(1, span.num_rows, num_heads, -1)
        query = query.reshape(1, num_kv_heads, group * n, -1)
        return self._attend(query, keys, values, mask).reshape(1, num_heads, n, -1).transpose(1, 2)

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        if self._softcap is None and self._sinks is None:
            return functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=self._scaling)
        sinks = None
        if self._sinks is not None:
            per_group = self._sinks.reshape(keys.shape[1], -1)
            repeats = query.shape[2] // per_group.shape[1]
            sinks = per_group.repeat_interleave(repeats, dim=1)[None, :, :, None]
        scale = query.shape[-1] ** -0.5 if self._scaling is None else self._scaling
        step = max(_MAX_SCORE_ELEMENTS // (keys.shape[0] * keys.shape[1] * keys.shape[2]), 1)
        parts = [
            self._explicit(
                query[:, :, at : at + step] * scale,
                keys,
                values,
                mask[:, :, at : at + step] if mask is not None and mask.shape[2] > 1 else mask,
                None if sinks is None else sinks[:, :, at : at + step],
            )
            for at in range(0, query.shape[2], step)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)

    def _explicit(
        self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, sinks: Tensor | None
    ) -> Tensor:
        scores = torch.matmul(query, keys.transpose(2, 3)).float()
        if self._softcap is not None:
            scores = torch.tanh(scores / self._softcap) * self._softcap
        if mask is not None:
            scores += mask
        if sinks is not None:
            # a sink takes part in the softmax and contributes nothing
            scores = torch.cat((scores, sinks.float().expand(*scores.shape[:3], 1)), dim=-1)
        weights = torch.softmax(scores, dim=-1)
        if sinks is not None:
            weights = weights[..., :-1]
        return torch.matmul(weights.to(values.dtype), values)


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
