"""Keys and values of running sequences, in slots of power-of-two capacity.

A sequence holds one slot: a row of a slab, and a slab is one key and one value buffer per layer for a few rows of
equal capacity. It starts in a slot that holds its prompt and moves (one copy per doubling) as it grows, so memory
follows what is used and decode pads rows of one slab to at most twice their length. What has ended, and may begin
the next prompt, lies in `prefix_cache.py`, exactly as long as it is, so that running rows stay together.

Nothing is promised to a sequence that it may need later: whoever asks for more than there is gets a no, and the
scheduler makes room.
"""

import heapq
from dataclasses import dataclass
from functools import cached_property
from itertools import count

import torch

from hugging_llama.engine.memory import free_bytes, is_out_of_memory
from hugging_llama.engine.native.attention import LayerCache
from hugging_llama.errors import InsufficientMemoryError

_MIN_SLOT_TOKENS = 256
_SLAB_TOKENS = 8192
_MAX_SLAB_SLOTS = 16
_FREE_MEMORY_SHARE = 0.5

# what a single allocation may take of the memory that is free at that moment
_LARGEST_SHARE = 0.9


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
        self.device = device

        def zeros(heads: int, head_dim: int) -> torch.Tensor:
            return torch.zeros(num_slots, heads, capacity, head_dim, dtype=dtype, device=device)

        self.keys = {i: zeros(shape.num_kv_heads, shape.key_head_dim) for i, shape in layers.items()}
        self.values = {i: zeros(shape.num_kv_heads, shape.value_head_dim) for i, shape in layers.items()}
        self.layer_index = {layer: index for index, layer in enumerate(layers)}
        self._layer_caches: dict[int, LayerCache] = {}

    @cached_property
    def addresses(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Where the keys and the values of each layer begin, `[layers]` in the order of `layer_index`."""
        keys = torch.tensor([buffer.data_ptr() for buffer in self.keys.values()], dtype=torch.int64)
        return keys, torch.tensor([buffer.data_ptr() for buffer in self.values.values()], dtype=torch.int64)

    def layer_cache(self, layer: int) -> LayerCache:
        """One layer's buffers for the native kernels."""
        found = self._layer_caches.get(layer)
        if found is None:
            found = self._layer_caches[layer] = LayerCache.of([self.keys[layer]], [self.values[layer]])
        return found


@dataclass(slots=True)
class KVSlot:
    """Where one sequence's keys and values lie."""

    slab: Slab
    row: int

    @property
    def capacity(self) -> int:
        return self.slab.capacity


class KVCache:
    """All slots of one model. Only the step loop's thread changes it.

    `used_tokens` is what slots and retained prefixes hold, `allocated_tokens` what the slabs take, in use or not.
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
        self.layers = layers
        self.dtype = dtype
        self._device = device
        self._serials = count()
        self._slabs: dict[int, list[Slab]] = {}

    @property
    def max_tokens(self) -> int:
        """The longest sequence that fits when it is alone."""
        return _floor_power_of_two(self.capacity_tokens)

    @property
    def state_bytes(self) -> int:
        """What running sequences take besides keys and values."""
        return 0

    def size_bytes(self, num_tokens: int) -> int:
        """What the keys and values of `num_tokens` take."""
        return num_tokens * bytes_per_token(self.layers, self.dtype)

    def allocate(self, num_tokens: int) -> KVSlot | None:
        """A slot for `num_tokens`, None if there is no room now."""
        capacity = slot_capacity(num_tokens)
        if not self.reserve(capacity):
            return None
        place = self._take_row(capacity)
        if place is None:
            self.release(capacity)
            return None
        return KVSlot(*place)

    def ensure(self, slot: KVSlot, num_tokens: int) -> bool:
        """Makes room for `num_tokens`, moving the slot's contents to a larger one if needed.

        False if there is none; the slot is unchanged then.
        """
        if num_tokens <= slot.capacity:
            return True
        old, old_row, capacity = slot.slab, slot.row, slot_capacity(num_tokens)
        if not self.reserve(capacity - old.capacity):
            return False
        place = self._take_row(capacity)
        if place is None:
            self.release(capacity - old.capacity)
            return False
        moved = KVSlot(*place)
        try:
            self.copy(slot, moved, old.capacity)
        except RuntimeError as error:
            self.release(capacity - old.capacity)
            self._give_row_back(*place)
            if is_out_of_memory(error):
                return False
            raise
        slot.slab, slot.row = place
        self._give_row_back(old, old_row)
        return True

    def copy(self, source: KVSlot, target: KVSlot, num_tokens: int) -> None:
        """The first `num_tokens` of one slot into another, which must be large enough."""
        for old, new in ((source.slab.keys, target.slab.keys), (source.slab.values, target.slab.values)):
            for layer, buffer in new.items():
                buffer[target.row, :, :num_tokens] = old[layer][source.row, :, :num_tokens]

    def free(self, slot: KVSlot, *, wipe: bool = False) -> None:
        """Gives the slot back. `wipe` clears it: a sequence that went NaN must not poison the next one's padding."""
        if wipe:
            for buffer in (*slot.slab.keys.values(), *slot.slab.values.values()):
                buffer[slot.row].zero_()
        self.release(slot.capacity)
        self._give_row_back(slot.slab, slot.row)

    def reserve(self, num_tokens: int) -> bool:
        """Takes `num_tokens` of the budget, False if they are not there."""
        if self.used_tokens + num_tokens > self.capacity_tokens:
            return False
        self.used_tokens += num_tokens
        return True

    def release(self, num_tokens: int) -> None:
        """Gives back what `reserve` took."""
        self.used_tokens -= num_tokens

    def has_memory(self, num_tokens: int) -> bool:
        """True if the device itself has room for `num_tokens` more, whatever the budget says."""
        return self.size_bytes(num_tokens) <= free_bytes(self._device) * _LARGEST_SHARE

    def _take_row(self, capacity: int) -> tuple[Slab, int] | None:
        slabs = self._slabs.setdefault(capacity, [])
        slab = next((slab for slab in slabs if slab.free_rows), None)
        if slab is None:
            slab = self._new_slab(capacity)
            if slab is None:
                return None
            slabs.append(slab)
        # the lowest row, so that the rows in use stay together and decode sees long runs of them
        return slab, heapq.heappop(slab.free_rows)

    def _new_slab(self, capacity: int) -> Slab | None:
        # slots in advance only within the budget: every size has a slab of its own, and most may lie empty
        room = (self.capacity_tokens - self.allocated_tokens) // capacity
        num_slots = max(min(_SLAB_TOKENS // capacity, _MAX_SLAB_SLOTS, room), 1)
        # others may have taken the memory that was free when the budget was made; asking is better than dying of it
        if not self.has_memory(num_slots * capacity):
            num_slots = 1
            if not self.has_memory(capacity):
                return None
        try:
            slab = Slab(next(self._serials), capacity, num_slots, self.layers, dtype=self.dtype, device=self._device)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                return None
            raise
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
    layers: dict[int, LayerShape],
    *,
    dtype: torch.dtype,
    device: torch.device,
    budget_bytes: int = 0,
    most_tokens: int | None = None,
) -> int:
    """How many tokens a cache may hold in `budget_bytes`; if that is 0, in half of the free memory, but at most
    `most_tokens`.

    Raises InsufficientMemoryError if not even the smallest slot fits.
    """
    budget = budget_bytes or default_budget_bytes(device)
    need = bytes_per_token(layers, dtype)
    tokens = budget // max(need, 1)
    if tokens < _MIN_SLOT_TOKENS:
        raise InsufficientMemoryError(
            "no memory for the KV cache", need_bytes=need * _MIN_SLOT_TOKENS, free_bytes=budget
        )
    if budget_bytes or most_tokens is None:
        return tokens
    return min(tokens, max(most_tokens, _MIN_SLOT_TOKENS))


def default_budget_bytes(device: torch.device) -> int:
    """The memory to use where the settings name none."""
    return int(free_bytes(device) * _FREE_MEMORY_SHARE)


def _floor_power_of_two(number: int) -> int:
    return 1 << (max(number, 1).bit_length() - 1)
