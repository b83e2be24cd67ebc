"""Causal attention of new tokens over the slots of a KV cache: one token a sequence, or many of one sequence.

Scores, softmax and sums are float32; bfloat16 weights are rounded before they meet bfloat16 values. A query's result
has the same bits in both forms, in any batch, however its prompt was cut, and on any number of threads. A NaN or
infinity shows in the queries that see it; one in a value can also show in up to six queries before and after those.

Common arguments: `scaling` of the scores; `window`, the keys a query sees, its own included; `softcap` limits scores
to +-softcap by tanh; `sinks` `[num_heads]` take part in the softmax and contribute nothing; `new_keys` and
`new_values` `[n, num_kv_heads, .]`, the tokens' own, are written to the cache first (without them they are there
already). Queries, keys and values are bfloat16 or float32, all alike; their rows may be slices of wider ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hugging_llama.engine.native.library import format_of, kernels


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


def decode_attention(
    query: Tensor,
    cache: LayerCache,
    places: DecodePlaces,
    *,
    scaling: float,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    new_keys: Tensor | None = None,
    new_values: Tensor | None = None,
) -> Tensor:
    """`query` `[n, num_heads, head_dim]`, one token a sequence, to `[n, num_heads, value_head_dim]`.

    The places are trusted: they must lie in the slabs, each slot once. Raises ValueError for shapes or dtypes that
    don't fit, MemoryError without room for the intermediate results.
    """
    if places.table.shape[0] != query.shape[0]:
        raise ValueError("queries and places differ in number")
    where = (
        cache.key_addresses.data_ptr(), cache.value_addresses.data_ptr(), cache.capacities.data_ptr(),
        places.table.data_ptr(),
    )  # fmt: skip
    return _attend(
        kernels().hl_decode_attention, where, query, cache.keys[0], cache.values[0], new_keys, new_values, sinks,
        window, scaling, softcap,
    )  # fmt: skip


def chunk_attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    first_position: int,
    *,
    scaling: float,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    new_keys: Tensor | None = None,
    new_values: Tensor | None = None,
) -> Tensor:
    """`query` `[n, num_heads, head_dim]`, tokens of one sequence from `first_position` on, to `[n, num_heads, .]`.

    `keys`, `values` `[num_kv_heads, capacity, .]` are the sequence's slot, contiguous; query i sees the keys up to
    `first_position + i`. Raises ValueError for shapes or dtypes that don't fit and for positions beyond the capacity,
    MemoryError without room for the intermediate results, which never grow with queries times keys.
    """
    if not keys.is_contiguous() or not values.is_contiguous() or keys.shape[:2] != values.shape[:2]:
        raise ValueError("keys and values are not one slot")
    capacity = keys.shape[1]
    if not 0 <= first_position <= capacity - query.shape[0]:
        raise ValueError("the queries lie outside the slot")
    where = keys.data_ptr(), values.data_ptr(), capacity, first_position
    return _attend(
        kernels().hl_chunk_attention, where, query, keys, values, new_keys, new_values, sinks, window, scaling, softcap
    )


def _attend(
    kernel: Callable[..., int],
    where: tuple[int, ...],
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    new_keys: Tensor | None,
    new_values: Tensor | None,
    sinks: Tensor | None,
    window: int | None,
    scaling: float,
    softcap: float | None,
) -> Tensor:
    """Checks and calls. `where` tells the kernel where keys and values lie; `keys`, `values` are some of them."""
    n, num_heads, head_dim = query.shape
    num_kv_heads, value_dim = keys.shape[-3], values.shape[-1]
    if keys.shape[-1] != head_dim or num_heads % num_kv_heads:
        raise ValueError("the queries don't fit the keys")
    if not query.dtype == keys.dtype == values.dtype:
        raise ValueError("queries, keys and values differ in dtype")
    if sinks is not None:
        if sinks.shape != (num_heads,):
            raise ValueError("there must be one sink a head")
        sinks = sinks.float().contiguous()
    query = _heads_together(query)
    new_keys = _new_rows(new_keys, (n, num_kv_heads, head_dim), query.dtype)
    new_values = _new_rows(new_values, (n, num_kv_heads, value_dim), query.dtype)
    if (new_keys is None) != (new_values is None):
        raise ValueError("new keys come with new values")
    out = query.new_empty((n, num_heads, value_dim))
    failed = kernel(
        query.data_ptr(), query.stride(0), n, *where, *_address(new_keys), *_address(new_values),
        None if sinks is None else sinks.data_ptr(), num_kv_heads, num_heads // num_kv_heads, head_dim, value_dim,
        window or 0, format_of(query), scaling, softcap or 0.0, out.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    if failed:
        raise MemoryError("no memory for attention")
    return out


def _new_rows(x: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor | None:
    if x is None:
        return None
    if x.shape != shape:
        raise ValueError("new keys and values don't fit the queries or the cache")
    if x.dtype != dtype:
        raise ValueError("new keys and values differ from the cache in dtype")
    return _heads_together(x)


def _heads_together(x: Tensor) -> Tensor:
    """`x` `[n, heads, dim]` with the heads of a row side by side; a copy only if they are not."""
    return x if x.stride(2) == 1 and x.stride(1) == x.shape[2] else x.contiguous()


def _address(x: Tensor | None) -> tuple[int | None, int]:
    return (None, 0) if x is None else (x.data_ptr(), x.stride(0))
