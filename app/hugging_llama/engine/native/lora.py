"""Low-rank changes of some rows, each by its own adapter, added to what a linear layer has made of them.

One call does it for all adapters of a step. A row's result has the same bits alone and among any others, on any
number of threads.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hugging_llama.engine.native.library import kernels
from hugging_llama.engine.native.linear import BLOCK, BFloat16Linear, padded

_RANKS = 16


@dataclass(frozen=True, slots=True)
class LowRankPart:
    """`down` `[r, in_features]` and `up` `[n, r]`, in bfloat16, for `n` columns of a result from `column` on."""

    down: Tensor
    up: Tensor
    column: int


@dataclass(frozen=True, slots=True)
class LowRankFactors:
    """What one adapter has for one layer, packed. `num_bytes` is all that it takes."""

    in_features: int
    width: int
    num_parts: int
    parts: Tensor
    num_bytes: int
    _packed: list[Tensor] = field(repr=False)

    @classmethod
    def pack(cls, parts: Sequence[LowRankPart], width: int) -> "LowRankFactors":
        """For results of `width` columns. Raises ValueError or TypeError for parts that don't fit together."""
        words: list[int] = []
        packed: list[Tensor] = []
        in_features = parts[0].down.shape[1]
        for part in parts:
            r, k = part.down.shape
            n = part.up.shape[0]
            if k != in_features or part.up.shape[1] != r or part.column < 0 or part.column + n > width:
                raise ValueError("the parts of an adapter don't fit together")
            down, up = _pack_down(part.down), BFloat16Linear.pack(part.up).weight
            words += [r, n, part.column, down.data_ptr(), up.data_ptr()]
            packed += [down, up]
        table = torch.tensor(words, dtype=torch.int64)
        return cls(in_features, width, len(parts), table, sum(tensor.nbytes for tensor in packed), packed)


def packed_bytes(shapes: Sequence[tuple[int, int]], in_features: int) -> int:
    """What the factors of parts of (r, n) take."""
    inputs = padded(in_features, 2)
    return sum(2 * (padded(r, _RANKS) * inputs + padded(n, BLOCK) * padded(r, 2)) for r, n in shapes)


@dataclass(frozen=True, slots=True)
class RowGroups:
    """Rows of some adapters: those of group i are `rows[starts[i] : starts[i + 1]]`, int64; no row comes twice."""

    starts: Tensor
    rows: Tensor
    last_row: int

    @classmethod
    def of(cls, groups: Sequence[Sequence[int]]) -> "RowGroups":
        """From the rows of each group; there must be some."""
        starts = [0]
        for group in groups:
            starts.append(starts[-1] + len(group))
        rows = [row for group in groups for row in group]
        if min(rows) < 0 or len(set(rows)) != len(rows):
            raise ValueError("a row belongs to one adapter")
        return cls(torch.tensor(starts), torch.tensor(rows), max(rows))


def add_lora(y: Tensor, x: Tensor, groups: RowGroups, factors: Sequence[LowRankFactors]) -> None:
    """Changes rows of `y` `[T, width]` by those of `x` `[T, in_features]`, both bfloat16; `factors` are the groups'."""
    num_groups = len(factors)
    if y.dtype != torch.bfloat16 or x.dtype != torch.bfloat16:
        raise TypeError("low-rank changes are of bfloat16")
    if not y.is_contiguous() or x.dim() != 2 or x.stride(1) != 1 or len(x) != len(y) or groups.last_row >= len(x):
        raise ValueError("the rows don't fit the results")
    sizes = (x.shape[1], y.shape[1])
    if num_groups != len(groups.starts) - 1 or any((f.in_features, f.width) != sizes for f in factors):
        raise ValueError("the factors don't fit the rows")
    failed = kernels().hl_add_lora(
        x.data_ptr(), x.stride(0), x.shape[1], y.data_ptr(), y.shape[1], num_groups,
        (ctypes.c_void_p * num_groups)(*[f.parts.data_ptr() for f in factors]),
        (ctypes.c_int64 * num_groups)(*[f.num_parts for f in factors]),
        groups.starts.data_ptr(), groups.rows.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    if failed:
        raise MemoryError("no memory for the rows of a low-rank change")


def _pack_down(weight: Tensor) -> Tensor:
    if weight.dtype != torch.bfloat16:
        raise TypeError(f"expected bfloat16 weights, not {weight.dtype}")
    weight = weight.detach().contiguous()
    r, k = weight.shape
    packed = torch.empty(padded(r, _RANKS) * padded(k, 2), dtype=torch.bfloat16)
    kernels().hl_pack_lora(weight.data_ptr(), r, k, packed.data_ptr())
    return packed
