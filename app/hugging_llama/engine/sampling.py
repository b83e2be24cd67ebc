"""Logits to tokens: vectorised over the batch, each row by its own sequence's options.

Order: penalties and n-grams, grammar, temperature, top_k, typical_p, top_p, min_p. Penalties follow llama.cpp (a
window over prompt and output), top_k before top_p on tempered probabilities follows Ollama, typical_p transformers'
TypicalLogitsWarper (arXiv:2202.00666), min_p arXiv:2407.01082.
"""

from collections.abc import Iterable

import torch
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
    best, best_ids = logits.max(dim=-1)
    # NaN wins every max, so one look at the maxima finds every bad row
    is_finite: list[bool] = torch.isfinite(best).tolist()
    greedy: list[int] = best_ids.tolist()
    results: list[Sampled] = []
    rows: list[int] = []
    for i, sequence in enumerate(sequences):
        results.append(greedy[i] if is_finite[i] else GenerationError("the model computed no valid number"))
        if is_finite[i] and not _is_plain_greedy(sequence):
            rows.append(i)
    for group in _groups(rows, sequences):
        _sample_group(logits, group, sequences, results)
    return results


def _is_plain_greedy(sequence: Sequence) -> bool:
    state = sequence.sampling_state
    return (
        sequence.sampling.temperature <= 0
        and sequence.grammar is None
        and state.penalised is None
        and state.ngrams is None
    )


def _groups(rows: list[int], sequences: list[Sequence]) -> Iterable[list[int]]:
    """Rows with equal top_k together: with another row's k, ties at the border could fall differently."""
    groups: dict[int, list[int]] = {}
    for i in rows:
        params = sequences[i].sampling
        groups.setdefault(1 if params.temperature <= 0 else params.top_k, []).append(i)
    return groups.values()


def _sample_group(logits: Tensor, group: list[int], sequences: list[Sequence], results: list[Sampled]) -> None:
    rows = logits[group].float()
    alive: list[int] = []
    for at, i in enumerate(group):
        try:
            adjust_row(rows[at], sequences[i])
            alive.append(at)
        except HuggingLlamaError as error:
            results[i] = error
        except Exception as error:
            results[i] = GenerationError(f"sampling failed: {error}")
    if not alive:
        return
    if len(alive) < len(group):
        rows = rows[alive]
    chosen = [sequences[group[at]] for at in alive]
    tokens = _choose(rows, chosen)
    for at, token in zip(alive, tokens, strict=True):
        results[group[at]] = token


def adjust_row(row: Tensor, sequence: Sequence) -> None:
    """Penalties, n-grams and grammar on one float32 row `[vocab_size]`, in place."""
    state = sequence.sampling_state
    if state.penalised is not None:
        ids, counts = state.penalised.arrays()
        device = row.device
        _penalise(row, torch.from_numpy(ids).to(device), torch.from_numpy(counts).to(device), sequence.sampling)
    if state.ngrams is not None:
        banned = state.ngrams.banned()
        if banned:
            row[banned] = -torch.inf
    if sequence.grammar is not None:
        sequence.grammar.apply(row)


def _penalise(row: Tensor, ids: Tensor, counts: Tensor, params: SamplingParams) -> None:
    values = row[ids]
    if params.repetition_penalty != 1.0:
        penalty = params.repetition_penalty
        values = torch.where(values > 0, values / penalty, values * penalty)
    row[ids] = values - counts * params.frequency_penalty - params.presence_penalty


def _choose(rows: Tensor, sequences: list[Sequence]) -> list[Sampled]:
    """One token for each float32 row; the sequences' top_k are equal, or all are greedy."""
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
    """The scores that may be chosen, best first, and their token ids; ids None: the whole row in its own order."""
    top_k = params[0].top_k
    if 0 < top_k < rows.shape[1]:
        scores, ids = torch.topk(rows, top_k, dim=-1)
        return scores, ids
    if all(p.top_p >= 1 for p in params):
        return rows, None
    scores, ids = torch.sort(rows, dim=-1, descending=True)
    return scores, ids


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
