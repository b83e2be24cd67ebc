"""An adapter in memory: for each layer that it changes, two thin matrices.

On a CPU in bfloat16 the native kernels multiply by them, all adapters of a step in one call, and a row's bits don't
depend on what lies beside it. Elsewhere torch does, one adapter after the other, and a row may differ in its last bits
with the number of rows that its adapter has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hugging_llama.engine.lora.current import CurrentChange
from hugging_llama.engine.native.lora import LowRankFactors, LowRankPart, packed_bytes
from hugging_llama.engine.native.probe import Family, native_families


@dataclass(frozen=True, slots=True)
class TorchFactors:
    """What is added to rows: `x @ down.T @ up.T`; `up` is zero where a part of a joint layer is not changed."""

    down: Tensor
    up: Tensor

    @classmethod
    def of(cls, parts: Sequence[LowRankPart], width: int) -> "TorchFactors":
        """From the parts' factors, for results of `width` columns."""
        up = parts[0].up.new_zeros(width, sum(len(part.down) for part in parts))
        rank = 0
        for part in parts:
            up[part.column : part.column + len(part.up), rank : rank + len(part.down)] = part.up
            rank += len(part.down)
        return cls(torch.cat([part.down for part in parts]), up)

    def __call__(self, x: Tensor) -> Tensor:
        """`x` `[n, in_features]` to `[n, width]`."""
        return functional.linear(functional.linear(x, self.down), self.up)


Factors = LowRankFactors | TorchFactors


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class LoraAdapter:
    """`key` names its content. `factors` by the module that is changed; `current` is the model's."""

    key: str
    factors: Mapping[nn.Module, Factors]
    num_bytes: int
    current: CurrentChange


def is_native(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the native kernels do it."""
    return device.type == "cpu" and dtype == torch.bfloat16 and Family.LORA in native_families()


def factors_of(parts: Sequence[LowRankPart], width: int, device: torch.device, dtype: torch.dtype) -> Factors:
    """The parts of an adapter for one layer, whose results have `width` columns, ready to be used."""
    moved = [LowRankPart(part.down.to(device, dtype), part.up.to(device, dtype), part.column) for part in parts]
    return LowRankFactors.pack(moved, width) if is_native(device, dtype) else TorchFactors.of(moved, width)


def factors_bytes(
    shapes: Sequence[tuple[int, int]], in_features: int, width: int, device: torch.device, dtype: torch.dtype
) -> int:
    """What the factors of parts of (rank, columns) take."""
    if is_native(device, dtype):
        return packed_bytes(shapes, in_features)
    return sum(rank for rank, _ in shapes) * (in_features + width) * dtype.itemsize
