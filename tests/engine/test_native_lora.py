"""Low-rank changes in C against float64, and the same bits in any company."""

import pytest
import torch
from torch import Tensor

from hugging_llama.engine.native.lora import LowRankFactors, LowRankPart, RowGroups, add_lora, packed_bytes
from tests.engine.native_marks import needs_kernels

pytestmark = needs_kernels


def make_parts(k: int, *shapes: tuple[int, int, int]) -> list[LowRankPart]:
    """Parts of (rank, columns, first column)."""
    return [
        LowRankPart(torch.randn(r, k).bfloat16() / k**0.5, torch.randn(n, r).bfloat16(), column)
        for r, n, column in shapes
    ]


def expected(y: Tensor, x: Tensor, rows: list[int], parts: list[LowRankPart]) -> Tensor:
    """In float64, with the numbers between the two matrices in bfloat16."""
    result = y.double()
    for part in parts:
        inner = (x[rows].double() @ part.down.double().T).bfloat16().double()
        result[rows, part.column : part.column + len(part.up)] += inner @ part.up.double().T
    return result


@pytest.mark.parametrize("k", [1, 5, 64, 130, 257])
@pytest.mark.parametrize("num_rows", [1, 6, 7, 40])
def test_rows_are_changed_by_the_factors_of_their_group(k: int, num_rows: int) -> None:
    torch.manual_seed(k * num_rows)
    width = 150
    x, y = torch.randn(2 * num_rows + 3, k).bfloat16(), torch.randn(2 * num_rows + 3, width).bfloat16()
    adapters = [make_parts(k, (1, 64, 0), (17, 50, 100)), make_parts(k, (16, 150, 0)), make_parts(k, (33, 3, 7))]
    shuffled = torch.randperm(len(x)).tolist()
    groups = [shuffled[:num_rows], shuffled[num_rows : 2 * num_rows], [shuffled[2 * num_rows]]]
    want = y.double()
    for rows, parts in zip(groups, adapters, strict=True):
        want[rows] = expected(y, x, rows, parts)[rows]
    before = y.clone()
    add_lora(y, x, RowGroups.of(groups), [LowRankFactors.pack(parts, width) for parts in adapters])
    # the inner numbers may round to the other side
    torch.testing.assert_close(y.double(), want, rtol=2**-8, atol=0.1)
    assert (y.double() - want).norm() < 4e-3 * want.norm()
    untouched = shuffled[2 * num_rows + 1 :]
    assert torch.equal(y[untouched], before[untouched])


def test_a_row_has_the_same_bits_in_any_company() -> None:
    torch.manual_seed(2)
    x, y = torch.randn(70, 131).bfloat16(), torch.randn(70, 200).bfloat16()
    factors = [
        LowRankFactors.pack(make_parts(131, (5, 100, 0), (20, 100, 100)), 200),
        LowRankFactors.pack(make_parts(131, (16, 200, 0)), 200),
    ]
    alone = y.clone()
    for row in range(70):
        add_lora(alone[row : row + 1], x[row : row + 1], RowGroups.of([[0]]), [factors[row % 2]])
    threads = torch.get_num_threads()
    try:
        for num_threads in (1, 3):
            torch.set_num_threads(num_threads)
            for m in (2, 5, 13, 70):
                together = y[:m].clone()
                add_lora(together, x[:m], RowGroups.of([list(range(0, m, 2)), list(range(1, m, 2))]), factors)
                assert torch.equal(together, alone[:m])
    finally:
        torch.set_num_threads(threads)


def test_a_row_that_is_not_a_number_harms_no_other() -> None:
    torch.manual_seed(3)
    x, y = torch.randn(4, 32).bfloat16(), torch.randn(4, 64).bfloat16()
    x[1] = torch.nan
    factors = [LowRankFactors.pack(make_parts(32, (4, 64, 0)), 64)]
    add_lora(y, x, RowGroups.of([[0, 1, 3]]), factors)
    assert y[1].isnan().all()
    assert y[[0, 2, 3]].isfinite().all()


def test_rows_of_a_wider_matrix() -> None:
    torch.manual_seed(4)
    wide, y = torch.randn(5, 80).bfloat16(), torch.randn(5, 48).bfloat16()
    x, parts = wide[:, 8:40], make_parts(32, (3, 48, 0))
    want = y.clone()
    groups, factors = RowGroups.of([[0, 2, 4]]), [LowRankFactors.pack(parts, 48)]
    add_lora(want, x.contiguous(), groups, factors)
    add_lora(y, x, groups, factors)
    assert torch.equal(y, want)


def test_the_size_is_what_is_allocated() -> None:
    parts = make_parts(131, (5, 100, 0), (20, 70, 100))
    assert LowRankFactors.pack(parts, 200).num_bytes == packed_bytes([(5, 100), (20, 70)], 131)


def test_what_does_not_fit_is_refused() -> None:
    x, y = torch.randn(4, 32).bfloat16(), torch.randn(4, 64).bfloat16()
    parts = make_parts(32, (4, 64, 0))
    factors, groups = [LowRankFactors.pack(parts, 64)], RowGroups.of([[0, 3]])
    with pytest.raises(ValueError, match="fit"):
        LowRankFactors.pack(parts, 63)
    with pytest.raises(ValueError, match="fit"):
        LowRankFactors.pack([LowRankPart(parts[0].down, parts[0].up[:, :3], 0)], 64)
    with pytest.raises(ValueError, match="one adapter"):
        RowGroups.of([[0, 1], [1]])
    with pytest.raises(ValueError, match="rows"):
        add_lora(y[:3], x[:3], groups, factors)
    with pytest.raises(ValueError, match="factors"):
        add_lora(y, x[:, :31].contiguous(), groups, factors)
    with pytest.raises(ValueError, match="factors"):
        add_lora(y, x, groups, factors * 2)
    with pytest.raises(TypeError, match="bfloat16"):
        add_lora(y.float(), x.float(), groups, factors)
