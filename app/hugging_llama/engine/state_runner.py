"""The runner of models with recurrent layers: sequences lie beside each other, each with the states it has so far.

The flattened input of the other models would let a state run from one sequence into the next. So all sequences that
decode are the rows of one forward `[B, 1]`, and each prompt chunk is a forward `[1, n]` of its own. The attention
layers that such models also have see the same as ever: a row of one query is a decode token.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hugging_llama.engine.attention import STEP_KWARG, LayerProbe, UnsupportedAttentionError
from hugging_llama.engine.kv_cache import capacity_from_memory, default_budget_bytes
from hugging_llama.engine.kv_step import KVStep
from hugging_llama.engine.logit_difference import worst_and_most
from hugging_llama.engine.model_runner import Chunk, ModelRunner, accepts, compute_guard
from hugging_llama.engine.state_cache import (
    CacheOutline,
    StateKVCache,
    StateLayout,
    StateSlot,
    StepCache,
    gather,
    state_outline,
)
from hugging_llama.errors import InsufficientMemoryError

_PROBE_IDS = [1, 3, 2, 5, 4, 3, 1, 2]
# of the logits' spread: far more than half precision makes of it, far less than forgetting half of the tokens
_SAME_LOGITS = 0.1
# tokens of a sequence that has no keys and values
_BOUNDLESS_TOKENS = 2**20


class StateModelRunner(ModelRunner):
    """Runs the model over rows of sequences and their states. Makes a short forward to learn what the states are.

    Raises whatever a model raises that can't be run this way.
    """

    can_rewind = False

    def __init__(self, model: PreTrainedModel, outline: CacheOutline) -> None:
        super().__init__(model)
        self._outline = outline
        self._cache_argument = cache_argument(model)
        self._takes_positions = accepts(model, "position_ids")
        self._layer_probe = LayerProbe()
        with compute_guard(self.device), torch.inference_mode():
            cache = StepCache(outline, self._layer_probe)
            whole = self._forward_rows([_PROBE_IDS], [0], self._layer_probe, cache, [len(_PROBE_IDS) - 1])
            self.layout = StateLayout({key: torch.zeros_like(state) for key, state in cache.states().items()})
            if not self.layout.rows:
                raise UnsupportedAttentionError("it keeps its states elsewhere than in transformers' cache")
            self.whole_prompts = not self._continues(whole[0, 0])

    @property
    def num_attention_layers(self) -> int:
        """How many layers attend and keep keys and values."""
        return self._outline.num_attention_layers

    def new_cache(self, *, capacity_tokens: int, max_sequences: int) -> StateKVCache:
        """An empty cache for keys, values and states."""
        return StateKVCache(
            self._layer_probe.shapes,
            self.layout,
            max_sequences=max_sequences,
            dtype=self.dtype,
            device=self.device,
            capacity_tokens=capacity_tokens,
        )

    def new_cache_from_memory(self, *, budget_bytes: int, max_sequences: int, most_tokens: int) -> StateKVCache:
        """Like `ModelRunner.new_cache_from_memory`, with states for as many sequences as half of the memory holds.

        Without attention layers nothing limits their tokens.
        """
        need = self.layout.bytes_per_sequence
        budget = budget_bytes or default_budget_bytes(self.device)
        for_states = budget // 2 if self.num_attention_layers else budget
        if for_states < need:
            raise InsufficientMemoryError("no memory for the model's states", need_bytes=need, free_bytes=for_states)
        max_sequences = min(max_sequences, for_states // need)
        if not self.num_attention_layers:
            return self.new_cache(capacity_tokens=max_sequences * _BOUNDLESS_TOKENS, max_sequences=max_sequences)
        capacity = capacity_from_memory(
            self._layer_probe.shapes,
            dtype=self.dtype,
            device=self.device,
            budget_bytes=budget - max_sequences * need,
            most_tokens=most_tokens,
        )
        return self.new_cache(capacity_tokens=capacity, max_sequences=max_sequences)

    def probe(self, num_tokens: int = 4) -> LayerProbe:
        """What the attention layers receive."""
        return self._layer_probe

    def _continues(self, expected: Tensor) -> bool:
        """True if prompts may come in chunks: some layers start anew with every forward of more than one token."""
        middle = len(_PROBE_IDS) // 2
        step = LayerProbe()
        cache = StepCache(self._outline, step, states=self.layout.zeros(1), is_fresh=True)
        self._forward_rows([_PROBE_IDS[:middle]], [0], step, cache, [0])
        cache = StepCache(self._outline, step, states=cache.states(), num_tokens=middle)
        logits = self._forward_rows([_PROBE_IDS[middle:]], [middle], step, cache, [middle - 1])[0, 0]
        worst, _ = worst_and_most(logits[None], expected[None])
        return worst < _SAME_LOGITS

    def _compute_alike(self, chunks: list[Chunk]) -> Tensor:
        groups = _groups(chunks)
        parts: list[Tensor] = [torch.empty(0)] * len(chunks)
        for group in groups:
            logits = self._compute_rows([chunks[i] for i in group])
            if len(groups) == 1:
                return logits
            pieces = torch.split(logits, [chunks[i].num_logits for i in group])
            for i, piece in zip(group, pieces, strict=True):
                parts[i] = piece
        return torch.cat(parts)

    def _compute_rows(self, chunks: list[Chunk]) -> Tensor:
        """Chunks of one token each, or one chunk; returns `[sum of num_logits, vocab_size]`."""
        slots = [chunk.slot for chunk in chunks if isinstance(chunk.slot, StateSlot)]
        positions = [chunk.position for chunk in chunks]
        num_tokens = len(chunks[0].token_ids)
        step = self._layout(chunks)
        cache = StepCache(
            self._outline,
            step,
            states=gather(slots, positions, self.layout),
            num_tokens=max(positions),
            is_fresh=positions[0] == 0,
        )
        # a model may not take zero rows
        num_kept = max(*(chunk.num_logits for chunk in chunks), 1)
        with self._adapted(chunks, num_kept) or nullcontext():
            logits = self._forward_rows(
                [chunk.token_ids for chunk in chunks],
                positions,
                step,
                cache,
                list(range(num_tokens - num_kept, num_tokens)),
            )
        states = cache.states()
        for row, (slot, position) in enumerate(zip(slots, positions, strict=True)):
            slot.remember(states, row, position, position + num_tokens)
        rows = [row for row, chunk in enumerate(chunks) if chunk.num_logits]
        return (logits if len(rows) == len(chunks) else logits[rows]).flatten(0, 1)

    def _forward_rows(
        self,
        token_ids: list[list[int]],
        first_positions: list[int],
        step: KVStep | LayerProbe,
        cache: StepCache,
        keep: list[int],
    ) -> Tensor:
        """Logits `[rows, len(keep), vocab_size]`; every row has the same number of tokens."""
        arguments: dict[str, Any] = {self._cache_argument: cache}
        index = torch.tensor(keep, device=self.device)
        if self._takes_positions:
            first = torch.tensor(first_positions, device=self.device)
            arguments["position_ids"] = first[:, None] + torch.arange(len(token_ids[0]), device=self.device)
        if self.num_attention_layers:
            arguments[STEP_KWARG] = step
        if self._keeps_logits:
            arguments["logits_to_keep"] = index
        output = self._model(
            input_ids=torch.tensor(token_ids, device=self.device), use_cache=True, return_dict=True, **arguments
        )
        logits: Tensor = output.logits
        return logits if self._keeps_logits else logits[:, index]


def _groups(chunks: list[Chunk]) -> list[list[int]]:
    """The places of the chunks that share a forward: all decode tokens do, prompts start and go on alone."""
    decode = [i for i, chunk in enumerate(chunks) if len(chunk.token_ids) == 1 and chunk.position > 0]
    rest = sorted(set(range(len(chunks))) - set(decode))
    return ([decode] if decode else []) + [[i] for i in rest]


def make_model_runner(model: PreTrainedModel) -> ModelRunner:
    """The one that suits the model's cache. Raises whatever a model raises that can't be run this way."""
    outline = state_outline(model)
    return ModelRunner(model) if outline is None else StateModelRunner(model, outline)


def cache_argument(model: PreTrainedModel) -> str:
    """What the model's `forward` calls its cache."""
    return "cache_params" if accepts(model, "cache_params") else "past_key_values"
