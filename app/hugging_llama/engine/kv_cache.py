"""Keys and values of running sequences, in slots of power-of-two capacity.

A sequence holds one slot: a row of a slab, and a slab is one key and one value buffer per layer for a few rows of
equal capacity. It starts in a small slot and moves (one copy per doubling) as it grows, so memory follows what is
used and decode pads rows of one slab to at most twice their length. Admission reserves the capacity that a sequence
can reach at most, so a running one never finds the cache full.
"""

import heapq
from dataclasses import dataclass
from itertools import count

import torch

from hugging_llama.engine.memory import free_bytes
from hugging_llama.errors import InsufficientMemoryError

_MIN_SLOT_TOKENS = 256
_SLAB_TOKENS = 8192
_MAX_SLAB_SLOTS = 16
_FREE_MEMORY_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class LayerShape:
    """The shape of one layer's keys and values, as its attention really receives them."""

    num_kv_heads: int
    key_head_dim: int
    value_head_dim: int


class Slab:
    """Buffers for `num_slots` rows of `capacity` tokens: per layer `[num_slots, num_kv_heads, capacity, head_dim]`.

    They begin as zeros, since attention multiplies what lies behind a mask by zero, and zero times NaN is NaN.
    """

    def __init__(
        self,
        serial: int,
        capacity: int,
        num_slots: int,
        layers: dict[int, LayerShape],
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.serial = serial
        self.capacity = capacity
        self.num_slots = num_slots
        self.free_rows = list(range(num_slots))

        def zeros(heads: int, head_dim: int) -> torch.Tensor:
            return torch.zeros(num_slots, heads, capacity, head_dim, dtype=dtype, device=device)

        self.keys = {i: zeros(shape.num_kv_heads, shape.key_head_dim) for i, shape in layers.items()}
        self.values = {i: zeros(shape.num_kv_heads, shape.value_head_dim) for i, shape in layers.items()}


@dataclass(slots=True)
class KVSlot:
    """Where one sequence's keys and values lie. `reserved` is the capacity it may grow to."""

    slab: Slab
    row: int
    reserved: int


class KVCache:
    """All slots of one model. Not thread-safe: the step loop's lock guards it.

    `used_tokens` is what is reserved, `allocated_tokens` what the slabs hold, in use or not.
    """

    def __init__(
        self,
        layers: dict[int, LayerShape],
        *,
        dtype: torch.dtype,
        device: torch.device,
        capacity_tokens: int,
    ) -> None:
        self.capacity_tokens = capacity_tokens
        self.used_tokens = 0
        self.allocated_tokens = 0
        self._layers = layers
        self._dtype = dtype
        self._device = device
        self._serials = count()
        self._slabs: dict[int, list[Slab]] = {}

    @property
    def max_tokens(self) -> int:
        """The longest sequence that fits when it is alone."""
        return _floor_power_of_two(self.capacity_tokens)

    def size_bytes(self, num_tokens: int) -> int:
        """What the keys and values of `num_tokens` take."""
        return num_tokens * bytes_per_token(self._layers, self._dtype)

    def can_admit(self, num_tokens: int) -> bool:
        """True if a sequence that grows to at most `num_tokens` can be taken now."""
        return self.used_tokens + slot_capacity(num_tokens) <= self.capacity_tokens

    def allocate(self, num_tokens: int, max_tokens: int) -> KVSlot:
        """A slot for `num_tokens` now, growing to at most `max_tokens`; ask `can_admit(max_tokens)` before.

        Raises InsufficientMemoryError if the device has no room although the budget has.
        """
        reserved = slot_capacity(max_tokens)
        slab, row = self._take_row(min(slot_capacity(num_tokens), reserved))
        self.used_tokens += reserved
        return KVSlot(slab, row, reserved)

    def ensure(self, slot: KVSlot, num_tokens: int) -> None:
        """Makes room for `num_tokens`, moving the slot's contents to a larger one if needed.

        Raises InsufficientMemoryError like `allocate`; the slot is unchanged then.
        """
        if num_tokens <= slot.slab.capacity:
            return
        old, old_row = slot.slab, slot.row
        slab, row = self._take_row(slot_capacity(num_tokens))
        for old_buffers, new_buffers in ((old.keys, slab.keys), (old.values, slab.values)):
            for layer, buffer in new_buffers.items():
                buffer[row, :, : old.capacity] = old_buffers[layer][old_row]
        slot.slab, slot.row = slab, row
        self._give_row_back(old, old_row)

    def free(self, slot: KVSlot, *, wipe: bool = False) -> None:
        """Gives the slot back. `wipe` clears it: a sequence that went NaN must not poison the next one's padding."""
        if wipe:
            for buffer in (*slot.slab.keys.values(), *slot.slab.values.values()):
                buffer[slot.row].zero_()
        self.used_tokens -= slot.reserved
        self._give_row_back(slot.slab, slot.row)

    def _take_row(self, capacity: int) -> tuple[Slab, int]:
        slabs = self._slabs.setdefault(capacity, [])
        for slab in slabs:
            if slab.free_rows:
                # the lowest row, so that the rows in use stay together and decode sees long runs of them
                return slab, heapq.heappop(slab.free_rows)
        slab = self._new_slab(capacity)
        slabs.append(slab)
        return slab, heapq.heappop(slab.free_rows)

    def _new_slab(self, capacity: int) -> Slab:
        # slots in advance only within the budget: every size has a slab of its own, and most may lie empty
        room = (self.capacity_tokens - self.allocated_tokens) // capacity
        num_slots = max(min(_SLAB_TOKENS // capacity, _MAX_SLAB_SLOTS, room), 1)
        try:
            slab = Slab(next(self._serials), capacity, num_slots, self._layers, dtype=self._dtype, device=self._device)
        except (RuntimeError, MemoryError) as error:
            need = num_slots * capacity * bytes_per_token(self._layers, self._dtype)
            raise InsufficientMemoryError(
                "no memory for the KV cache", need_bytes=need, free_bytes=free_bytes(self._device)
            ) from error
        self.allocated_tokens += num_slots * capacity
        return slab

    def _give_row_back(self, slab: Slab, row: int) -> None:
        heapq.heappush(slab.free_rows, row)
        if len(slab.free_rows) == slab.num_slots:
            slabs = self._slabs[slab.capacity]
            # one empty slab of the smallest class stays, so that single requests don't allocate each time
            if slab.capacity > _MIN_SLOT_TOKENS or len(slabs) > 1:
                slabs.remove(slab)
                self.allocated_tokens -= slab.num_slots * slab.capacity


def slot_capacity(num_tokens: int) -> int:
    """The capacity of the smallest slot that holds `num_tokens`."""
    return max(_MIN_SLOT_TOKENS, 1 << max(num_tokens - 1, 0).bit_length())


def bytes_per_token(layers: dict[int, LayerShape], dtype: torch.dtype) -> int:
    """What one token's keys and values take over all layers."""
    elements = sum(shape.num_kv_heads * (shape.key_head_dim + shape.value_head_dim) for shape in layers.values())
    return elements * dtype.itemsize


def capacity_from_memory(
    layers: dict[int, LayerShape], *, dtype: torch.dtype, device: torch.device, budget_bytes: int = 0
) -> int:
    """How many tokens a cache may hold in `budget_bytes`, or in half of the free memory if that is 0.

    Raises InsufficientMemoryError if not even the smallest slot fits.
    """
    budget = budget_bytes or int(free_bytes(device) * _FREE_MEMORY_SHARE)
    need = bytes_per_token(layers, dtype)
    tokens = budget // max(need, 1)
    if tokens < _MIN_SLOT_TOKENS:
        raise InsufficientMemoryError(
            "no memory for the KV cache", need_bytes=need * _MIN_SLOT_TOKENS, free_bytes=budget
        )
    return tokens


def _floor_power_of_two(number: int) -> int:
    return 1 << (max(number, 1).bit_length() - 1)
