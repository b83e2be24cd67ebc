"""Logits to tokens: vectorised over the batch, each row by its own sequence's options.

Order: penalties and n-grams, grammar, temperature, top_k, typical_p, top_p, min_p. Penalties follow llama.cpp (a
window over prompt and output), top_k before top_p on tempered probabilities follows Ollama, typical_p transformers'
TypicalLogitsWarper (arXiv:2202.00666), min_p arXiv:2407.01082.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hugging_llama.engine.sequence import Sequence
from hugging_llama.errors import GenerationError, HuggingLlamaError
from hugging_llama.neutral.requests import SamplingParams

Sampled = int | HuggingLlamaError


@torch.inference_mode()
def sample(logits: Tensor, sequences: list[Sequence]) -> list[Sampled]:
    """The next token of each sequence, or the error that ends it.

    `logits` `[len(sequences), vocab_size]` in any float dtype; not changed. A row with NaN or infinity, or one
    whose grammar raises, fails alone.
    """
    if not sequences:
        return []
    # NaN wins every max, so one look at the maxima finds every bad row
    is_finite: list[bool] = torch.isfinite(logits.amax(dim=-1)).tolist()
    results: list[Sampled] = [GenerationError("the model computed no valid number")] * len(sequences)
    for kind, rows in _groups(sequences, is_finite).items():
        chosen = [sequences[i] for i in rows]
        # a gather of all rows would be a copy for nothing
        part = logits if len(rows) == len(sequences) else logits[rows]
        tokens = _adjusted_tokens(part, chosen) if kind.is_adjusted else _choose(part, chosen)
        for i, token in zip(rows, tokens, strict=True):
            results[i] = token
    return results


class _Kind(NamedTuple):
    """What rows that are sampled together have in common. With another row's `top_k` or dtype, ties at the border
    could fall differently, and a seeded answer would depend on its batch mates."""

    is_greedy: bool
    top_k: int
    is_adjusted: bool


def _groups(sequences: list[Sequence], is_finite: list[bool]) -> dict[_Kind, list[int]]:
    """The places of the rows that can be sampled, by kind."""
    groups: dict[_Kind, list[int]] = {}
    for i, sequence in enumerate(sequences):
        if is_finite[i]:
            params, state = sequence.sampling, sequence.sampling_state
            is_adjusted = sequence.grammar is not None or state.penalised is not None or state.ngrams is not None
            is_greedy = params.temperature <= 0
            kind = _Kind(is_greedy, 1 if is_greedy else params.top_k, is_adjusted)
            groups.setdefault(kind, []).append(i)
    return groups


def _adjusted_tokens(logits: Tensor, sequences: list[Sequence]) -> list[Sampled]:
    """Like `_choose`, after penalties, n-grams and grammars; these need more digits than a model's half precision."""
    rows = logits.to(torch.float32, copy=True)
    errors = adjust(rows, sequences)
    alive = [at for at in range(len(sequences)) if at not in errors]
    if not alive:
        return [errors[at] for at in range(len(sequences))]
    tokens = iter(_choose(rows[alive] if errors else rows, [sequences[at] for at in alive]))
    return [errors[at] if at in errors else next(tokens) for at in range(len(sequences))]


def adjust(rows: Tensor, sequences: list[Sequence]) -> dict[int, HuggingLlamaError]:
    """Penalties, n-grams and grammars on float32 `rows` `[len(sequences), vocab_size]`, in place.

    Returns the errors of the rows that failed, by row.
    """
    _penalise(rows, sequences)
    errors: dict[int, HuggingLlamaError] = {}
    for at, sequence in enumerate(sequences):
        try:
            if sequence.sampling_state.ngrams is not None:
                rows[at, sequence.sampling_state.ngrams.banned()] = -torch.inf
            if sequence.grammar is not None:
                sequence.grammar.apply(rows[at])
        except HuggingLlamaError as error:
            errors[at] = error
        except Exception as error:
            errors[at] = GenerationError(f"sampling failed: {error}")
    return errors


def _penalise(rows: Tensor, sequences: list[Sequence]) -> None:
    """All rows at once: a step of many sequences would otherwise be a thousand tiny operations."""
    places, ids, penalties, offsets = [], [], [], []
    for at, sequence in enumerate(sequences):
        if sequence.sampling_state.penalised is not None:
            params = sequence.sampling
            found, counts = sequence.sampling_state.penalised.arrays()
            places.append(np.full(len(found), at))
            ids.append(found)
            penalties.append(np.full(len(found), params.repetition_penalty, dtype=np.float32))
            offsets.append(counts * np.float32(params.frequency_penalty) + np.float32(params.presence_penalty))
    if not places:
        return
    where = _joined(places, rows), _joined(ids, rows)
    values, penalty = rows[where], _joined(penalties, rows)
    rows[where] = torch.where(values > 0, values / penalty, values * penalty) - _joined(offsets, rows)


