"""A decode step whose layout lies on the device: addresses and shapes never change, only what the tensors hold."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hugging_llama.engine.kv_cache import Slab
from hugging_llama.engine.spans import causal_mask

if TYPE_CHECKING:
    from hugging_llama.engine.flash_attention import FlashAttention


@dataclass
class DeviceRows:
    """One new token each of rows of one slab, at `start` to `stop` of the flattened input.

    `rows` and `positions` are int64 `[n]`. A row may come twice with the same token at the same position: then the
    same is written twice.
    """

    slab: Slab
    start: int
    stop: int
    rows: Tensor
    positions: Tensor
    _masks: dict[int | None, Tensor] = field(default_factory=dict)

    @cached_property
    def rows_int32(self) -> Tensor:
        """`[n]`, as FlashAttention takes them."""
        return self.rows.int()

    @cached_property
    def lengths_int32(self) -> Tensor:
        """How many keys each row has, the new one included, `[n]`."""
        return (self.positions + 1).int()

    def write(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Stores what belongs to these rows of a step's `key`, `value` `[T, num_kv_heads, head_dim]`."""
        index, at = (self.rows, slice(None), self.positions), slice(self.start, self.stop)
        self.slab.keys[layer][index] = key[at]
        self.slab.values[layer][index] = value[at]

    def mask(self, window: int | None, like: Tensor) -> Tensor:
        """The additive mask over the whole slab `[num_slots, 1, 1, capacity]`; other rows see their first key."""
        if window not in self._masks:
            positions = self.positions.new_zeros(self.slab.num_slots)
            positions[self.rows] = self.positions
            self._masks[window] = causal_mask(positions[:, None], 0, self.slab.capacity, window, like)
        return self._masks[window]


@dataclass(slots=True)
class DeviceStep:
    """Decode tokens of one or several slabs, in the order of the input. Nothing about it waits for the device.

    `layer` is set by caches that know which layer attends next.
    """

    groups: list[DeviceRows]
    flash: "FlashAttention | None"
    layer: int | None = None


def device_rows(slab: Slab, start: int, rows: list[int], positions: list[int]) -> DeviceRows:
    """Copies the layout to the slab's device."""
    both = torch.tensor([rows, positions], device=slab.device)
    return DeviceRows(slab, start, start + len(rows), both[0], both[1])
