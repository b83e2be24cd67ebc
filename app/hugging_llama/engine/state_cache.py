"""The states of running sequences in models with recurrent layers: linear attention, Mamba, short convolutions.

Such a layer sees all earlier tokens through tensors of fixed size, which transformers keeps in the layers of its
cache (`LinearAttentionLayer`, one row a sequence). Here a forward is given the rows of the sequences that run
together, and what it leaves behind belongs to them afterwards. States stay in the batch in which they were computed
until they are gathered for the next one, so a batch that keeps its members costs one copy a step. The states before
the last step are kept as well: a step that failed can be run again.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import (
    CacheLayerMixin,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionCacheLayerMixin,
)

from hugging_llama.engine.attention import LayerProbe
from hugging_llama.engine.kv_cache import KVCache, KVSlot, LayerShape
from hugging_llama.engine.kv_step import KVStep
from hugging_llama.errors import GenerationError

# of every sequence: its states before and after the last step, and the copy that the running step works on
_COPIES = 3


class StateKey(NamedTuple):
    """Names one state: the `number`-th of its `kind` (`conv_states`, `recurrent_states`) in a layer."""

    layer: int
    kind: str
    number: int


States = dict[StateKey, Tensor]
"""Every state of some sequences, each `[num_sequences, ...]`."""


@dataclass(frozen=True, slots=True)
class StateLayout:
    """What a model keeps of a sequence: `rows` holds its states as one sequence of zeros, `[1, ...]`."""

    rows: States

    @property
    def bytes_per_sequence(self) -> int:
        """The memory to count for a running sequence."""
        return _COPIES * sum(row.numel() * row.element_size() for row in self.rows.values())

    def zeros(self, num_sequences: int) -> States:
        """The states before the first token."""
        return {key: row.new_zeros(num_sequences, *row.shape[1:]) for key, row in self.rows.items()}


@dataclass(frozen=True, slots=True)
class StateVersion:
    """A sequence's states after `num_tokens` tokens: row `row` of `states`."""

    states: States
    row: int
    num_tokens: int


@dataclass(slots=True)
class StateSlot(KVSlot):
    """Where a sequence's keys and values lie, and its states after the last two steps."""

    versions: list[StateVersion] = field(default_factory=list)

    def remember(self, states: States, row: int, position: int, num_tokens: int) -> None:
        """Takes what a step has computed from the states at `position`, which are kept in case it is run again."""
        before = [version for version in self.versions if version.num_tokens == position]
        self.versions = [*before[-1:], StateVersion(states, row, num_tokens)]

    def version(self, num_tokens: int) -> StateVersion:
        """Raises GenerationError if the states of so many tokens are gone; states can't be cut back."""
        for version in reversed(self.versions):
            if version.num_tokens == num_tokens:
                return version
        raise GenerationError(f"the model's state after {num_tokens} tokens is gone")


class StateKVCache(KVCache):
    """A KV cache whose sequences carry states, too; `max_sequences` of them fit."""

    def __init__(
        self,
        layers: dict[int, LayerShape],
        layout: StateLayout,
        *,
        max_sequences: int,
        dtype: torch.dtype,
        device: torch.device,
        capacity_tokens: int,
    ) -> None:
        super().__init__(layers, dtype=dtype, device=device, capacity_tokens=capacity_tokens)
        self._layout = layout
        self._max_sequences = max_sequences
        self._num_sequences = 0

    @property
    def state_bytes(self) -> int:
        """What the states of running sequences take."""
        return self._num_sequences * self._layout.bytes_per_sequence

    def allocate(self, num_tokens: int) -> StateSlot | None:
        """Like `KVCache.allocate`; the slot has no states yet, which is what stands before the first token."""
        slot = super().allocate(num_tokens) if self._num_sequences < self._max_sequences else None
        if slot is None:
            return None
        self._num_sequences += 1
        return StateSlot(slot.slab, slot.row)

    def free(self, slot: KVSlot, *, wipe: bool = False) -> None:
        """Like `KVCache.free`; the states go with the slot."""
        self._num_sequences -= 1
        super().free(slot, wipe=wipe)


