"""Numbers to small integers: rows of activations when they arrive, weights when they are loaded."""

from collections.abc import Iterator

import torch
from torch import Tensor

ZERO_POINT = 128
"""Activations are symmetric, but the kernels take unsigned bytes."""

_LARGEST = 127
_LARGEST_INT4 = 15
_TINY = 1e-20
_BLOCK = 2**18
_HALF_UP = ZERO_POINT + 0.5


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows `[..., n]` to unsigned bytes and float32 scales `[..., 1]`, so that `x = (bytes - ZERO_POINT) * scale`.

    Every row has a scale of its own, so its bytes do not depend on its neighbours. The scale of a row with NaN or
    Inf is one of them.
    """
    x = x.float()
    scale = x.abs().amax(-1, keepdim=True).mul_(1 / _LARGEST).clamp_(min=_TINY)
    return torch.div(x, scale).add_(_HALF_UP).to(torch.uint8), scale


def quantize_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight `[out, in]` to int8 and float32 scales `[out]`, symmetric: `weight = int8 * scale[:, None]`."""
    numbers = torch.empty(weight.shape, dtype=torch.int8)
    scales = torch.empty(weight.shape[0])
    for rows in _blocks(weight):
        block = weight[rows].float()
        scales[rows] = scale = block.abs().amax(1).div_(_LARGEST).clamp_(min=_TINY)
        numbers[rows] = block.div(scale[:, None]).round_()
    return numbers, scales


def quantize_int4(weight: Tensor, group_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """A weight `[out, in]` to numbers 0..15 (int32 `[out, in]`), scales and minima (float32 `[out, in / group_size]`).

    Asymmetric, each group of `group_size` neighbours in a row by itself: `weight = numbers * scale + minimum`.
    """
    numbers = torch.empty(weight.shape, dtype=torch.int32)
    scales, minima = torch.empty(2, weight.shape[0], weight.shape[1] // group_size)
    for rows in _blocks(weight):
        groups = weight[rows].float().view(-1, weight.shape[1] // group_size, group_size)
        minima[rows] = minimum = groups.amin(2)
        scales[rows] = scale = groups.amax(2).sub_(minimum).div_(_LARGEST_INT4).clamp_(min=_TINY)
        numbers[rows] = groups.sub(minimum[..., None]).div_(scale[..., None]).round_().flatten(1).int()
    return numbers, scales, minima


def dequantize_int4(numbers: Tensor, scales: Tensor, minima: Tensor, dtype: torch.dtype) -> Tensor:
    """`[out, in]` of what `quantize_int4` made."""
    weight = torch.empty(numbers.shape, dtype=dtype)
    for rows in _blocks(weight):
        groups = numbers[rows].view(*scales[rows].shape, -1)
        weight[rows] = torch.addcmul(minima[rows, :, None], groups, scales[rows, :, None]).flatten(1)
    return weight


def _blocks(weight: Tensor) -> Iterator[slice]:
    """Rows of a weight in pieces: a copy of it in floats would take more than the model's largest matrix."""
    step = max(_BLOCK // weight.shape[1], 1)
    return (slice(start, start + step) for start in range(0, weight.shape[0], step))
