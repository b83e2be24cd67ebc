"""One new token a sequence: its key and value into the slots of a KV cache, and attention over them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hugging_llama.engine.native.library import format_of, kernels

_MAX_GROUP = 64


@dataclass(frozen=True, slots=True)
class DecodePlaces:
    """Where the sequences of a step lie: one per step, for all layers.

    Sequence i is slot `slots[i]` of slab `slabs[i]` and sees its first `lengths[i]` keys, this step's included.
    """

    table: Tensor
    """`[n, 3]`, int64"""

    @classmethod
    def of(cls, slabs: Sequence[int], slots: Sequence[int], lengths: Sequence[int]) -> "DecodePlaces":
        """Raises ValueError for a sequence without keys."""
        if min(lengths, default=1) < 1:
            raise ValueError("a sequence has no keys to attend to")
        return cls(torch.tensor([slabs, slots, lengths], dtype=torch.int64).reshape(3, -1).T.contiguous())


@dataclass(frozen=True, slots=True)
class LayerCache:
    """One layer's slabs: `keys` and `values` `[slots, num_kv_heads, capacity, head_dim]`, contiguous, of one dtype.

    It keeps the addresses; make it once for a set of slabs, not once a step.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    key_addresses: Tensor
    value_addresses: Tensor
    capacities: Tensor

    @classmethod
    def of(cls, keys: Sequence[Tensor], values: Sequence[Tensor]) -> "LayerCache":
        """Raises ValueError for buffers that differ in more than slots and capacity, or are not contiguous."""
        like = {(x.shape[1], x.shape[3], x.dtype) for x in keys}, {(x.shape[1], x.shape[3], x.dtype) for x in values}
        if any(len(kinds) != 1 for kinds in like) or not all(x.is_contiguous() for x in (*keys, *values)):
            raise ValueError("the slabs of a layer are not alike")
        if [x.shape[:3] for x in keys] != [x.shape[:3] for x in values]:
            raise ValueError("keys and values have different slots")
        return cls(
            tuple(keys),
            tuple(values),
            torch.tensor([x.data_ptr() for x in keys], dtype=torch.int64),
            torch.tensor([x.data_ptr() for x in values], dtype=torch.int64),
            torch.tensor([x.shape[2] for x in keys], dtype=torch.int64),
        )


def write_cache(key: Tensor, value: Tensor, cache: LayerCache, places: DecodePlaces) -> None:
    """Stores `key` `[n, num_kv_heads, head_dim]` and `value` as the last ones that their sequences see.

    Both may be slices of wider rows. Raises ValueError for shapes or dtypes that don't fit the slabs.
    """
    for rows, slabs, addresses in (
        (key, cache.keys, cache.key_addresses),
        (value, cache.values, cache.value_addresses),
    ):
        n, num_kv_heads, head_dim = rows.shape
        if (num_kv_heads, head_dim, rows.dtype) != (slabs[0].shape[1], slabs[0].shape[3], slabs[0].dtype):
            raise ValueError("the new rows don't fit the slabs")
        if places.table.shape[0] != n:
            raise ValueError("rows and places differ in number")
        if rows.stride(2) != 1 or rows.stride(1) != head_dim:
            rows = rows.contiguous()
        size = rows.element_size()
        kernels().hl_write_cache(
            rows.data_ptr(), rows.stride(0) * size, n, addresses.data_ptr(), cache.capacities.data_ptr(),
            places.table.data_ptr(), num_kv_heads, head_dim * size,
        )  # fmt: skip


def decode_attention(
    query: Tensor,
    cache: LayerCache,
    places: DecodePlaces,
    *,
    scaling: float,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """`query` `[n, num_heads, head_dim]` to `[n, num_heads, value_head_dim]`, in the dtype of all: bfloat16 or float32.

    Scores, softmax and sums are float32. `window` counts the keys a query sees, its own included; `softcap` limits
    scores to +-softcap by tanh; `sinks` `[num_heads]` take part in the softmax and contribute nothing. A sequence's
    result has the same bits whatever else is in the batch. The places are trusted: they must lie in the slabs.
    Raises ValueError for shapes or dtypes that don't fit, MemoryError without room for the parts of a sequence.
    """
    keys, values = cache.keys[0], cache.values[0]
    n, num_heads, head_dim = query.shape
    num_kv_heads = keys.shape[1]
    group = num_heads // num_kv_heads
    if keys.shape[3] != head_dim or group * num_kv_heads != num_heads or group > _MAX_GROUP:
        raise ValueError("the queries don't fit the keys")
    if not query.dtype == keys.dtype == values.dtype or places.table.shape[0] != n:
        raise ValueError("queries, keys and values differ in dtype, or queries and places in number")
    if sinks is not None:
        if sinks.shape != (num_heads,):
            raise ValueError("there must be one sink a head")
        sinks = sinks.float().contiguous()
    query = query.contiguous()
    out = query.new_empty((n, num_heads, values.shape[3]))
    failed = kernels().hl_decode_attention(
        query.data_ptr(), n, cache.key_addresses.data_ptr(), cache.value_addresses.data_ptr(),
        cache.capacities.data_ptr(), places.table.data_ptr(), None if sinks is None else sinks.data_ptr(),
        num_kv_heads, group, head_dim, values.shape[3], window or 0, format_of(query), scaling, softcap or 0.0,
        out.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    if failed:
        raise MemoryError("no memory for decode attention")
    return out
