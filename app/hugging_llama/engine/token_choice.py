"""One token for each row of logits.

Each row is looked at through a window of its best candidates, which grows until it is certain to hold all that may be
chosen. From there on everything is small and done in double precision on the CPU: a row's token is the same alone
and in any batch, and on any device that computes the same logits.
"""

import math

import numpy as np
import torch
from torch import Tensor

from hugging_llama.engine.candidates import Candidates, Floats, Integers, tempered, top_candidates, total_mass
from hugging_llama.engine.probability_filters import FilterOptions, filter_probs
from hugging_llama.neutral.requests import SamplingParams

NO_TOKEN = -1
_UNDECIDED = -2

_SPARE = 24
"""Candidates beyond top_k, so that equals at its border are nearly always all in view."""
_WIDEST_FIRST = 512
_GROWTH = 8


def choose_tokens(rows: Tensor, params: list[SamplingParams], draws: list[float]) -> list[int]:
    """The token ids where the running sums of the probabilities pass `draws`, each in [0, 1).

    `rows` `[n, vocab_size]` in any float dtype. NO_TOKEN for a row with NaN or infinity, or with nothing else than
    minus infinity.
    """
    vocab_size = rows.shape[1]
    options = FilterOptions.of(params, vocab_size)
    all_draws = np.array(draws)
    tokens = np.full(len(params), _UNDECIDED)
    for at in np.flatnonzero(options.are_off(vocab_size)):
        tokens[at] = draw_from_all(rows[at], options.temperature[at], draws[at])
    totals = np.full(len(params), np.nan)
    for at in np.flatnonzero((options.top_k == vocab_size) & ((options.top_p != 1) | (options.epsilon != 0))):
        totals[at] = total_mass(rows[at], options.temperature[at])
    width = _first_width(options, vocab_size)
    while len(pending := np.flatnonzero(tokens == _UNDECIDED)):
        part = rows if len(pending) == len(rows) else rows[pending.tolist()]
        tokens[pending] = _choose_within(part, options.rows(pending), totals[pending], all_draws[pending], width)
        width = width * _GROWTH if width * _GROWTH**2 < vocab_size else vocab_size
    found: list[int] = tokens.tolist()
    return found


def _first_width(options: FilterOptions, vocab_size: int) -> int:
    bounded = options.top_k[options.top_k < vocab_size]
    return min(int(bounded.max(initial=1)) + _SPARE, _WIDEST_FIRST, vocab_size)


def _choose_within(rows: Tensor, options: FilterOptions, totals: Floats, draws: Floats, width: int) -> Integers:
    """Tokens `[n]`, with _UNDECIDED for the rows that may choose what lies beyond their `width` best candidates.

    `totals` `[n]`: the mass of the whole row where it is known, else NaN.
    """
    candidates = top_candidates(rows, width)
    best = candidates.scores.max(axis=-1)  # NaN if there is one anywhere in the row
    tokens: Integers = np.where(np.isfinite(best), _UNDECIDED, NO_TOKEN)
    masses = _masses(candidates, best, options)
    totals = np.where(np.isnan(totals), masses.cumsum(axis=-1)[:, -1], totals)
    decided = candidates.num_sure >= options.top_k
    is_open = (options.top_k == rows.shape[1]) & ~decided & (candidates.num_sure > 0) & (tokens == _UNDECIDED)
    for at in map(int, np.flatnonzero(is_open)):
        decided[at] = _is_enough(options, at, masses[at] / totals[at], int(candidates.num_sure[at]))
    chosen = np.flatnonzero(decided & (tokens == _UNDECIDED))
    if len(chosen):
        probs = filter_probs(masses[chosen] / totals[chosen, None], options.rows(chosen))
        tokens[chosen] = candidates.ids[chosen, pick(probs, draws[chosen])]
    return tokens


def _masses(candidates: Candidates, best: Floats, options: FilterOptions) -> Floats:
    """Probabilities times an unknown factor, 0 beyond top_k and beyond what is certain."""
    # the best is subtracted first, so that a tiny temperature does not overflow
    with np.errstate(invalid="ignore", over="ignore"):
        masses = np.exp((candidates.scores - best[:, None]) / options.temperature[:, None])
    num_kept = np.minimum(candidates.num_sure, options.top_k)[:, None]
    kept: Floats = np.where(np.arange(masses.shape[1]) < num_kept, masses, 0.0)
    return kept


def _is_enough(options: FilterOptions, at: int, probs: Floats, num_sure: int) -> bool:
    """Whether a row without top_k chooses among its first `num_sure` candidates only, by its first active filter."""
    if options.typical_p[at] != 1:
        return False
    last = float(probs[num_sure - 1])
    if options.top_p[at] != 1:
        return float(probs.cumsum()[-1]) >= float(options.top_p[at])
    if options.min_p[at] != 0:
        return last < float(options.min_p[at] * probs[0])
    return options.epsilon[at] != 0 and last < float(options.epsilon[at])


def draw_from_all(row: Tensor, temperature: float, draw: float) -> int:
    """The token of `row` `[vocab_size]` where the running sums in the order of ids pass `draw`, or NO_TOKEN."""
    masses = tempered(row, temperature)
    sums = masses.cpu().cumsum(dim=0, dtype=torch.float64)
    total = float(sums[-1])
    if not math.isfinite(total):
        return NO_TOKEN
    # below the total, rounding or not: a token without probability is never reached
    return int(torch.searchsorted(sums, min(draw * total, math.nextafter(total, 0.0)), right=True))


def pick(probs: Floats, draws: Floats) -> Integers:
    """The places `[n]` where the running sums of `probs` `[n, candidates]` pass `draws` `[n]` in [0, 1).

    A place of probability 0 is never picked, rounding or not.
    """
    places = (probs.cumsum(axis=-1) <= draws[:, None]).sum(axis=-1)
    last: Integers = probs.shape[1] - 1 - (probs[:, ::-1] > 0).argmax(axis=-1)
    picked: Integers = np.minimum(places, last)
    return picked
