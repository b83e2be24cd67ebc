"""From the logits of a classification head to what callers read: relevance, and probabilities of labels.

The names are those of the files: of torch's modules, and of `problem_type` in transformers' configurations.
"""

import math
import re
from collections.abc import Sequence
from enum import StrEnum
from typing import TypeVar

_NameT = TypeVar("_NameT", bound=StrEnum)

_TORCH_NAME = re.compile(r"torch\.nn\.(?:modules\.[a-z_]+\.)?([A-Za-z]+)")


class Activation(StrEnum):
    """What a cross-encoder's authors want its logit to go through; others are not known here."""

    IDENTITY = "Identity"
    SIGMOID = "Sigmoid"
    TANH = "Tanh"


class ProblemType(StrEnum):
    """What a head was trained for."""

    REGRESSION = "regression"
    SINGLE_LABEL = "single_label_classification"
    MULTI_LABEL = "multi_label_classification"


def activation_named(name: object) -> Activation | None:
    """The activation that a file names by its class in torch; None for another, which nobody looks up."""
    found = _TORCH_NAME.fullmatch(name) if isinstance(name, str) else None
    return _member(Activation, found[1]) if found else None


def problem_type_named(name: object) -> ProblemType | None:
    """The problem type of a configuration; None for anything else."""
    return _member(ProblemType, name)


def relevance(logits: Sequence[float], activation: Activation | None) -> float:
    """Of the one logit of a cross-encoder; a sigmoid unless its files name something else."""
    (logit,) = logits
    if activation is Activation.IDENTITY:
        return logit
    return math.tanh(logit) if activation is Activation.TANH else _sigmoid(logit)


def probabilities(logits: Sequence[float], problem_type: ProblemType | None) -> tuple[float, ...]:
    """One for each label: they sum up to one where one of several labels applies, each stands alone where several
    may apply or there is one label. What was trained as a regression is no probability and stays as it is."""
    if problem_type is ProblemType.REGRESSION:
        return tuple(logits)
    if problem_type is ProblemType.MULTI_LABEL or len(logits) == 1:
        return tuple(map(_sigmoid, logits))
    highest = max(logits)
    powers = [math.exp(logit - highest) for logit in logits]
    total = math.fsum(powers)
    return tuple(power / total for power in powers)


def _member(names: type[_NameT], name: object) -> _NameT | None:
    return next((member for member in names if member.value == name), None)


def _sigmoid(logit: float) -> float:
    """Without an overflow for large negative numbers."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    power = math.exp(logit)
    return power / (1 + power)
