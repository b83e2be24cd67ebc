"""Decode steps as CUDA graphs: some thousand kernels start in one go instead of one by one from Python.

A graph is captured for a layout: which slabs decode, and a class of row counts (powers of two) for each. What changes
from step to step, token ids, positions and rows, lies in one input tensor at a fixed address. Rows are filled up to
their class by repeating the last one: the same key is written to the same place once more, which harms nobody.

A layout is captured when it has come some times, right after it was run without a graph; the graph's first logits
are compared with those. The first failure, of whatever kind, switches graphs off for this model; without memory for one
more, all go, and are captured again as they come again.
"""

import logging
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hugging_llama.engine.device_step import DeviceRows, DeviceStep
from hugging_llama.engine.flash_attention import FlashAttention
from hugging_llama.engine.kv_cache import Slab
from hugging_llama.engine.kv_step import DecodeGroup, KVStep
from hugging_llama.engine.logit_difference import allowed_difference, is_within, worst_and_most
from hugging_llama.engine.memory import is_out_of_memory

logger = logging.getLogger(__name__)

# a capture costs about as much as this many steps can win back
_MIN_USES = 16
# where memory is short, captures that fail again and again, or are dropped, must not take more time than steps
_MOST_MIN_USES = 4096
_MAX_GRAPHS = 64
_MAX_COUNTED = 1024

Forward = Callable[[Tensor, Tensor, DeviceStep], Tensor]
"""Token ids and positions `[T]` to logits `[T, vocab_size]`."""

# a slab that is gone takes its graphs with it; the reference keeps its memory free to go
LayoutKey = tuple[tuple["weakref.ref[Slab]", int], ...]


@dataclass(frozen=True, slots=True)
class _Graph:
    """`inputs` int64 `[3, T]` (token ids, positions, rows) are read and `logits` `[T, vocab_size]` written by it."""

    graph: torch.cuda.CUDAGraph
    inputs: Tensor
    logits: Tensor


class DecodeGraphs:
    """The graphs of one model. Only its step loop's thread uses them."""

    def __init__(self, forward: Forward, flash: FlashAttention | None, device: torch.device) -> None:
        self._forward = forward
        self._flash = flash
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        self._min_uses = _MIN_USES
        self._num_uses: OrderedDict[LayoutKey, int] = OrderedDict()
        self._graphs: OrderedDict[LayoutKey, _Graph] = OrderedDict()
        self.is_on = True

    @property
    def num_graphs(self) -> int:
        return len(self._graphs)

    def run(self, step: KVStep, token_ids: list[int], eager: Callable[[], Tensor]) -> Tensor:
        """The logits `[T, vocab_size]` of a step that only decodes; without a graph those of `eager`."""
        if not self.is_on:
            return eager()
        layout = tuple((weakref.ref(group.slab), _row_class(group)) for group in step.decode)
        graph = self._graphs.get(layout)
        if graph is not None:
            self._graphs.move_to_end(layout)
            return self._replay(graph, step, token_ids)
        logits = eager()
        if self._comes_again(layout) and not self._add(layout, step, token_ids, logits):
            # what a graph that is not used has written to the cache is written again
            logits = eager()
        return logits

    def _comes_again(self, layout: LayoutKey) -> bool:
        count = self._num_uses.pop(layout, 0) + 1
        self._num_uses[layout] = count
        if len(self._num_uses) > _MAX_COUNTED:
            self._num_uses.popitem(last=False)
        return count >= self._min_uses

    def _add(self, layout: LayoutKey, step: KVStep, token_ids: list[int], expected: Tensor) -> bool:
        """True if the layout has a graph now, and `expected` are its logits."""
        for known in [known for known in self._graphs if any(slab() is None for slab, _ in known)]:
            del self._graphs[known]
        while len(self._graphs) >= _MAX_GRAPHS:
            self._graphs.popitem(last=False)
        try:
            # a capture that fails leaves the thread on its own stream
            with torch.cuda.device(self._device), torch.cuda.stream(torch.cuda.current_stream(self._device)):
                graph = self._capture(step, token_ids)
            difference = worst_and_most(self._replay(graph, step, token_ids), expected)
        except Exception as error:
            if is_out_of_memory(error):
                # what the others take is of more use to sequences; there may be room again later
                self._give_up()
                return False
            # a model that waits for the device in the middle of its forward
            self._switch_off(f"{type(error).__name__}: {error}")
            return False
        if is_within(*difference, allowed_difference(expected.dtype)):
            self._graphs[layout] = graph
            del self._num_uses[layout]
            self._min_uses = max(self._min_uses // 2, _MIN_USES)
            return True
        self._switch_off(f"their logits differ by {difference[0]:.2g}")
        return False

    def drop(self) -> bool:
        """Memory is short: frees all graphs. False if there are none."""
        if not self._graphs:
            return False
        self._give_up()
        return True

    def _give_up(self) -> None:
        """For now: they are captured again after twice as many uses as before, until one is there."""
        self._graphs.clear()
        self._num_uses.clear()
        self._pool = torch.cuda.graph_pool_handle()
        self._min_uses = min(2 * self._min_uses, _MOST_MIN_USES)

    def _switch_off(self, reason: str) -> None:
        self.is_on = False
        self._graphs.clear()
        self._num_uses.clear()
        logger.warning("this model decodes without CUDA graphs: %s", reason.split("\n")[0])

    def _capture(self, step: KVStep, token_ids: list[int]) -> _Graph:
        inputs = _inputs(step, token_ids).to(self._device)
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            # libraries set themselves up in their first call, which can't be captured
            self._forward(inputs[0], inputs[1], self._device_step(step, inputs[2], inputs[1]))
        graph = torch.cuda.CUDAGraph()
        # made anew: what it derives from the inputs has to be computed within the graph
        device_step = self._device_step(step, inputs[2], inputs[1])
        # other models' threads may allocate meanwhile
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            logits = self._forward(inputs[0], inputs[1], device_step)
        return _Graph(graph, inputs, logits)

    def _device_step(self, step: KVStep, rows: Tensor, positions: Tensor) -> DeviceStep:
        groups, start = [], 0
        for group in step.decode:
            stop = start + _row_class(group)
            groups.append(DeviceRows(group.slab, start, stop, rows[start:stop], positions[start:stop]))
            start = stop
        return DeviceStep(groups, self._flash)

    def _replay(self, graph: _Graph, step: KVStep, token_ids: list[int]) -> Tensor:
        graph.inputs.copy_(_inputs(step, token_ids))
        with torch.cuda.device(self._device):
            graph.graph.replay()
        places: list[int] = []
        start = 0
        for group in step.decode:
            places += range(start, start + len(group.rows))
            start += _row_class(group)
        # a copy: the next replay of any graph of the pool may write over it
        if len(places) == len(graph.logits):
            return graph.logits.clone()
        return graph.logits[torch.tensor(places, device=self._device)]


def _row_class(group: DecodeGroup) -> int:
    """The rows of the group's graph: a power of two, at most all of the slab."""
    return int(min(1 << (len(group.rows) - 1).bit_length(), group.slab.num_slots))


def _inputs(step: KVStep, token_ids: list[int]) -> Tensor:
    """`[3, T]`: token ids, positions and rows, each group filled up by its last row."""
    columns: tuple[list[int], list[int], list[int]] = ([], [], [])
    for group in step.decode:
        missing = _row_class(group) - len(group.rows)
        parts = (token_ids[group.start : group.stop], group.positions, group.rows)
        for column, part in zip(columns, parts, strict=True):
            column += part + part[-1:] * missing
    return torch.tensor(columns)
