"""The small steps between matrix products, each in one pass over its rows.

Every intermediate result is rounded to the rows' dtype where transformers' modules round it, so a module that is
replaced by one of these answers the same. Rows are bfloat16 or float32 on the CPU; shapes are checked.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hugging_llama.engine.native.library import format_of, kernels, rows_of


def rms_norm(x: Tensor, weight: Tensor, eps: float, *, offset: float = 0.0) -> Tensor:
    """Root mean square norm (arXiv:1910.07467) of `x` `[..., n]`, times `weight` `[n]`.

    `offset` 0 rounds the normalised row before it is multiplied, as Llama does; Gemma adds 1 to the weight.
    """
    return _norm(x, None, weight, eps, offset)[1]


def add_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float, *, offset: float = 0.0
) -> tuple[Tensor, Tensor]:
    """`x + residual`, and the norm of that sum; see `rms_norm`."""
    if residual.shape != x.shape or residual.dtype != x.dtype:
        raise ValueError("the residual has another shape or dtype than the rows")
    return _norm(x, residual.contiguous(), weight, eps, offset)


def _norm(x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, offset: float) -> tuple[Tensor, Tensor]:
    n = x.shape[-1]
    if weight.shape != (n,) or weight.dtype != x.dtype:
        raise ValueError("the weight has another width or dtype than the rows")
    rows, m, stride = rows_of(x)
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    total = x if residual is None else torch.empty_like(residual)
    kernels().hl_rms_norm(
        rows.data_ptr(), stride, None if residual is None else residual.data_ptr(), weight.data_ptr(), m, n,
        format_of(x), eps, offset, None if residual is None else total.data_ptr(), out.data_ptr(),
        torch.get_num_threads(),
    )  # fmt: skip
    return total, out


def silu_mul(x: Tensor) -> Tensor:
    """`silu(gate) * up` `[..., n]` of rows `[..., 2 n]`: gate, then up, as one joint linear layer makes them."""
    if x.shape[-1] % 2:
        raise ValueError("gate and up have different widths")
    n = x.shape[-1] // 2
    rows, m, stride = rows_of(x)
    out = x.new_empty((*x.shape[:-1], n))
    kernels().hl_silu_mul(rows.data_ptr(), stride, m, n, format_of(x), out.data_ptr(), torch.get_num_threads())
    return out


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding (arXiv:2104.09864, by halves) of `x` `[tokens, num_heads, head_dim]`.

    `cos`, `sin` `[tokens, rotary_dim]` as transformers makes them; dimensions beyond `rotary_dim` stay. The rows of
    `x` may be a slice of wider ones (the queries or keys in a joint projection). Contiguous result.
    """
    tokens, num_heads, head_dim = x.shape
    rotary_dim = cos.shape[-1]
    if cos.shape != (tokens, rotary_dim) or sin.shape != cos.shape or rotary_dim > head_dim or rotary_dim % 2:
        raise ValueError("the angles don't fit the heads")
    if cos.dtype != x.dtype or sin.dtype != x.dtype:
        raise ValueError("the angles have another dtype than the heads")
    if x.stride(2) != 1 or x.stride(1) != head_dim:
        x = x.contiguous()
    out = x.new_empty((tokens, num_heads, head_dim))
    kernels().hl_rotate(
        x.data_ptr(), x.stride(0), cos.contiguous().data_ptr(), sin.contiguous().data_ptr(), tokens, num_heads,
        head_dim, rotary_dim, format_of(x), out.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    return out


def mask_rows(x: Tensor, bits: NDArray[np.int32]) -> Tensor:
    """`x` `[m, n]` as float32, minus infinity where the column's bit is not set.

    `bits` `[m, at least n / 32]` is contiguous; bit i of a row is bit i % 32 of its word i / 32.
    """
    rows, m, stride = rows_of(x)
    n = x.shape[-1]
    if bits.shape[0] != m or bits.shape[1] * 32 < n or not bits.flags["C_CONTIGUOUS"]:
        raise ValueError("the bits don't fit the rows")
    out = torch.empty((m, n), dtype=torch.float32)
    kernels().hl_mask_rows(
        rows.data_ptr(), stride, bits.ctypes.data, bits.shape[1], m, n, format_of(x), out.data_ptr(),
        torch.get_num_threads(),
    )  # fmt: skip
    return out
