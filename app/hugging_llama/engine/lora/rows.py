"""Whose rows get which change in a forward (the batching of S-LoRA, arXiv:2311.03285, and Punica, arXiv:2310.18547).

The base model computes all rows together; then the rows of each adapter get theirs. Rows of sequences without an
adapter are not touched.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hugging_llama.engine.lora.adapter import LoraAdapter
from hugging_llama.errors import GenerationError


@dataclass(frozen=True, slots=True)
class _WholeChange:
    """All rows have one adapter, as in `generate`."""

    adapter: LoraAdapter

    def add(self, module: nn.Module, x: Tensor, y: Tensor, *, is_head: bool) -> Tensor:
        """See RowChange."""
        delta = self.adapter.deltas.get(module)
        return y if delta is None else y + delta(x.reshape(-1, x.shape[-1])).view(y.shape)


@dataclass(frozen=True, slots=True)
class _Group:
    """The rows of one adapter: a slice where they lie side by side, else their numbers."""

    adapter: LoraAdapter
    rows: slice | Tensor


class _StepChange:
    """Sequences beside each other; see `adapted_rows`."""

    def __init__(
        self,
        adapters: Sequence[LoraAdapter | None],
        num_tokens: Sequence[int],
        num_kept: Sequence[int],
        device: torch.device,
    ) -> None:
        self._groups = _groups(adapters, num_tokens, device)
        self._head_groups = _groups(adapters, num_kept, device)
        self._num_rows = sum(num_tokens)

    def add(self, module: nn.Module, x: Tensor, y: Tensor, *, is_head: bool) -> Tensor:
        """See RowChange. Raises GenerationError for a layer whose rows are not the step's."""
        x = x.reshape(-1, x.shape[-1])
        y = y.contiguous()
        rows = y.view(-1, y.shape[-1])
        if not is_head and not self._num_rows <= len(x) <= self._num_rows + 1:
            raise GenerationError("this model computes a layer that the adapter changes in an order of its own")
        for group in self._head_groups if is_head else self._groups:
            delta = group.adapter.deltas.get(module)
            if delta is None:
                continue
            if isinstance(group.rows, slice):
                rows[group.rows].add_(delta(x[group.rows]))
            else:
                rows.index_add_(0, group.rows, delta(x.index_select(0, group.rows)))
        return y


def adapted(adapter: LoraAdapter | None) -> AbstractContextManager[None]:
    """Inside, all rows of a forward have this adapter."""
    return nullcontext() if adapter is None else adapter.current.applied(_WholeChange(adapter))


def adapted_rows(
    adapters: Sequence[LoraAdapter | None],
    num_tokens: Sequence[int],
    num_kept: Sequence[int],
    device: torch.device,
) -> AbstractContextManager[None]:
    """Inside, each sequence's rows have its adapter; at least one must have one.

    The sequences lie beside each other, with `num_tokens` rows each in all layers and `num_kept` in the output head.
    A row behind them belongs to nobody.
    """
    current = next(adapter.current for adapter in adapters if adapter is not None)
    return current.applied(_StepChange(adapters, num_tokens, num_kept, device))


def _groups(
    adapters: Sequence[LoraAdapter | None], num_rows: Sequence[int], device: torch.device
) -> tuple[_Group, ...]:
    rows: dict[LoraAdapter, list[int]] = {}
    start = 0
    for adapter, size in zip(adapters, num_rows, strict=True):
        if adapter is not None and size:
            rows.setdefault(adapter, []).extend(range(start, start + size))
        start += size
    return tuple(_Group(adapter, _as_slice(found, device)) for adapter, found in rows.items())


def _as_slice(rows: list[int], device: torch.device) -> slice | Tensor:
    if rows[-1] - rows[0] == len(rows) - 1:
        return slice(rows[0], rows[-1] + 1)
    return torch.tensor(rows, device=device)
