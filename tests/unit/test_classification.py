"""From logits to relevance and probabilities, by names that come from strangers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.errors import UnsupportedCapabilityError
from hugging_llama.neutral.classification import (
    Activation,
    ProblemType,
    activation_named,
    probabilities,
    problem_type_named,
    relevance,
)
from hugging_llama.neutral.events import Classified
from hugging_llama.operations.classification import labelled, ranking

logits = st.floats(width=32, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("torch.nn.modules.activation.Sigmoid", Activation.SIGMOID),
        ("torch.nn.modules.linear.Identity", Activation.IDENTITY),
        ("torch.nn.Tanh", Activation.TANH),
        ("torch.nn.Softmax", None),
        ("torch.os.Sigmoid", None),
        ("os.system", None),
        ("mine.Sigmoid", None),
        ("torch.nn.Sigmoid\n", None),
        ("", None),
        (None, None),
        (["torch.nn.Sigmoid"], None),
    ],
)
def test_an_activation_is_known_by_name_or_not_at_all(name: object, expected: Activation | None) -> None:
    assert activation_named(name) is expected


def test_problem_types() -> None:
    assert problem_type_named("multi_label_classification") is ProblemType.MULTI_LABEL
    assert problem_type_named("nonsense") is problem_type_named(None) is problem_type_named([]) is None


@given(logits)
def test_relevance(logit: float) -> None:
    assert relevance((logit,), Activation.IDENTITY) == logit
    assert relevance((logit,), None) == relevance((logit,), Activation.SIGMOID)
    assert 0 <= relevance((logit,), None) <= 1
    assert relevance((logit,), None) + relevance((-logit,), None) == pytest.approx(1)
    assert relevance((logit,), Activation.TANH) == math.tanh(logit)


@given(st.lists(logits, min_size=2, max_size=9), st.none() | st.just(ProblemType.SINGLE_LABEL))
def test_one_of_several_labels(row: list[float], problem_type: ProblemType | None) -> None:
    found = probabilities(row, problem_type)
    assert sum(found) == pytest.approx(1)
    assert all(0 <= value <= 1 for value in found)
    assert found[row.index(max(row))] == max(found)


def test_labels_that_stand_alone_and_a_regression() -> None:
    assert probabilities((0.0, 1000.0, -1000.0), ProblemType.MULTI_LABEL) == (0.5, 1.0, 0.0)
    assert probabilities((0.0,), None) == (0.5,)
    assert probabilities((3.5,), ProblemType.REGRESSION) == (3.5,)
    assert probabilities((1.0, 1.0), None) == (0.5, 0.5)


def _answer(*rows: tuple[float, ...], labels: tuple[str, ...] = ("fit",)) -> Classified:
    return Classified(scores=rows, labels=labels, num_prompt_tokens=1, activation=Activation.IDENTITY)


def test_a_ranking_is_sorted_and_keeps_the_order_of_equals() -> None:
    answer = _answer((1.0,), (3.0,), (1.0,), (2.0,))
    assert ranking(answer, "m", 0) == [(1, 3.0), (3, 2.0), (0, 1.0), (2, 1.0)]
    assert ranking(answer, "m", 2) == [(1, 3.0), (3, 2.0)]
    assert len(ranking(answer, "m", 99)) == 4
    with pytest.raises(UnsupportedCapabilityError, match="rerank"):
        ranking(_answer((1.0, 2.0), labels=("a", "b")), "m", 0)


def test_the_likeliest_label() -> None:
    answer = _answer((1.0, 3.0), (2.0, 0.0), labels=("no", "yes"))
    assert [label for label, _ in labelled(answer)] == ["yes", "no"]
