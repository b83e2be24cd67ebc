"""Which vocabularies of strangers are taken."""

from typing import Any

import pytest

from hugging_llama_config.vocabulary_limits import LONGEST_TOKEN, MOST_ADDED, MOST_IDS, vocabulary_problem

LONG = "x" * LONGEST_TOKEN


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
        ({LONG: 0}, [{"id": 1, "content": LONG}], ""),
        ({LONG + "x": 0}, None, "a token of 4097 characters"),
        ([["a", 0.0], [LONG + "x", 0.0]], None, "a token of 4097 characters"),
        (["a", LONG + "x"], None, "a token of 4097 characters"),
        ([[], 5, [5, 0.0]], None, ""),
        ([[LONG, 0.0]] * 3072, None, ""),
        ([[LONG, 0.0]] * 3073, None, "has 12587008 bytes of tokens"),
        (None, [{"id": 1, "content": LONG + "x"}], "a token of 4097 characters"),
        (None, {"1": {"content": LONG + "x"}}, "a token of 4097 characters"),
        (None, {"1": LONG + "x"}, "a token of 4097 characters"),
        (None, [{"content": f"{number:04d}" * 1024} for number in range(512)], ""),
        (None, [{"content": f"{number:04d}" * 1024} for number in range(513)], "adds 2101248 bytes of tokens"),
        (None, [{"content": f"{number:04d}" + "\ud800" * 2048} for number in range(512)], "adds 3147776 bytes"),
        (None, [{"content": LONG}] * 600, ""),
        (None, [{}] * MOST_ADDED, ""),
        (None, [{}] * (MOST_ADDED + 1), "adds 70001 tokens"),
        (None, {str(number): {} for number in range(MOST_ADDED + 1)}, "adds 70001 tokens"),
    ],
)
def test_vocabularies(vocab: Any, added: Any, problem: str) -> None:
    assert problem in vocabulary_problem(vocab, added)
    assert bool(vocabulary_problem(vocab, added)) == bool(problem)
