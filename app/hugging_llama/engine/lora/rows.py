"""Whose rows get which change in a forward (the batching of S-LoRA, arXiv:2311.03285, and Punica, arXiv:2310.18547).

The base model computes all rows together; then the rows of each adapter get theirs. Rows of sequences without an
adapter are not touched.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from hugging_llama.engine.lora.adapter import LoraAdapter, TorchFactors
from hugging_llama.engine.native.lora import LowRankFactors, RowGroups, add_lora
from hugging_llama.errors import GenerationError


def adapted(adapter: LoraAdapter | None) -> AbstractContextManager[None]:
    """Inside, all rows of a forward have this adapter, as in `generate`."""
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


class _WholeChange:
    """All rows have one adapter."""

    def __init__(self, adapter: LoraAdapter) -> None:
        self._adapter = adapter
        self._rows: dict[int, _AdapterRows] = {}

    def add(self, module: nn.Module, x: Tensor, y: Tensor, *, is_head: bool) -> Tensor:
        """See RowChange."""
        n = x.numel() // x.shape[-1]
        rows = self._rows.get(n)
        if rows is None:
            rows = self._rows[n] = _AdapterRows({self._adapter: list(range(n))}, x.device)
        return rows.add(module, x, y)


class _StepChange:
    """Sequences beside each other; see `adapted_rows`."""

    def __init__(
        self,
        adapters: Sequence[LoraAdapter | None],
        num_tokens: Sequence[int],
        num_kept: Sequence[int],
        device: torch.device,
    ) -> None:
        self._num_rows = sum(num_tokens)
        # a head takes no fewer rows
        self._num_head_rows = max(sum(num_kept), 1)
        self._rows = _AdapterRows(_by_adapter(adapters, num_tokens), device)
        self._head_rows = _AdapterRows(_by_adapter(adapters, num_kept), device)

    def add(self, module: nn.Module, x: Tensor, y: Tensor, *, is_head: bool) -> Tensor:
        """See RowChange. Raises GenerationError for a layer whose rows are not the step's."""
        num_rows = x.numel() // x.shape[-1]
        if is_head and num_rows == self._num_head_rows:
            return self._head_rows.add(module, x, y)
        if not self._num_rows <= num_rows <= self._num_rows + 1:
            raise GenerationError("this model computes a layer that the adapter changes in an order of its own")
        return self._rows.add(module, x, y)


class _AdapterRows:
    """The numbers of the rows of each adapter."""

    def __init__(self, rows: dict[LoraAdapter, list[int]], device: torch.device) -> None:
        self._rows = rows
        self._device = device
        # by the adapters that change a layer: mostly it is all of them
        self._native: dict[tuple[LoraAdapter, ...], RowGroups] = {}
        self._places: dict[LoraAdapter, slice | Tensor] = {}

    def add(self, module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """See RowChange."""
        found = {adapter: factors for adapter in self._rows if (factors := adapter.factors.get(module)) is not None}
        if not found:
            return y
        y = y.contiguous()
        rows, inputs = y.view(-1, y.shape[-1]), x.reshape(-1, x.shape[-1])
        native = [factors for factors in found.values() if isinstance(factors, LowRankFactors)]
        if native:  # a model has factors of one kind
            add_lora(rows, inputs, self._groups(tuple(found)), native)
            return y
        for adapter, factors in found.items():
            if isinstance(factors, TorchFactors):
                self._add(rows, inputs, adapter, factors)
        return y

    def _groups(self, adapters: tuple[LoraAdapter, ...]) -> RowGroups:
        groups = self._native.get(adapters)
        if groups is None:
            groups = self._native[adapters] = RowGroups.of([self._rows[adapter] for adapter in adapters])
        return groups

    def _add(self, rows: Tensor, inputs: Tensor, adapter: LoraAdapter, factors: TorchFactors) -> None:
        place = self._places.get(adapter)
        if place is None:
            place = self._places[adapter] = _as_slice(self._rows[adapter], self._device)
        if isinstance(place, slice):
            rows[place].add_(factors(inputs[place]))
        else:
            rows.index_add_(0, place, factors(inputs.index_select(0, place)))


def _by_adapter(adapters: Sequence[LoraAdapter | None], num_rows: Sequence[int]) -> dict[LoraAdapter, list[int]]:
    rows: dict[LoraAdapter, list[int]] = {}
    start = 0
    for adapter, size in zip(adapters, num_rows, strict=True):
        if adapter is not None and size:
            rows.setdefault(adapter, []).extend(range(start, start + size))
        start += size
    return rows


def _as_slice(rows: list[int], device: torch.device) -> slice | Tensor:
    """A slice where the rows lie side by side."""
    if rows[-1] - rows[0] == len(rows) - 1:
        return slice(rows[0], rows[-1] + 1)
    return torch.tensor(rows, device=device)
