"""What may be chosen among the candidates of each row: typical_p, top_p, min_p, top_h, epsilon and eta cut-offs.

Sources: typical_p arXiv:2202.00666, min_p arXiv:2407.01082, top_h arXiv:2509.02510, epsilon and eta arXiv:2210.15191,
each as transformers' warper of that name does it. All sums are running sums: they give the same digits for a row
however many places without probability follow.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hugging_llama.engine.candidates import Floats, Integers
from hugging_llama.neutral.requests import SamplingParams

Mask = NDArray[np.bool_]

TOP_H_CANDIDATES = 100
"""top_h looks at so many tokens at most, as in transformers."""


_LOWEST_TEMPERATURE = 1e-30
"""Anything below is no single-precision number any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterOptions:
    """The options of `n` rows, each `[n]`; values that mean off are spelt in one way each."""

    temperature: Floats
    top_k: Integers
    top_p: Floats
    min_p: Floats
    typical_p: Floats
    top_h: Floats
    epsilon: Floats
    eta: Floats

    @classmethod
    def of(cls, params: list[SamplingParams], vocab_size: int) -> Self:
        """Greedy rows have a top_k of 1; top_k is at most what there is to choose from."""
        columns = np.array([_row(p, vocab_size) for p in params], dtype=np.float64).T
        return cls(
            temperature=columns[0],
            top_k=columns[1].astype(np.int64),
            top_p=columns[2],
            min_p=columns[3],
            typical_p=columns[4],
            top_h=columns[5],
            epsilon=columns[6],
            eta=columns[7],
        )

    def are_off(self, vocab_size: int) -> Mask:
        """`[n]`, true where all that the model may say may be chosen."""
        filters_off = [getattr(self, name) == off for name, off, _ in _FILTERS]
        all_off: Mask = np.all([self.top_k == vocab_size, *filters_off], axis=0)
        return all_off

    def rows(self, chosen: Integers) -> Self:
        """The options of some rows."""
        return type(self)(**{name: getattr(self, name)[chosen] for name in self.__slots__})


def _row(p: SamplingParams, vocab_size: int) -> tuple[float, ...]:
    if p.temperature <= 0:
        return (1.0, 1, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    top_k = min(p.top_k, vocab_size) if p.top_k > 0 else vocab_size
    if p.top_h > 0:
        top_k = min(top_k, TOP_H_CANDIDATES)
    top_p, typical_p = min(p.top_p, 1.0), min(p.typical_p, 1.0)
    return (
        max(p.temperature, _LOWEST_TEMPERATURE),
        top_k,
        top_p,
        min(p.min_p, 1.0),
        typical_p,
        p.top_h,
        p.epsilon_cutoff,
        p.eta_cutoff,
    )


def filter_probs(probs: Floats, options: FilterOptions) -> Floats:
    """`probs` `[n, candidates]`, best first, with 0 for what is cut and the rest of that row raised to a sum of 1.

    At least one candidate of each row stays. A row whose options are all off stays as it is.
    """
    probs = probs.copy()
    for name, off, keep in _FILTERS:
        values: Floats = getattr(options, name)
        rows = np.flatnonzero(values != off)
        if len(rows):
            part = probs[rows]
            probs[rows] = _kept(part, keep(part, values[rows, None]))
    return probs


def _kept(probs: Floats, keep: Mask) -> Floats:
    kept = np.where(keep, probs, 0.0)
    empty = np.flatnonzero(~kept.any(axis=-1))
    best = probs[empty].argmax(axis=-1)
    kept[empty, best] = probs[empty, best]
    total: Floats = kept.cumsum(axis=-1)[:, -1:]
    return kept / total


def _typical(probs: Floats, mass: Floats) -> Mask:
    """The tokens whose surprise is nearest to the expected one, until they hold `mass` `[n, 1]`."""
    surprise = -_log(probs)
    distance = np.where(probs > 0, np.abs(surprise - _entropy(probs)), np.inf)
    order = distance.argsort(axis=-1, kind="stable")
    held = np.take_along_axis(probs, order, axis=-1).cumsum(axis=-1)
    last = np.minimum((held < mass).sum(axis=-1, keepdims=True), probs.shape[1] - 1)
    border = np.take_along_axis(distance, np.take_along_axis(order, last, axis=-1), axis=-1)
    kept: Mask = (distance <= border) & (probs > 0)
    return kept


def _nucleus(probs: Floats, mass: Floats) -> Mask:
    kept: Mask = (probs.cumsum(axis=-1) - probs < mass) & (probs > 0)
    return kept


def _near_the_best(probs: Floats, share: Floats) -> Mask:
    kept: Mask = probs >= probs.max(axis=-1, keepdims=True) * share
    return kept


def _bounded_entropy(probs: Floats, share: Floats) -> Mask:
    """The best tokens that together hold at most `share` of the entropy, and the best one."""
    terms = -probs * _log(probs)
    kept: Mask = terms.cumsum(axis=-1) <= _entropy(probs) * share
    return kept


def _above_epsilon(probs: Floats, epsilon: Floats) -> Mask:
    kept: Mask = probs >= epsilon
    return kept


def _above_eta(probs: Floats, eta: Floats) -> Mask:
    kept: Mask = probs >= np.minimum(eta, np.sqrt(eta) * np.exp(-_entropy(probs)))
    return kept


_FILTERS: tuple[tuple[str, float, Callable[[Floats, Floats], Mask]], ...] = (
    ("typical_p", 1.0, _typical),
    ("top_p", 1.0, _nucleus),
    ("min_p", 0.0, _near_the_best),
    ("top_h", 0.0, _bounded_entropy),
    ("epsilon", 0.0, _above_epsilon),
    ("eta", 0.0, _above_eta),
)


def _entropy(probs: Floats) -> Floats:
    """In nats, `[n, 1]`."""
    entropy: Floats = (-probs * _log(probs)).cumsum(axis=-1)[:, -1:]
    return entropy


def _log(probs: Floats) -> Floats:
    """The logarithm, 0 where there is no probability."""
    logs: Floats = np.log(np.where(probs > 0, probs, 1.0))
    return logs
