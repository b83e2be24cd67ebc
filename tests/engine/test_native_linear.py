"""Packed linear layers in C against float64 arithmetic on the same numbers."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hugging_llama.engine.native.linear import BFloat16Linear, Int4Linear, Int8Linear
from tests.engine.native_marks import needs_kernels

pytestmark = needs_kernels

Linear = Int8Linear | Int4Linear | BFloat16Linear
FORMATS = [Int8Linear, Int4Linear, BFloat16Linear]
SHAPES = [(1, 1), (5, 3), (32, 64), (33, 65), (96, 128), (130, 200), (257, 17)]


def rows8(x: Tensor, group: int) -> Tensor:
    """`x` `[m, k]` after the trip through int8 with a scale for every `group` inputs, in float64."""
    m, k = x.shape
    padded = torch.nn.functional.pad(x.float(), (0, -k % group)).reshape(m, -1, group)
    largest = padded.abs().amax(dim=-1, keepdim=True)
    whole = torch.where(largest > 0, torch.round(padded * (127 / largest)), 0.0)
    return (whole.double() * (largest / 127).double()).reshape(m, -1)[:, :k]


def weights_of(layer: Linear, weight: Tensor) -> Tensor:
    """What the packed weights mean, read through the layer itself: each input alone, in float64."""
    return layer(torch.eye(weight.shape[1], dtype=torch.float32)).double().T


def expected(kind: type[Linear], layer: Linear, weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """The product in float64 of the rows and weights as the format holds them."""
    if kind is BFloat16Linear:
        return x.double() @ weight.double().T + bias.double()
    rows = rows8(x, 32 if kind is Int4Linear else x.shape[1])
    return rows @ (weights_of(layer, weight) - bias.double()[:, None]).T + bias.double()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("k", "n"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_product_is_that_of_the_packed_numbers(kind: type[Linear], k: int, n: int, dtype: torch.dtype) -> None:
    if kind is BFloat16Linear and dtype == torch.float32:
        return
    torch.manual_seed(k * n)
    weight, bias, x = torch.randn(n, k).bfloat16(), torch.randn(n), torch.randn(7, k).to(dtype)
    layer = kind.pack(weight, bias)
    want = expected(kind, layer, weight, bias, x)
    rounding = 2**-8 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(layer(x).double(), want, rtol=rounding, atol=rounding * k**0.5)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_row_has_the_same_bits_in_any_batch(kind: type[Linear]) -> None:
    torch.manual_seed(1)
    layer = kind.pack(torch.randn(200, 160).bfloat16(), torch.randn(200))
    x = torch.randn(70, 160).bfloat16()
    x[::7] *= 1000
    alone = torch.cat([layer(row[None]) for row in x])
    for m in range(1, 71):
        assert torch.equal(layer(x[:m]), alone[:m])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(layer(x), alone)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(("kind", "bound"), [(Int8Linear, 0.015), (Int4Linear, 0.095), (BFloat16Linear, 0.004)])
def test_how_much_a_format_loses(kind: type[Linear], bound: float) -> None:
    torch.manual_seed(2)
    weight, x = torch.randn(512, 1024).bfloat16(), torch.randn(16, 1024).bfloat16()
    want = x.double() @ weight.double().T
    lost = (kind.pack(weight)(x).double() - want).norm() / want.norm()
    assert lost < bound


def test_int4_loses_less_than_with_the_plain_scale() -> None:
    torch.manual_seed(3)
    weight = torch.randn(64, 512).bfloat16().float()
    groups = weight.reshape(64, -1, 32)
    extreme = groups.gather(2, groups.abs().argmax(dim=2, keepdim=True))
    scale = (extreme / -8).bfloat16().float()
    plain = (torch.round(groups / scale).clamp(-8, 7) * scale).reshape(64, 512)
    packed = weights_of(Int4Linear.pack(weight), weight)
    assert (packed - weight).norm() < 0.97 * (plain - weight).norm()


def test_an_outlier_costs_int4_only_its_own_group() -> None:
    torch.manual_seed(4)
    layer = Int4Linear.pack(torch.randn(64, 128))
    x = torch.randn(1, 128)
    quiet = layer(x)
    loud = x.clone()
    loud[0, 5] = 1e6
    only = torch.zeros_like(x)
    only[0, :32] = loud[0, :32]
    rest = x.clone()
    rest[0, :32] = 0
    assert torch.isfinite(quiet).all()
    torch.testing.assert_close(layer(loud) - layer(only), layer(rest), rtol=0, atol=2.0)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_bad_number_shows_in_its_own_row(kind: type[Linear], bad: float) -> None:
    torch.manual_seed(5)
    layer = kind.pack(torch.randn(70, 96).bfloat16())
    x = torch.randn(9, 96).bfloat16()
    good = layer(x)
    x[4, 33] = bad
    out = layer(x)
    assert not torch.isfinite(out[4]).any()
    others = [i for i in range(9) if i != 4]
    assert torch.equal(out[others], good[others])


@pytest.mark.parametrize("kind", FORMATS)
def test_rows_of_zeros_give_the_bias_and_no_rows_give_none(kind: type[Linear]) -> None:
    bias = torch.randn(40)
    layer = kind.pack(torch.randn(40, 24).bfloat16(), bias)
    assert torch.equal(layer(torch.zeros(3, 24).bfloat16()), bias.bfloat16().expand(3, 40))
    assert layer(torch.empty(0, 24).bfloat16()).shape == (0, 40)


@pytest.mark.parametrize("kind", FORMATS)
def test_rows_may_be_a_slice_of_wider_ones(kind: type[Linear]) -> None:
    torch.manual_seed(6)
    layer = kind.pack(torch.randn(30, 64).bfloat16())
    wide = torch.randn(1, 5, 200).bfloat16()
    part = wide[:, :, 7:71]
    assert torch.equal(layer(part), layer(part.contiguous()))
    assert layer(part).shape == (1, 5, 30)
    assert torch.equal(layer(wide[:, ::2, 7:71]), layer(part)[:, ::2])


def refusals() -> list[tuple[Callable[[], object], type[Exception]]]:
    weight = torch.ones(4, 8)
    return [
        (lambda: Int8Linear.pack(torch.full((2, 2), torch.nan)), ValueError),
        (lambda: Int4Linear.pack(torch.full((2, 2), torch.inf)), ValueError),
        (lambda: Int8Linear.pack(torch.zeros(1, 65537)), ValueError),
        (lambda: BFloat16Linear.pack(weight), TypeError),
        (lambda: BFloat16Linear.pack(weight.bfloat16())(torch.ones(1, 8)), TypeError),
        (lambda: Int8Linear.pack(weight)(torch.ones(1, 7)), ValueError),
        (lambda: Int4Linear.pack(weight)(torch.ones(1, 8).half()), TypeError),
    ]


@pytest.mark.parametrize(("call", "error"), refusals())
def test_what_does_not_fit_is_refused(call: Callable[[], object], error: type[Exception]) -> None:
    with pytest.raises(error):
        call()
