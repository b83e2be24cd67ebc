"""Linear layers over weights that are packed once: bfloat16 as it is, int8, int4.

Each is called like `torch.nn.Linear`: `x` `[..., in_features]` on the CPU to `[..., out_features]` of the same dtype.
A row's result has the same bits alone and among any others, on any number of threads; float32 sums. NaN or infinity in
a row makes that row's results NaN or infinite. MemoryError if there is no room for a copy of the rows.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from hugging_llama.engine.native.library import format_of, kernels, rows_of

BLOCK = 64
"""Output features that are packed together."""
_INT4_GROUP = 32
_INT4_BLOCK_BYTES = 1152
_INT8_MAX_FEATURES = 65536


@dataclass(frozen=True, slots=True)
class Int8Linear:
    """int8 weights, symmetric, one scale per output channel; rows become int8 with one scale each inside.

    Integer sums are exact. `x` is bfloat16 or float32.
    """

    in_features: int
    out_features: int
    weight: Tensor
    scales: Tensor
    bias: Tensor | None

    @classmethod
    def pack(cls, weight: Tensor, bias: Tensor | None = None) -> Self:
        """From `weight` `[out_features, in_features]`, finite, at most 65536 features. Raises ValueError otherwise."""
        weight = _packable(weight)
        n, k = weight.shape
        if k > _INT8_MAX_FEATURES:
            raise ValueError(f"int8 sums over {k} features can overflow")
        packed = torch.empty(padded(n, BLOCK) * padded(k, 4), dtype=torch.uint8)
        scales = torch.empty(padded(n, BLOCK), dtype=torch.float32)
        kernels().hl_pack_int8(
            weight.data_ptr(), n, k, format_of(weight), packed.data_ptr(), scales.data_ptr(), torch.get_num_threads()
        )
        return cls(k, n, packed, scales, _bias(bias))

    def __call__(self, x: Tensor) -> Tensor:
        rows, m, stride = rows_of(x)
        out = x.new_empty((*x.shape[:-1], self.out_features))
        failed = kernels().hl_linear_int8(
            rows.data_ptr(), stride, m, self.out_features, _checked(x, self.in_features), format_of(x),
            self.weight.data_ptr(), self.scales.data_ptr(), _pointer(self.bias), out.data_ptr(),
            torch.get_num_threads(),
        )  # fmt: skip
        return _result(out, failed)


@dataclass(frozen=True, slots=True)
class Int4Linear:
    """4-bit weights, symmetric, one bfloat16 scale per output channel and 32 inputs: 4.5 bits a weight.

    Of some twenty scales each group takes the one that loses least. Rows become int8 with one scale per 32 inputs
    inside, so one large activation costs its own group digits and no other. `x` is bfloat16 or float32.
    """

    in_features: int
    out_features: int
    weight: Tensor
    bias: Tensor | None

    @classmethod
    def pack(cls, weight: Tensor, bias: Tensor | None = None) -> Self:
        """From `weight` `[out_features, in_features]`, finite. Raises ValueError otherwise."""
        weight = _packable(weight)
        n, k = weight.shape
        num_blocks = padded(n, BLOCK) // BLOCK * (padded(k, _INT4_GROUP) // _INT4_GROUP)
        packed = torch.empty(num_blocks * _INT4_BLOCK_BYTES, dtype=torch.uint8)
        kernels().hl_pack_int4(weight.data_ptr(), n, k, format_of(weight), packed.data_ptr(), torch.get_num_threads())
        return cls(k, n, packed, _bias(bias))

    def __call__(self, x: Tensor) -> Tensor:
        rows, m, stride = rows_of(x)
        out = x.new_empty((*x.shape[:-1], self.out_features))
        failed = kernels().hl_linear_int4(
            rows.data_ptr(), stride, m, self.out_features, _checked(x, self.in_features), format_of(x),
            self.weight.data_ptr(), _pointer(self.bias), out.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return _result(out, failed)


@dataclass(frozen=True, slots=True)
class BFloat16Linear:
    """bfloat16 weights, unchanged. `x` is bfloat16; subnormal numbers count as zero."""

    in_features: int
    out_features: int
    weight: Tensor
    bias: Tensor | None

    @classmethod
    def pack(cls, weight: Tensor, bias: Tensor | None = None) -> Self:
        """From `weight` `[out_features, in_features]` in bfloat16. Raises TypeError for another dtype."""
        if weight.dtype != torch.bfloat16:
            raise TypeError(f"expected bfloat16 weights, not {weight.dtype}")
        weight = weight.detach().contiguous()
        n, k = weight.shape
        packed = torch.empty(padded(n, BLOCK) * padded(k, 2), dtype=torch.bfloat16)
        kernels().hl_pack_bf16(weight.data_ptr(), n, k, packed.data_ptr(), torch.get_num_threads())
        return cls(k, n, packed, _bias(bias))

    def __call__(self, x: Tensor) -> Tensor:
        if x.dtype != torch.bfloat16:
            raise TypeError(f"expected bfloat16 rows, not {x.dtype}")
        rows, m, stride = rows_of(x)
        out = x.new_empty((*x.shape[:-1], self.out_features))
        failed = kernels().hl_linear_bf16(
            rows.data_ptr(), stride, m, self.out_features, _checked(x, self.in_features),
            self.weight.data_ptr(), _pointer(self.bias), out.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return _result(out, failed)


def padded(size: int, block: int) -> int:
    """The least multiple of `block` that is no less than `size`."""
    return -(-size // block) * block


def _packable(weight: Tensor) -> Tensor:
    """The kernels read bfloat16 and float32; other dtypes are converted."""
    weight = weight.detach()
    if weight.dtype not in (torch.bfloat16, torch.float32):
        weight = weight.float()
    if not torch.isfinite(weight).all():
        raise ValueError("weights that are not finite can't be quantised")
    return weight.contiguous()


def _bias(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.detach().to(torch.float32, copy=True)


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _checked(x: Tensor, in_features: int) -> int:
    if x.shape[-1] != in_features:
        raise ValueError(f"expected rows of {in_features}, not {x.shape[-1]}")
    return in_features


def _result(out: Tensor, failed: int) -> Tensor:
    if failed:
        raise MemoryError("no memory for the rows of a linear layer")
    return out
