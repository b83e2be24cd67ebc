"""The kernels of linear layers: right, the same for a row alone and in a batch, and replaced where they fail."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from hugging_llama.engine.linear import kernels
from hugging_llama.engine.linear.int4 import GROUP_SIZE, Int4Linear, pack_int4
from hugging_llama.engine.linear.int8 import Int8Linear, PortableInt8Linear
from hugging_llama.engine.linear.kernels import QUANTIZATIONS, choose_kernel
from hugging_llama.engine.linear.packed import Kernel, PackedLinear
from hugging_llama.engine.linear.quantize import (
    ZERO_POINT,
    dequantize_int4,
    quantize_int4,
    quantize_int8,
    quantize_rows,
)

DTYPES = (torch.float32, torch.bfloat16)
ALL = [kernel for candidates in kernels._CANDIDATES.values() for kernel in candidates]
ERROR = {"packed": 1e-2, "int8": 0.03, "int4": 0.1}


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def packed_or_skip(kernel: Kernel, weight: Tensor, bias: Tensor | None) -> PackedLinear:
    if not kernels._is_right(kernel, weight.dtype, 0.2):
        pytest.skip(f"this processor has no {kernel.name} kernel")
    return kernel.pack(weight, bias)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kernel", ALL, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("sizes", [(64, 96), (7, 33), (1, 32), (130, 1), (151, 256)], ids=str)
def test_products_are_right_and_weights_stay(kernel: Kernel, dtype: torch.dtype, sizes: tuple[int, int]) -> None:
    weight, bias = random(*sizes, dtype=dtype), random(sizes[0], dtype=dtype, seed=1)
    before = weight.clone(), bias.clone()
    for given in (bias, None):
        layer = packed_or_skip(kernel, weight, given)
        assert torch.equal(weight, before[0]), "packing changed the weight, which an embedding may share"
        assert torch.equal(bias, before[1])
        assert (layer.out_features, layer.in_features) == sizes
        for shape in ((1, 1), (1, 2), (1, 5), (3, 17)):
            x = random(*shape, sizes[1], dtype=dtype, seed=2)
            found = layer(x)
            exact = linear(x.float(), weight.float(), None if given is None else given.float())
            assert found.dtype is dtype
            assert found.shape == exact.shape
            # relative to what a product of this size may be, since a single sum may cancel out
            scale = math.sqrt(sizes[1]) * x.float().square().mean().sqrt() * weight.float().square().mean().sqrt()
            error = (found.float() - exact).square().mean().sqrt() / scale
            assert error < ERROR[kernel.name.split()[0]]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["packed", "int8", "int8 portable"])
def test_a_rows_bits_do_not_depend_on_its_neighbours(name: str, dtype: torch.dtype) -> None:
    if dtype is torch.float32 and name != "int8":
        pytest.skip("float32 sums are added in another order when a matrix has another size")
    kernel = next(kernel for kernel in ALL if kernel.name == name)
    layer = packed_or_skip(kernel, random(320, 256, dtype=dtype), random(320, dtype=dtype))
    rows = random(64, 256, dtype=dtype, seed=3) * torch.logspace(-3, 3, 64)[:, None].to(dtype)
    alone = torch.cat([layer(row[None]) for row in rows])
    for n in range(2, 65):
        assert torch.equal(layer(rows[:n]), alone[:n]), f"{n} rows"
    assert torch.equal(layer(rows.flip(0)).flip(0), alone)


def test_int4_has_two_products_and_no_more() -> None:
    kernel = next(kernel for kernel in ALL if kernel.name == "int4")
    layer = packed_or_skip(kernel, random(320, 256, dtype=torch.bfloat16), None)
    rows = random(64, 256, dtype=torch.bfloat16, seed=3)
    few, many = torch.cat([layer(row[None]) for row in rows]), layer(rows)
    for n in (2, 3, 4):
        assert torch.equal(layer(rows[:n]), few[:n])
    for n in (5, 8, 33):
        assert torch.equal(layer(rows[:n]), many[:n])
    assert (few.float() - many.float()).norm() / few.float().norm() < 0.02


def test_int4_where_it_does_not_fit() -> None:
    assert isinstance(pack_int4(random(64, 96), None), Int4Linear)
    assert isinstance(pack_int4(random(64, 40), None), Int8Linear)
    assert isinstance(pack_int4(random(7, 96), None), Int8Linear)


def test_bad_numbers_stay_visible_and_alone() -> None:
    layer = packed_or_skip(Kernel("int8", Int8Linear), random(64, 96), random(64))
    rows = random(5, 96, seed=4)
    clean = layer(rows)
    rows[1, 3], rows[3, 4] = math.nan, math.inf
    found = layer(rows)
    assert not found[[1, 3]].isfinite().any()
    assert torch.equal(found[[0, 2, 4]], clean[[0, 2, 4]])


@pytest.mark.parametrize("kernel", ALL, ids=lambda kernel: kernel.name)
def test_rows_of_zeros_and_no_rows(kernel: Kernel) -> None:
    bias = random(64).bfloat16().float()
    layer = packed_or_skip(kernel, random(64, 96), bias)
    assert torch.equal(layer(torch.zeros(2, 96)), bias.expand(2, 64))
    assert layer(torch.zeros(1, 0, 96)).shape == (1, 0, 64)


def test_numbers_come_back_within_half_a_step() -> None:
    x = random(9, 256)
    rows, scale = quantize_rows(x)
    assert ((rows.float() - ZERO_POINT) * scale - x).abs().max() <= 0.5001 * scale.max()
    numbers, scales = quantize_int8(x)
    assert ((numbers * scales[:, None] - x).abs() <= 0.5001 * scales[:, None]).all()
    small, steps, minima = quantize_int4(x, GROUP_SIZE)
    assert small.min() == 0
    assert small.max() == 15
    error = (dequantize_int4(small, steps, minima, torch.float32) - x).view(9, -1, GROUP_SIZE).abs()
    assert (error <= 0.5001 * steps[..., None]).all()


def broken(weight: Tensor, bias: Tensor | None) -> PackedLinear:
    raise AttributeError("'_OpNamespace' object has no attribute")


def wrong(weight: Tensor, bias: Tensor | None) -> PackedLinear:
    return PortableInt8Linear(weight * 1.1, bias)


def test_a_kernel_that_fails_its_trial_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = (Kernel("broken", broken), Kernel("wrong", wrong))
    candidates = dict.fromkeys(QUANTIZATIONS, bad) | {"int8": (*bad, Kernel("int8 portable", PortableInt8Linear))}
    monkeypatch.setattr(kernels, "_CANDIDATES", candidates)
    monkeypatch.setattr(kernels, "native_kernels", lambda quantization: ())
    assert choose_kernel("none", torch.float32) is None
    chosen = choose_kernel("int8", torch.float32)
    assert chosen is not None
    assert chosen.name == "int8 portable"


@pytest.mark.parametrize("quantization", ["int8", "int4"])
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16], ids=str)
def test_quantised_layers_exist_on_every_processor(quantization: str, dtype: torch.dtype) -> None:
    assert choose_kernel(quantization, dtype) is not None
