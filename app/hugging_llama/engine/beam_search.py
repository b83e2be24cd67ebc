"""Beam search: transformers chooses among several continuations, our options shape what it chooses from."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from hugging_llama.engine.sampling import adjust
from hugging_llama.engine.sequence import Sequence
from hugging_llama.errors import InvalidRequestError


def beam_options(sequence: Sequence) -> dict[str, Any]:
    """What transformers' GenerationConfig is told of a beam search; empty for a sequence that wants none."""
    params = sequence.sampling
    if params.num_beams <= 1:
        return {}
    return {
        "num_beams": params.num_beams,
        "length_penalty": params.length_penalty,
        "early_stopping": params.early_stopping,
        "eos_token_id": sorted(sequence.eos_token_ids) or None,
    }


def check_beams(sequence: Sequence) -> None:
    """Raises InvalidRequestError for what can't be kept in several continuations at once."""
    if sequence.sampling.num_beams > 1 and sequence.grammar is not None:
        raise InvalidRequestError("num_beams can't be combined with format", param="num_beams")


class BeamLogits(LogitsProcessor):
    """Penalties, biases and forbidden tokens, for each beam by its own tokens."""

    def __init__(self, sequence: Sequence, before_token: Callable[[Sequence], None]) -> None:
        self._sequence = sequence
        self._before_token = before_token

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`input_ids` `[beams, tokens]` so far, `scores` `[beams, vocab_size]`, log-probabilities."""
        self._before_token(self._sequence)
        first = self._sequence.num_prompt_tokens
        rows = scores.to(torch.float32, copy=True)
        adjust(rows, [_branch(self._sequence, ids[first:]) for ids in input_ids.tolist()])
        return rows.to(scores.dtype)


def _branch(sequence: Sequence, output_token_ids: list[int]) -> Sequence:
    """The sequence as if it had said this; the sequence itself learns its tokens at the end."""
    branch = copy.copy(sequence)
    branch.sampling_state = copy.deepcopy(sequence.sampling_state)
    for token_id in output_token_ids:
        branch.sampling_state.accept(token_id)
    return branch
