"""A batch in, one row of logits for each sampled sequence out."""

import inspect
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hugging_llama.engine.attention import STEP_KWARG, LayerProbe
from hugging_llama.engine.batch import Batch, ScheduledSequence
from hugging_llama.engine.compute_lock import COMPUTE_LOCK, MPS_LOCK, ComputeLock
from hugging_llama.engine.cuda_graphs import DecodeGraphs
from hugging_llama.engine.device_step import DeviceStep
from hugging_llama.engine.flash_attention import find_flash_attention
from hugging_llama.engine.kv_cache import KVCache, KVSlot, capacity_from_memory
from hugging_llama.engine.kv_step import KVStep, PromptChunk, decode_groups
from hugging_llama.engine.layer_hooks import layers_of
from hugging_llama.engine.lora.adapter import LoraAdapter
from hugging_llama.engine.lora.rows import adapted_rows
from hugging_llama.engine.native.library import FORMATS
from hugging_llama.engine.native.probe import Family, native_families


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive tokens of one sequence, the first at `position`; its keys and values go to `slot`.

    Logits are made for its last `num_logits` tokens. `is_long`: see `ModelRunner.rope_switch`. `adapter` changes the
    model for these tokens alone.
    """

    slot: KVSlot
    position: int
    token_ids: list[int]
    num_logits: int
    is_long: bool = False
    adapter: LoraAdapter | None = None


class ModelRunner:
    """Runs the model over flattened batches. The model's attention must be set to `ATTENTION_NAME`.

    `rope_switch`: models with longrope positions rotate by other frequencies once a sequence has more tokens than
    this, and transformers decides it for a whole forward. Then short and long sequences run apart, and a sequence
    that crosses the line has to be computed anew, as in transformers' `generate`. None for all other models.

    `can_rewind`: a sequence may be cut back to an earlier token and go on from there, or share the beginning of
    another one. `whole_prompts`: the first tokens of a sequence have to be computed in one piece.
    """

    can_rewind = True
    whole_prompts = False

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self.vocab_size = vocab_size(model)
        self.max_positions = max_positions(model)
        self.rope_switch = rope_switch(model)
        self._is_native = self.device.type == "cpu" and self.dtype in FORMATS and Family.ATTENTION in native_families()
        self._flash = find_flash_attention(self.device, self.dtype)
        self._graphs: DecodeGraphs | None = None
        self._keeps_logits = accepts(model, "logits_to_keep")

    @property
    def layers(self) -> list[torch.nn.Module]:
        """What a forward runs one after the other."""
        return layers_of(self._model)

    def use_graphs(self) -> None:
        """From now on decode steps that come again are captured as CUDA graphs, on a CUDA device."""
        # longrope looks at the positions to choose its frequencies, so its model runs differ
        if self.device.type == "cuda" and self.can_rewind and self.rope_switch is None:
            self._graphs = DecodeGraphs(self._forward_device_step, self._flash, self.device)

    def drop_graphs(self) -> bool:
        """Frees what CUDA graphs take; those that come again are captured again. False if there are none."""
        return self._graphs is not None and self._graphs.drop()

    def run(self, batch: Batch) -> tuple[list[ScheduledSequence], Tensor]:
        """Computes the batch's tokens; their keys and values are in the cache afterwards.

        Returns the rows that sample now and their logits `[sum of num_logits, vocab_size]` in the model's dtype.
        Running the same batch again is harmless. Raises whatever the model raises.
        """
        chunks: list[Chunk] = []
        for row in batch.rows:
            sequence = row.sequence
            first = sequence.num_computed_tokens
            assert sequence.kv_slot is not None
            chunks.append(
                Chunk(
                    sequence.kv_slot,
                    first,
                    sequence.token_ids[first : first + row.num_new_tokens] + row.draft,
                    num_logits=row.num_logits,
                    is_long=self.is_long(sequence.num_tokens),
                    adapter=sequence.adapter,
                )
            )
        return [row for row in batch.rows if row.is_sampled], self.compute(chunks)

    def is_long(self, num_tokens: int) -> bool:
        """True if a sequence of so many tokens lies beyond `rope_switch`."""
        return self.rope_switch is not None and num_tokens > self.rope_switch

    def compute(self, chunks: list[Chunk]) -> Tensor:
        """The logits `[sum of num_logits, vocab_size]` in the order of the chunks.

        Chunks of one token come first, sorted by slab and row.
        """
        with compute_guard(self.device), torch.inference_mode():
            short = [chunk for chunk in chunks if not chunk.is_long]
            if len(short) in (0, len(chunks)):
                return self._compute_alike(chunks)
            long = [chunk for chunk in chunks if chunk.is_long]
            logits = torch.cat((self._compute_alike(short), self._compute_alike(long)))
        order = sorted(range(len(chunks)), key=lambda i: chunks[i].is_long)
        places = list(chain.from_iterable([i] * chunks[i].num_logits for i in order))
        return logits[sorted(range(len(places)), key=places.__getitem__)]

    @property
    def num_attention_layers(self) -> int:
        """How many layers attend and keep keys and values."""
        return int(self._model.config.get_text_config().num_hidden_layers)

    def new_cache(self, *, capacity_tokens: int, max_sequences: int) -> KVCache:
        """An empty cache for what this model keeps of its sequences."""
        return KVCache(self.probe().shapes, dtype=self.dtype, device=self.device, capacity_tokens=capacity_tokens)

    def new_cache_from_memory(self, *, budget_bytes: int, max_sequences: int, most_tokens: int) -> KVCache:
        """An empty cache as large as `capacity_from_memory` says.

        Raises InsufficientMemoryError if nothing fits.
        """
        capacity = capacity_from_memory(
            self.probe().shapes,
            dtype=self.dtype,
            device=self.device,
            budget_bytes=budget_bytes,
            most_tokens=most_tokens,
        )
        return self.new_cache(capacity_tokens=capacity, max_sequences=max_sequences)

    def probe(self, num_tokens: int = 4) -> LayerProbe:
        """What the attention layers receive. Raises whatever a model raises that can't be run this way."""
        probe = LayerProbe()
        with compute_guard(self.device), torch.inference_mode():
            self._forward([0] * num_tokens, list(range(num_tokens)), probe, [num_tokens - 1])
        return probe

    def _compute_alike(self, chunks: list[Chunk]) -> Tensor:
        token_ids: list[int] = []
        positions: list[int] = []
        keep: list[int] = []
        for chunk in chunks:
            token_ids += chunk.token_ids
            positions += range(chunk.position, chunk.position + len(chunk.token_ids))
            keep += range(len(token_ids) - chunk.num_logits, len(token_ids))
        step, adapted = self._layout(chunks), self._adapted(chunks)
        if chunks[0].is_long and self.rope_switch is not None and max(positions) < self.rope_switch:
            # the first chunks of a long prompt: a token that belongs to nobody shows the model how far it goes
            token_ids.append(0)
            positions.append(self.rope_switch)
            step.num_padding = 1
        if adapted is not None:
            with adapted:
                return self._forward(token_ids, positions, step, keep)
        if self._graphs is None or len(keep) != len(chunks) or len(keep) != len(token_ids):
            return self._forward(token_ids, positions, step, keep)
        return self._graphs.run(step, token_ids, lambda: self._forward(token_ids, positions, step, keep))

    def _adapted(self, chunks: list[Chunk], num_kept: int | None = None) -> AbstractContextManager[None] | None:
        """Within it the rows of chunks with adapters are changed; None if none has one.

        The output head gets `num_kept` rows of each chunk, None for as many as it has logits.
        """
        if all(chunk.adapter is None for chunk in chunks):
            return None
        num_tokens = [len(chunk.token_ids) for chunk in chunks]
        kept = [chunk.num_logits if num_kept is None else num_kept for chunk in chunks]
        return adapted_rows(
            [chunk.adapter for chunk in chunks], num_tokens, kept if self._keeps_logits else num_tokens, self.device
        )

    def _layout(self, chunks: list[Chunk]) -> KVStep:
        n = next((i for i, chunk in enumerate(chunks) if len(chunk.token_ids) > 1), len(chunks))
        decode = decode_groups([chunk.slot for chunk in chunks[:n]], [chunk.position for chunk in chunks[:n]])
        prompts = []
        start = n
        for chunk in chunks[n:]:
            stop = start + len(chunk.token_ids)
            prompts.append(PromptChunk(chunk.slot.slab, chunk.slot.row, chunk.position, start, stop))
            start = stop
        return KVStep(decode, prompts, self._is_native, flash=self._flash)

    def _forward(
        self, token_ids: list[int], positions: list[int], step: KVStep | LayerProbe, keep: list[int]
    ) -> Tensor:
        # a model may not take zero rows; when only a part of a prompt is computed, one is made and thrown away
        index = torch.tensor(keep or [0], device=self.device)
        arguments: dict[str, Any] = {STEP_KWARG: step}
        if self._keeps_logits:
            arguments["logits_to_keep"] = index
        output = self._model(
            input_ids=torch.tensor([token_ids], device=self.device),
            position_ids=torch.tensor([positions], device=self.device),
            use_cache=False,
            return_dict=True,
            **arguments,
        )
        logits: Tensor = output.logits[0]
        if not self._keeps_logits:
            logits = logits[index]
        return logits[: len(keep)]

    def _forward_device_step(self, token_ids: Tensor, positions: Tensor, step: DeviceStep) -> Tensor:
        """The logits `[T, vocab_size]` of `token_ids`, `positions` `[T]`."""
        output = self._model(
            input_ids=token_ids[None],
            position_ids=positions[None],
            use_cache=False,
            return_dict=True,
            **{STEP_KWARG: step},
        )
        logits: Tensor = output.logits[0]
        return logits


def vocab_size(model: PreTrainedModel) -> int:
    """The width of a row of logits; 0 if the model has no language model head."""
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    # packed heads have no weight, other classes than Linear no out_features
    return 0 if head is None else int(getattr(head, "out_features", 0) or head.weight.shape[0])


def max_positions(model: PreTrainedModel) -> int | None:
    """How many tokens the model's positions reach, None if that has no end."""
    found: Any = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def rope_switch(model: PreTrainedModel) -> int | None:
    """The length beyond which longrope uses its other frequencies, None for other kinds of positions."""
    parameters: Any = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    if parameters.get("rope_type") != "longrope":
        return None
    return int(parameters["original_max_position_embeddings"])


def compute_guard(device: torch.device) -> "ComputeLock | nullcontext[None]":
    """Held around every forward: those of the process take turns, except on CUDA, where the device queues."""
    if device.type == "cuda":
        return nullcontext()
    return MPS_LOCK if device.type == "mps" else COMPUTE_LOCK


def accepts(model: PreTrainedModel, name: str) -> bool:
    """True if the model's `forward` names this argument."""
    return name in inspect.signature(model.forward).parameters
