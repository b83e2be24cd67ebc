"""A batch in, one row of logits for each sampled sequence out."""

import inspect
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hugging_llama.engine.attention import STEP_KWARG, KVStep, LayerProbe, Span, decode_layout
from hugging_llama.engine.compute_lock import CPU_COMPUTE_LOCK
from hugging_llama.engine.kv_cache import KVSlot
from hugging_llama.engine.scheduler import Batch, ScheduledSequence


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive tokens of one sequence, the first at `position`; its keys and values go to `slot`."""

    slot: KVSlot
    position: int
    token_ids: list[int]


class ModelRunner:
    """Runs the model over flattened batches. The model's attention must be set to `ATTENTION_NAME`."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self.vocab_size = vocab_size(model)
        self._keeps_logits = accepts(model, "logits_to_keep")

    def run(self, batch: Batch) -> tuple[list[ScheduledSequence], Tensor]:
        """Computes the batch's tokens; their keys and values are in the cache afterwards.

        Returns the rows that sample now and their logits `[len(rows), vocab_size]` in the model's dtype. Running
        the same batch again is harmless. Raises whatever the model raises.
        """
        chunks: list[Chunk] = []
        sampled: list[ScheduledSequence] = []
        keep: list[int] = []
        num_tokens = 0
        for row in batch.rows:
            slot = row.sequence.kv_slot
            assert slot is not None
            chunks.append(Chunk(slot, row.sequence.num_computed_tokens, new_token_ids(row)))
            num_tokens += row.num_new_tokens
            if row.is_sampled:
                sampled.append(row)
                keep.append(num_tokens - 1)
        return sampled, self.compute(chunks, keep)

    def compute(self, chunks: list[Chunk], keep: list[int]) -> Tensor:
        """The logits `[len(keep), vocab_size]` at the flattened places `keep`.

        Chunks of one token come first, sorted by slab and row.
        """
        token_ids = list(chain.from_iterable(chunk.token_ids for chunk in chunks))
        positions: list[int] = []
        for chunk in chunks:
            positions += range(chunk.position, chunk.position + len(chunk.token_ids))
        with compute_guard(self.device), torch.inference_mode():
            return self._forward(token_ids, positions, self._layout(chunks), keep)

    def probe(self, num_tokens: int = 4) -> LayerProbe:
        """What the attention layers receive. Raises whatever a model raises that can't be run this way."""
        probe = LayerProbe()
        with compute_guard(self.device), torch.inference_mode():
            self._forward([0] * num_tokens, list(range(num_tokens)), probe, [num_tokens - 1])
        return probe

    def _layout(self, chunks: list[Chunk]) -> KVStep:
        n = next((i for i, chunk in enumerate(chunks) if len(chunk.token_ids) > 1), len(chunks))
        decode = chunks[:n]
        writes, spans = decode_layout([c.slot for c in decode], [c.position for c in decode], self.device)
        prefill = []
        start = n
        for chunk in chunks[n:]:
            stop = start + len(chunk.token_ids)
            prefill.append(Span(chunk.slot.slab, chunk.slot.row, start, stop, [chunk.position]))
            start = stop
        return KVStep(writes, spans, prefill)

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


def new_token_ids(row: ScheduledSequence) -> list[int]:
    """The tokens of a row, which may begin in the prompt and end in the output."""
    sequence = row.sequence
    first, num_prompt_tokens = sequence.num_computed_tokens, sequence.num_prompt_tokens
    stop = first + row.num_new_tokens
    if first >= num_prompt_tokens:
        return sequence.output_token_ids[first - num_prompt_tokens : stop - num_prompt_tokens]
    known = sequence.prompt_token_ids[first:stop]
    return known + sequence.output_token_ids[: max(stop - num_prompt_tokens, 0)]


def vocab_size(model: PreTrainedModel) -> int:
    """The width of a row of logits; 0 if the model has no language model head."""
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    return 0 if head is None else int(head.weight.shape[0])


def compute_guard(device: torch.device) -> AbstractContextManager[None]:
    """Held around every forward: on the CPU one at a time in the whole process, elsewhere the device queues."""
    return CPU_COMPUTE_LOCK if device.type == "cpu" else nullcontext()


def accepts(model: PreTrainedModel, name: str) -> bool:
    """True if the model's `forward` names this argument."""
    return name in inspect.signature(model.forward).parameters
