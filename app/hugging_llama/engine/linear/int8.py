"""Linear layers with int8 weights, one scale an output channel, and rows quantised when they arrive."""

from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import linear

from hugging_llama.engine.linear.packed import PackedLinear, num_bytes
from hugging_llama.engine.linear.quantize import ZERO_POINT, quantize_int8, quantize_rows


class Int8Linear(PackedLinear):
    """oneDNN's int8 product (`torch.ops.onednn.qlinear_pointwise`, what torch's own x86 quantiser lowers to).

    A row's result is the same bits whatever rows lie beside it: its scale is its own, and the sums are integers.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight)
        numbers, self._scales = quantize_int8(weight)
        self._packed: Final = torch.ops.onednn.qlinear_prepack(numbers, None)
        self._zero_points: Final = torch.zeros(self.out_features, dtype=torch.int64)
        self._bias: Final = None if bias is None else bias.float()
        self._multiply: Final = torch.ops.onednn.qlinear_pointwise.default
        self.weight_bytes = num_bytes(numbers, self._scales, self._zero_points, self._bias)

    def forward(self, x: Tensor) -> Tensor:
        if not x.numel():
            return x.new_empty(*x.shape[:-1], self.out_features)
        rows, scale = quantize_rows(x)
        y: Tensor = self._multiply(
            rows, 1.0, ZERO_POINT, self._packed, self._scales, self._zero_points, None,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        y.mul_(scale)
        return (y if self._bias is None else y.add_(self._bias)).to(x.dtype)


class PortableInt8Linear(PackedLinear):
    """The same weights on any processor: small in memory, made floats again whenever they are used."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight)
        self._numbers, scales = quantize_int8(weight)
        self._scales: Final = scales[:, None].to(weight.dtype)
        self._bias: Final = None if bias is None else bias.clone()
        self.weight_bytes = num_bytes(self._numbers, self._scales, self._bias)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self._numbers * self._scales, self._bias)
