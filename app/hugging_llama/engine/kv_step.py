"""The layout of one step: which tokens of the flattened input belong to whom, and where their keys and values go."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hugging_llama.engine.device_step import DeviceRows, device_rows
from hugging_llama.engine.kv_cache import KVSlot, Slab
from hugging_llama.engine.native.attention import DecodePlaces, LayerCache
from hugging_llama.engine.spans import Span

if TYPE_CHECKING:
    from hugging_llama.engine.flash_attention import FlashAttention


@dataclass
class DecodeGroup:
    """One new token each of several sequences in one slab, the lowest row first.

    `start`, `stop` are their places in the flattened input, `positions` where in their rows they come.
    """

    slab: Slab
    start: int
    rows: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)

    @property
    def stop(self) -> int:
        return self.start + len(self.rows)

    @cached_property
    def on_device(self) -> DeviceRows:
        """For torch's kernels, shared by all layers."""
        return device_rows(self.slab, self.start, self.rows, self.positions)

    @cached_property
    def spans(self) -> list[Span]:
        """Its runs of consecutive rows."""
        spans: list[Span] = []
        for i, (row, position) in enumerate(zip(self.rows, self.positions, strict=True), self.start):
            if spans and row == spans[-1].first_row + spans[-1].num_rows:
                spans[-1].first_positions.append(position)
                spans[-1].stop += 1
            else:
                spans.append(Span(self.slab, row, i, i + 1, [position]))
        return spans


@dataclass
class PromptChunk:
    """Consecutive tokens of one sequence, from `position` on; `start`, `stop` are their places in the input."""

    slab: Slab
    row: int
    position: int
    start: int
    stop: int

    @cached_property
    def span(self) -> Span:
        """The chunk as a span of one row."""
        return Span(self.slab, self.row, self.start, self.stop, [self.position])


@dataclass
class KVStep:
    """Decode tokens first, sorted by slab and row, then chunks, then padding that belongs to nobody.

    `is_native`: the native kernels attend; else FlashAttention where there is `flash` and it takes the layer. `layer`
    is set by caches that know which layer attends next; else the module says it.
    """

    decode: list[DecodeGroup]
    chunks: list[PromptChunk]
    is_native: bool
    num_padding: int = 0
    flash: "FlashAttention | None" = None
    layer: int | None = None

    @property
    def spans(self) -> Iterator[Span]:
        """For torch's kernels: all that attends together, in the order of the input."""
        for group in self.decode:
            yield from group.spans
        for chunk in self.chunks:
            yield chunk.span

    @property
    def num_decode(self) -> int:
        return self.decode[-1].stop if self.decode else 0

    @cached_property
    def places(self) -> DecodePlaces:
        """Where the decode tokens' sequences lie, for the native kernel; the same for all layers."""
        slabs = [number for number, group in enumerate(self.decode) for _ in group.rows]
        rows = [row for group in self.decode for row in group.rows]
        return DecodePlaces.of(slabs, rows, [position + 1 for group in self.decode for position in group.positions])

    def layer_cache(self, layer: int) -> LayerCache:
        """One layer of all slabs in which a sequence decodes: one native call for all of them."""
        if len(self.decode) == 1:
            return self.decode[0].slab.layer_cache(layer)
        slabs = [group.slab for group in self.decode]
        index, (keys, values) = slabs[0].layer_index[layer], self._addresses
        return LayerCache(
            tuple(slab.keys[layer] for slab in slabs),
            tuple(slab.values[layer] for slab in slabs),
            keys[index],
            values[index],
            self._capacities,
        )

    @cached_property
    def _addresses(self) -> tuple[Tensor, Tensor]:
        """Of keys and of values, `[layers, slabs]`."""
        keys, values = zip(*(group.slab.addresses for group in self.decode), strict=True)
        return torch.stack(keys, dim=1), torch.stack(values, dim=1)

    @cached_property
    def _capacities(self) -> Tensor:
        return torch.tensor([group.slab.capacity for group in self.decode], dtype=torch.int64)

    def write(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Stores the step's `key`, `value` `[T, num_kv_heads, head_dim]` of one layer."""
        for group in self.decode:
            group.on_device.write(layer, key, value)
        for chunk in self.chunks:
            at = slice(chunk.start, chunk.stop)
            columns = slice(chunk.position, chunk.position + chunk.stop - chunk.start)
            chunk.slab.keys[layer][chunk.row, :, columns] = key[at].transpose(0, 1)
            chunk.slab.values[layer][chunk.row, :, columns] = value[at].transpose(0, 1)


def decode_groups(slots: list[KVSlot], positions: list[int]) -> list[DecodeGroup]:
    """The groups of decode tokens at `positions`; `slots` must be sorted by slab and row, token i is slot i's."""
    groups: list[DecodeGroup] = []
    for i, (slot, position) in enumerate(zip(slots, positions, strict=True)):
        if not groups or groups[-1].slab is not slot.slab:
            groups.append(DecodeGroup(slot.slab, i))
        groups[-1].rows.append(slot.row)
        groups[-1].positions.append(position)
    return groups
