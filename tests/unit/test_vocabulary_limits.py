"""Which vocabularies of strangers are taken."""

from typing import Any

import pytest

from hugging_llama_config.vocabulary_limits import MOST_ADDED, MOST_IDS, vocabulary_problem


@pytest.mark.parametrize(
    ("vocab", "added", "problem"),
    [
        ({"a": 0, "b": 262_144}, None, ""),
        ({"a": MOST_IDS - 1}, [{"id": 3}], ""),
        ({"a": MOST_IDS}, None, f"the id {MOST_IDS}"),
        ({"a": 2**31}, None, "the id 2147483648"),
        ({"a": 10**30}, None, "the id 1000000"),
        ({"a": "x", "b": None}, None, ""),
        ([["a", 0.0]], None, ""),
        ([0] * (MOST_IDS + 1), None, f"the id {MOST_IDS}"),
        (None, [{"id": 2**31}, 5], "the id 2147483648"),
        (None, {"2147483648": {}}, "the id 2147483648"),
        (None, {"128009": {}}, ""),
        *((None, {id: {}}, "whose id is no number") for id in ("9" * 5000, "x", "²", "2_147_483_648", " 1", "-1")),
        (None, [{}] * MOST_ADDED, ""),
        (None, [{}] * (MOST_ADDED + 1), "adds 70001 tokens"),
        (None, {str(number): {} for number in range(MOST_ADDED + 1)}, "adds 70001 tokens"),
    ],
)
def test_vocabularies(vocab: Any, added: Any, problem: str) -> None:
    assert problem in vocabulary_problem(vocab, added)
    assert bool(vocabulary_problem(vocab, added)) == bool(problem)
