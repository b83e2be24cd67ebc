"""Masks over the vocabulary: a bit for each token that may come next."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hugging_llama.engine.native.elementwise import mask_rows
from hugging_llama.engine.native.library import FORMATS
from hugging_llama.engine.native.probe import Family, native_families

Bits = NDArray[np.int32]
"""Bit i of a row is bit i % 32 of its word i / 32."""


def all_bits(num_rows: int, width: int) -> Bits:
    """Rows in which everything is allowed, `[num_rows, words]` for `width` tokens."""
    return np.full((num_rows, (width + 31) // 32), -1, dtype=np.int32)


def only(row: Bits, token_ids: list[int]) -> None:
    """Allow these and nothing else."""
    row[:] = 0
    allow(row, token_ids)


def allow(row: Bits, token_ids: list[int]) -> None:
    """Allow these, too."""
    words = row.view(np.uint32)
    for token_id in token_ids:
        words[token_id // 32] |= np.uint32(1 << token_id % 32)


def allows(row: Bits, token_id: int) -> bool:
    """Whether the token is allowed; one beyond the row is not."""
    return token_id < 32 * len(row) and bool(row.view(np.uint32)[token_id // 32] >> np.uint32(token_id % 32) & 1)


def forbid(row: Bits, token_ids: list[int]) -> None:
    """Allow these no more; ids beyond the row are fine."""
    words = row.view(np.uint32)
    for token_id in token_ids:
        if token_id < 32 * len(words):
            words[token_id // 32] &= np.uint32(~(1 << token_id % 32) & 0xFFFFFFFF)


def masked(rows: Tensor, bits: Bits) -> Tensor:
    """`rows` `[n, width]` as float32 with minus infinity for what its row of `bits` does not allow; a new tensor."""
    is_native = rows.device.type == "cpu" and rows.dtype in FORMATS and Family.ELEMENTWISE in native_families()
    if is_native:
        return mask_rows(rows, bits)
    return rows.float().masked_fill(_forbidden(bits, rows), -torch.inf)


def _forbidden(bits: Bits, rows: Tensor) -> Tensor:
    width = rows.shape[1]
    if rows.device.type == "cpu":
        allowed: NDArray[Any] = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little", count=width)
        return torch.from_numpy(allowed).view(torch.bool).logical_not()
    words = torch.from_numpy(bits).to(rows.device, non_blocking=True)
    places = torch.arange(32, device=rows.device, dtype=torch.int32)
    return ((words.unsqueeze(-1) >> places) & 1).flatten(1)[:, :width] == 0
