"""The best tokens of each row of logits, in an order that depends on nothing but the row itself.

Ties are common in half precision, and neither `topk` nor `sort` says which of two equals comes first. Here the lower
id does, and a window that ends within equals says so, so a row's candidates are the same alone and in any batch.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_BLOCK = 64
_BLOCKS_PER_CANDIDATE = 8
"""With fewer blocks than this for each candidate, looking at the blocks first saves nothing."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """`scores` `[n, width]`, best first, of the tokens `ids` `[n, width]`; equals by ascending id.

    Only the first `num_sure` `[n]` places of a row are certain: equals of its last score may lie outside. Where that
    is minus infinity nothing outside can be chosen, and `num_sure` is the size of the vocabulary.
    """

    scores: Floats
    ids: Integers
    num_sure: Integers


def top_candidates(rows: Tensor, width: int) -> Candidates:
    """The `width` best tokens of `rows` `[n, vocab_size]`, any float dtype. NaN counts as the best."""
    if width >= rows.shape[1]:
        # stable: equals stay in the order of their ids
        scores, ids = torch.sort(rows, dim=-1, descending=True, stable=True)
        values = _to_numpy(scores).astype(np.float64)
        return Candidates(values, _to_numpy(ids), np.full(len(values), values.shape[1]))
    scores, ids = _top_of_blocks(rows, width) if _is_wide(rows, width) else torch.topk(rows, width, dim=-1)
    values, places = _to_numpy(scores).astype(np.float64), _to_numpy(ids)
    order = np.lexsort((places, -values), axis=-1)
    values, places = np.take_along_axis(values, order, axis=-1), np.take_along_axis(places, order, axis=-1)
    num_sure = (values > values[:, -1:]).sum(axis=-1)
    # grammars leave few tokens: to look at all the others would be the dearest part of a step
    return Candidates(values, places, np.where(values[:, -1] == -np.inf, rows.shape[1], num_sure))


def tempered(row: Tensor, temperature: float) -> Tensor:
    """exp((x - best) / temperature) for all of `row` `[vocab_size]`, float32; NaN where no logit is a number."""
    scores = row.to(torch.float32, copy=True)
    # the best is subtracted first, so that a tiny temperature does not overflow
    return scores.sub_(scores.amax()).div_(temperature).exp_()


def total_mass(row: Tensor, temperature: float) -> float:
    """The sum of the tempered `row` `[vocab_size]`.

    One row at a time: a sum over several is split in another way, and its last digits with it.
    """
    return float(tempered(row, temperature).sum())


def _is_wide(rows: Tensor, width: int) -> bool:
    return rows.shape[1] // _BLOCK >= _BLOCKS_PER_CANDIDATE * width


def _top_of_blocks(rows: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """`topk` in two steps: the `width` best tokens lie in the `width` blocks with the best maxima.

    Maxima are one vectorised pass, `topk` over a whole vocabulary is several times slower. A block is a column of the
    row seen as a grid, because a maximum over rows is faster than one along them.
    """
    columns = rows.shape[1] // _BLOCK
    split = columns * _BLOCK
    grid = rows[:, :split].reshape(len(rows), _BLOCK, columns)
    chosen = grid.amax(dim=1).topk(width, dim=-1).indices[:, None, :].expand(-1, _BLOCK, -1)
    scores = grid.gather(2, chosen).flatten(1)
    lines = torch.arange(_BLOCK, device=rows.device)[:, None] * columns
    ids = (chosen + lines).flatten(1)
    if split < rows.shape[1]:
        rest = torch.arange(split, rows.shape[1], device=rows.device).expand(len(rows), -1)
        scores, ids = torch.cat((scores, rows[:, split:]), dim=1), torch.cat((ids, rest), dim=1)
    best, places = scores.topk(width, dim=-1)
    return best, ids.gather(1, places)


def _to_numpy(values: Tensor) -> NDArray[Any]:
    found: NDArray[Any] = (values.float() if values.is_floating_point() else values).cpu().numpy()
    return found