def _joined(parts: list[NDArray[Any]], like: Tensor) -> Tensor:
    return torch.from_numpy(np.concatenate(parts)).to(like.device)


def _choose(rows: Tensor, sequences: list[Sequence]) -> list[Sampled]:
    """One token for each row of logits; the sequences' top_k are equal, or all are greedy."""
    params = [sequence.sampling for sequence in sequences]
    if params[0].temperature <= 0:
        best, best_ids = rows.max(dim=-1)
        return _valid(best_ids.tolist(), torch.isfinite(best).tolist())
    scores, ids = _candidates(rows, params)
    # the best is subtracted first, so that a tiny temperature does not overflow
    best = scores.amax(dim=-1, keepdim=True)
    is_valid: list[bool] = torch.isfinite(best[:, 0]).tolist()
    tempered = (scores - best) / _column([p.temperature for p in params], rows)
    probs = filter_probs(torch.softmax(tempered, dim=-1), params)
    draws = _column([sequence.sampling_state.draw() for sequence in sequences], rows)
    places = pick(probs, draws)
    tokens = places if ids is None else ids.gather(1, places)
    return _valid(tokens[:, 0].tolist(), is_valid)


def _valid(tokens: list[int], is_valid: list[bool]) -> list[Sampled]:
    error = "no token is left to choose from, or a logit is not a number"
    return [token if valid else GenerationError(error) for token, valid in zip(tokens, is_valid, strict=True)]


def _candidates(rows: Tensor, params: list[SamplingParams]) -> tuple[Tensor, Tensor | None]:
    """The float32 scores that may be chosen, best first, and their token ids; ids None: the whole row as it is."""
    top_k = params[0].top_k
    if 0 < top_k < rows.shape[1]:
        scores, ids = torch.topk(rows, top_k, dim=-1)
    elif all(p.top_p >= 1 for p in params):
        return rows.float(), None
    else:
        scores, ids = torch.sort(rows, dim=-1, descending=True)
    return scores.float(), ids


def filter_probs(probs: Tensor, params: list[SamplingParams]) -> Tensor:
    """typical_p, top_p and min_p on `probs` `[n, candidates]`, which sum to 1; what is cut becomes 0.

    Candidates come best first, unless no row uses top_p. At least one candidate of each row stays.
    """
    if any(p.typical_p < 1 for p in params):
        probs = _filter_typical(probs, _column([p.typical_p for p in params], probs))
    if any(p.top_p < 1 for p in params):
        before = probs.cumsum(dim=-1) - probs
        kept = before < _column([p.top_p if p.top_p < 1 else 2.0 for p in params], probs)
        kept[:, 0] |= ~kept.any(dim=-1)
        probs = _normalised(torch.where(kept, probs, 0.0))
    if any(p.min_p > 0 for p in params):
        floor = probs.amax(dim=-1, keepdim=True) * _column([min(p.min_p, 1.0) for p in params], probs)
        probs = torch.where(probs >= floor, probs, 0.0)
    return probs


def _filter_typical(probs: Tensor, mass: Tensor) -> Tensor:
    """Keeps the tokens whose surprise is nearest to the expected one until they hold `mass` `[n, 1]`."""
    surprise = -torch.log(probs)
    entropy = torch.nansum(surprise * probs, dim=-1, keepdim=True)
    distance = (surprise - entropy).abs()
    nearest, order = torch.sort(distance, dim=-1)
    held = probs.gather(1, order).cumsum(dim=-1)
    last = (held < mass).sum(dim=-1, keepdim=True).clamp(max=probs.shape[1] - 1)
    kept = (distance <= nearest.gather(1, last)) | (mass >= 1)
    return _normalised(torch.where(kept, probs, 0.0))


def _normalised(probs: Tensor) -> Tensor:
    return probs / probs.sum(dim=-1, keepdim=True)


def pick(probs: Tensor, draws: Tensor) -> Tensor:
    """The places `[n, 1]` where the running sums of `probs` `[n, candidates]` pass `draws` `[n, 1]` in [0, 1)."""
    sums = probs.cumsum(dim=-1)
    # strictly below and against the real total: a place of probability 0 is never picked, rounding or not
    total = sums[:, -1:]
    places = torch.searchsorted(sums, (draws * total).clamp(min=torch.finfo(probs.dtype).tiny))
    return places.clamp(max=probs.shape[1] - 1)


def _column(values: list[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None]
