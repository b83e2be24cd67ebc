"""The best entries of rows of logits.

Larger comes first, of equals the lower index. A NaN counts as infinity in the search and is returned as it is, so the
first value of a row with NaN or infinity is not finite.
"""

import torch
from torch import Tensor

from hugging_llama.engine.native.library import format_of, kernels, rows_of


def argmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The best value (float32) and its index (int64) `[m]` of each row of `logits` `[m, n]`, n at least 1."""
    m, n = logits.shape
    if n < 1:
        raise ValueError("a row has no entries")
    rows, _, stride = rows_of(logits)
    values, indices = torch.empty(m, dtype=torch.float32), torch.empty(m, dtype=torch.int64)
    failed = kernels().hl_argmax(
        rows.data_ptr(), stride, m, n, format_of(logits), values.data_ptr(), indices.data_ptr(),
        torch.get_num_threads(),
    )  # fmt: skip
    if failed:
        raise MemoryError("no memory for a selection")
    return values, indices


def topk(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The best `k` values (float32) and their indices (int64) `[m, k]` of rows `[m, n]`, 1 <= k <= n; best first."""
    m, n = logits.shape
    if not 1 <= k <= n:
        raise ValueError(f"{k} entries of {n} can't be chosen")
    rows, _, stride = rows_of(logits)
    values, indices = torch.empty((m, k), dtype=torch.float32), torch.empty((m, k), dtype=torch.int64)
    failed = kernels().hl_topk(
        rows.data_ptr(), stride, m, n, k, format_of(logits), values.data_ptr(), indices.data_ptr(),
        torch.get_num_threads(),
    )  # fmt: skip
    if failed:
        raise MemoryError("no memory for a selection")
    return values, indices
