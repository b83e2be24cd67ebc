"""Linear layers with int4 weights: one product for few rows, another for many."""

from typing import Final

import torch
from torch import Tensor

from hugging_llama.engine.linear.int8 import Int8Linear, PortableInt8Linear
from hugging_llama.engine.linear.packed import PackedLinear, num_bytes
from hugging_llama.engine.linear.quantize import dequantize_int4, quantize_int4

GROUP_SIZE = 32
_FEW_ROWS = 4
_OUT_MULTIPLE = 16
_ZERO = 8


class Int4Linear(PackedLinear):
    """torch's weight-only int4 product (`aten::_weight_int4pack_mm_for_cpu`) for few rows, int8's for many.

    The int4 product reads the fewest bytes but computes in floats: at 16 rows it takes more than twice the time of
    int8's. So a second copy of the same numbers is kept as int8, 1.6 bytes a weight in all. To make floats of the
    numbers whenever there are many rows needs no copy, and takes three times as long at 256 rows, ten times at 16.
    The two products differ by the rounding of int8 activations, so a row's result depends on whether more than
    `_FEW_ROWS` are in the batch, and on nothing else of its neighbours.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight)
        numbers, scales, minima = quantize_int4(weight, GROUP_SIZE)
        zeros = minima + _ZERO * scales  # what the product adds to (number - 8) * scale
        self._many: Final = Int8Linear(dequantize_int4(numbers, scales, minima, weight.dtype), bias)
        self._packed: Final = torch._convert_weight_to_int4pack_for_cpu(numbers, 2)
        self._scales_and_zeros: Final = torch.stack((scales.T, zeros.T), dim=-1).to(torch.bfloat16).contiguous()
        self._bias: Final = None if bias is None else bias.clone()
        self._multiply: Final = torch.ops.aten._weight_int4pack_mm_for_cpu.default
        self.weight_bytes = num_bytes(self._packed, self._scales_and_zeros, self._bias)

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() > _FEW_ROWS * self.in_features:
            many: Tensor = self._many(x)
            return many
        rows = x.reshape(-1, self.in_features).to(torch.bfloat16)
        y: Tensor = self._multiply(rows, self._packed, GROUP_SIZE, self._scales_and_zeros)
        y = y.view(*x.shape[:-1], self.out_features).to(x.dtype)
        return y if self._bias is None else y.add_(self._bias)


def pack_int4(weight: Tensor, bias: Tensor | None) -> PackedLinear:
    """A layer with int4 weights; with int8 ones if its size does not fit int4's product."""
    return (Int4Linear if _fits(weight) else Int8Linear)(weight, bias)


def pack_portable_int4(weight: Tensor, bias: Tensor | None) -> PackedLinear:
    """The same numbers on any processor, as int8."""
    if _fits(weight):
        weight = dequantize_int4(*quantize_int4(weight, GROUP_SIZE), weight.dtype)
    return PortableInt8Linear(weight, bias)


def _fits(weight: Tensor) -> bool:
    return weight.shape[0] % _OUT_MULTIPLE == 0 and weight.shape[1] % GROUP_SIZE == 0