class _Layer(LinearAttentionAndFullAttentionLayer):  # type: ignore[no-untyped-call]
    """One layer of the model's cache during a forward: the states are here, keys and values are our attention's."""

    def __init__(self, number_of_states: int) -> None:
        super().__init__(number_of_states=number_of_states)
        self.num_tokens = 0

    def get_seq_length(self) -> int:
        """The tokens before this forward, of the longest sequence."""
        return self.num_tokens

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Not asked for by models that pass no mask."""
        return self.num_tokens + query_length, 0


class StepCache(Cache):
    """transformers' cache for one forward over sequences that have `num_tokens` tokens at most.

    `states` are worked on in place; without any the model makes its own. `is_fresh`: they are zeros, and the model
    may take its way for first tokens.
    """

    def __init__(
        self,
        outline: "CacheOutline",
        step: KVStep | LayerProbe,
        *,
        states: States | None = None,
        num_tokens: int = 0,
        is_fresh: bool = False,
    ) -> None:
        self._step = step
        layers: list[Any] = [_Layer(number) for number in outline.num_states]
        for layer in layers:
            layer.num_tokens = num_tokens
        for key, state in (states or {}).items():
            layer = layers[key.layer]
            getattr(layer, key.kind)[key.number] = state
            getattr(layer, f"is_{key.kind}_initialized")[key.number] = True
            layer.has_previous_state[key.number] = not is_fresh
            layer.device, layer.dtype = state.device, state.dtype
            if key.kind == "conv_states":
                layer.conv_kernel_size[key.number] = state.shape[-1]
        super().__init__(layers=layers)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """The new keys and values as they are; our attention stores them, under the layer that is named here."""
        self._step.layer = layer_idx
        return key_states, value_states

    def states(self) -> States:
        """What the forward has left behind."""
        found: States = {}
        for number, layer in enumerate(self.layers):
            for kind in ("conv_states", "recurrent_states"):
                for index, state in getattr(layer, kind).items():
                    if state is not None:
                        found[StateKey(number, kind, index)] = state
        return found


@dataclass(frozen=True, slots=True)
class CacheOutline:
    """What transformers' cache of a model looks like: the number of states of each layer, and who attends."""

    num_states: tuple[int, ...]
    num_attention_layers: int


def state_outline(model: PreTrainedModel) -> CacheOutline | None:
    """None for a model without states.

    Raises whatever transformers raises if it can make no cache from the model's config.
    """
    layers = DynamicCache(config=model.config).layers
    if not any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in layers):
        return None
    return CacheOutline(
        num_states=tuple(getattr(layer, "number_of_states", 1) for layer in layers),
        num_attention_layers=sum(isinstance(layer, CacheLayerMixin) for layer in layers),
    )


def gather(slots: list[StateSlot], positions: list[int], layout: StateLayout) -> States:
    """A copy of the sequences' states, `[len(slots), ...]`, each as it was before its token at `positions`.

    Raises GenerationError if one is gone.
    """
    sources: dict[int, tuple[States, list[int], list[int]]] = {}
    for place, (slot, position) in enumerate(zip(slots, positions, strict=True)):
        if position > 0:
            version = slot.version(position)
            _, rows, places = sources.setdefault(id(version.states), (version.states, [], []))
            rows.append(version.row)
            places.append(place)
    if len(sources) == 1:
        (states, rows, places) = next(iter(sources.values()))
        if len(rows) == len(slots):
            index = torch.tensor(rows, device=next(iter(states.values())).device)
            return {key: state.index_select(0, index) for key, state in states.items()}
    gathered = layout.zeros(len(slots))
    for states, rows, places in sources.values():
        for key, state in states.items():
            gathered[key][places] = state[rows]
    return gathered
