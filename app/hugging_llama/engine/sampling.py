"""Logits to tokens: vectorised over the batch, each row by its own sequence's options.

Order: logit bias, penalties, forbidden tokens, grammar, temperature, top_k, then the `probability_filters`. Bias and
penalties follow llama.cpp (a window over prompt and output), top_k before top_p on tempered probabilities follows
Ollama. Greedy is a top_k of 1. Of equal logits the lower token id is the better one.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hugging_llama.engine.grammars.bits import all_bits, masked
from hugging_llama.engine.logprobs import note_logprobs
from hugging_llama.engine.sequence import Sequence, TokenMask
from hugging_llama.engine.token_choice import NO_TOKEN, choose_tokens
from hugging_llama.errors import GenerationError, HuggingLlamaError, InvalidLogitsError, InvalidRequestError

Sampled = int | HuggingLlamaError

_MOST_TRIES = 16
"""Each takes a few masks, for which the other sequences wait."""


@torch.inference_mode()
def sample(logits: Tensor, sequences: list[Sequence]) -> list[Sampled]:
    """The next token of each sequence, or the error that ends it.

    `logits` `[len(sequences), vocab_size]` in any float dtype; not changed. A row with NaN or infinity, or one
    whose grammar raises, fails alone.
    """
    if not sequences:
        return []
    rows: Tensor = logits
    errors: dict[int, HuggingLlamaError] = {}
    if any(sequence.sampling_state.adjusts for sequence in sequences):
        # penalties need more digits than a model's half precision
        rows = logits.to(torch.float32, copy=True)
        adjust(rows, sequences)
    if any(sequence.grammar is not None for sequence in sequences):
        rows, errors = constrain(rows, sequences)
    draws = [s.sampling_state.draw() if s.sampling.temperature > 0 else 0.0 for s in sequences]
    tokens = choose_tokens(rows, [sequence.sampling for sequence in sequences], draws)
    for at, sequence in enumerate(sequences):
        if sequence.grammar is not None and sequence.sampling_state.forbids and at not in errors:
            tokens[at] = _choose_way(rows[at : at + 1], sequence, sequence.grammar, tokens[at], draws[at])
    results: list[Sampled] = [
        errors[at] if at in errors else _no_token_error(logits[at], sequences[at]) if token == NO_TOKEN else token
        for at, token in enumerate(tokens)
    ]
    note_logprobs(logits, sequences, [result if isinstance(result, int) else None for result in results])
    return results


def _choose_way(row: Tensor, sequence: Sequence, grammar: TokenMask, token: int, draw: float) -> int:
    """`token`, or another one if it leads to where grammar and forbidden tokens leave nothing. `row` `[1, vocab_size]`
    loses those that do."""
    for _ in range(_MOST_TRIES):
        if token == NO_TOKEN or token in sequence.eos_token_ids:
            break
        if grammar.leads_on(token, sequence.sampling_state.forbidden_after):
            break
        row[0, token] = -torch.inf
        (token,) = choose_tokens(row, [sequence.sampling], [draw])
    return token


def _no_token_error(row: Tensor, sequence: Sequence) -> HuggingLlamaError:
    """Why no token could be chosen; `row` `[vocab_size]` as the model computed it."""
    best = row.max()  # NaN if there is one
    if not torch.isfinite(best):
        return InvalidLogitsError("the model computed logits that are not numbers")
    names = _forbidding(sequence)
    if not names:
        return GenerationError("no token is left to choose from")
    what = "all tokens" if sequence.grammar is None else "all tokens with which the answer's format could go on"
    return InvalidRequestError(
        f"{' and '.join(names)} {'forbids' if len(names) == 1 else 'forbid'} {what}", param=names[0]
    )


def _forbidding(sequence: Sequence) -> list[str]:
    """The options by which some token may be forbidden now."""
    params = sequence.sampling
    is_early = len(sequence.output_token_ids) < params.min_tokens
    options = {
        "bad_words": params.bad_words,
        "suppress_tokens": params.suppress_tokens,
        "begin_suppress_tokens": params.begin_suppress_tokens and not sequence.output_token_ids,
        "min_new_tokens": is_early,
        "no_repeat_ngram_size": params.no_repeat_ngram_size,
    }
    return [name for name, is_on in options.items() if is_on]


def adjust(rows: Tensor, sequences: list[Sequence]) -> None:
    """Biases, penalties and forbidden tokens on float32 `rows` `[len(sequences), vocab_size]`, in place."""
    _add_biases(rows, sequences)
    _penalise(rows, sequences)
    _forbid(rows, sequences)


def constrain(rows: Tensor, sequences: list[Sequence]) -> tuple[Tensor, dict[int, HuggingLlamaError]]:
    """Rows with minus infinity for what grammars don't allow, and the errors of rows that failed.

    The rows are new ones, in float32, unless everything is allowed.
    """
    bits = all_bits(len(sequences), rows.shape[1])
    errors: dict[int, HuggingLlamaError] = {}
    is_bound = False
    for at, sequence in enumerate(sequences):
        if sequence.grammar is None:
            continue
        try:
            is_bound |= sequence.grammar.fill(bits[at])
        except HuggingLlamaError as error:
            errors[at] = error
        except Exception as error:
            errors[at] = GenerationError(f"sampling failed: {error}")
    return masked(rows, bits) if is_bound else rows, errors


def _add_biases(rows: Tensor, sequences: list[Sequence]) -> None:
    biased = [(at, bias) for at, sequence in enumerate(sequences) if (bias := sequence.sampling_state.bias) is not None]
    if biased:
        places = [np.full(len(bias.added), at) for at, bias in biased]
        where = _joined(places, rows), _joined([bias.added_ids for _, bias in biased], rows)
        rows[where] += _joined([bias.added for _, bias in biased], rows)


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


def _forbid(rows: Tensor, sequences: list[Sequence]) -> None:
    banned = [(at, token_id) for at, sequence in enumerate(sequences) for token_id in sequence.sampling_state.banned()]
    if banned:
        places, ids = zip(*banned, strict=True)
        rows[list(places), list(ids)] = -torch.inf


def _joined(parts: list[NDArray[Any]], like: Tensor) -> Tensor:
    return torch.from_numpy(np.concatenate(parts)).to(like.device)
