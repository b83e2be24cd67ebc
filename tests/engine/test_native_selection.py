"""Argmax and top-k in C against a stable sort."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.engine.native.selection import argmax, topk
from tests.engine.native_marks import needs_kernels

pytestmark = needs_kernels


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("m", "n"), [(1, 1), (2, 15), (3, 16), (5, 1000), (2, 70_000)])
def test_the_best_of_each_row(m: int, n: int, dtype: torch.dtype) -> None:
    torch.manual_seed(n)
    # bfloat16 has many ties among 70,000 numbers
    logits = torch.randn(m, n + 3).to(dtype)[:, 3:]
    values, order = torch.sort(logits.float(), dim=1, descending=True, stable=True)
    best, where = argmax(logits)
    assert torch.equal(best, values[:, 0])
    assert torch.equal(where, order[:, 0])
    for k in {1, min(n, 40), min(n, 300)}:
        best, where = topk(logits, k)
        assert torch.equal(best, values[:, :k])
        assert torch.equal(where, order[:, :k])


@given(st.lists(st.sampled_from([-torch.inf, -1.0, -0.0, 0.0, 1.0, 2.0]), min_size=1, max_size=80), st.data())
def test_ties_fall_to_the_lower_index(numbers: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(numbers)))
    row = torch.tensor([numbers])
    values, order = torch.sort(row, dim=1, descending=True, stable=True)
    best, where = topk(row, k)
    assert torch.equal(where, order[:, :k])
    assert torch.equal(best, values[:, :k])
    assert argmax(row)[1].item() == order[0, 0]


def test_sorted_rows_are_no_worse() -> None:
    rising = torch.arange(70_000, dtype=torch.float32)[None]
    assert topk(rising, 50)[1].tolist() == [list(range(69_999, 69_949, -1))]
    assert topk(-rising, 50)[1].tolist() == [list(range(50))]


@pytest.mark.parametrize("at", [0, 17, 40_000, 69_999])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_bad_number_shows_in_its_own_row(at: int, bad: float) -> None:
    logits = torch.randn(3, 70_000)
    logits[1, at] = bad
    for values, where in (argmax(logits), topk(logits, 5)):
        values, where = values.reshape(3, -1)[:, 0], where.reshape(3, -1)[:, 0]
        assert torch.isfinite(values).tolist() == [True, False, True]
        assert where[1] == at


def test_no_rows_and_what_does_not_fit() -> None:
    assert argmax(torch.empty(0, 5))[0].shape == (0,)
    assert topk(torch.empty(0, 5), 2)[0].shape == (0, 2)
    for k in (0, 6):
        with pytest.raises(ValueError, match="chosen"):
            topk(torch.ones(1, 5), k)
    with pytest.raises(ValueError, match="no entries"):
        argmax(torch.empty(1, 0))
