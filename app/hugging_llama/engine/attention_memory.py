"""What attention takes for a while beside its inputs and outputs, and that there is so much.

Models read their inputs at once, and some make scores or masks of all pairs of tokens: of a long input those are
gigabytes, and a process that takes more than there is gets killed with all requests of all models.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from transformers import PreTrainedModel

from hugging_llama.engine.memory import free_bytes
from hugging_llama.engine.wide_attention import WIDE_NAME

_SCORES = 13
_PLACES_BY_HEAD, _PLACES_BY_ROW = 24, 33
_WINDOW_BY_HEAD, _WINDOW_BY_ROW = 24, 110
_WINDOWS = 17
_PADDING = 8
"""Bytes for each pair of tokens, as measured over the families that are loaded (transformers 5, float32, on the CPU and
on CUDA). Scores and their softmax are there once a head (8 to 13.1 bytes), DeBERTa's, which depend on how far tokens
are apart, take 16 to 24 a head and 24 to 32.5 a row; masks of sliding windows are there once a row (8 to 16), those of
padding, too (5 to 7). Longformer's, which computes within windows of its own, takes as much for each token and place of
a window as the two say, with all copies (72 to 325 were measured). torch's fused attention needs nothing else."""
_FUSED = {"sdpa", WIDE_NAME}
_SMALL_BYTES = 64 * 2**20
"""Less than that is not looked at: to ask how much is free takes longer than a small forward's layer."""
_SHARE = 0.9
"""Of what is free: the rest is for the other things of a forward, and for other models."""


class AttentionMemory:
    """Of one model, by its configuration."""

    def __init__(self, module: torch.nn.Module) -> None:
        configs = [part.config.get_text_config() for part in module.modules() if isinstance(part, PreTrainedModel)]
        self._by_pair = max(map(_bytes_by_pair, configs), default=0)
        self._window = max(map(_own_window, configs), default=0)
        self._has_masks = any(config._attn_implementation in _FUSED for config in configs)

    def needed_bytes(self, lengths: Sequence[int]) -> int:
        """For a batch of rows of so many tokens; about, and rather too many."""
        longest = max(lengths)
        if self._window:  # rows are padded to a multiple of it
            return len(lengths) * -(-longest // self._window) * self._window**2 * self._by_pair
        by_padding = _PADDING if self._has_masks and min(lengths) < longest else 0
        return len(lengths) * longest**2 * max(self._by_pair, by_padding)


def _own_window(config: Any) -> int:
    """Longformer's kind: one for all layers or for each. torch's attention knows none, the model has its own."""
    window = getattr(config, "attention_window", None) or 0
    return max(window) if isinstance(window, list | tuple) else int(window)


def _bytes_by_pair(config: Any) -> int:
    """Of a row without padding."""
    num_heads = int(getattr(config, "num_attention_heads", 0) or 0)
    if _own_window(config):
        return _WINDOW_BY_HEAD * num_heads + _WINDOW_BY_ROW
    if getattr(config, "relative_attention", False):
        return _PLACES_BY_HEAD * num_heads + _PLACES_BY_ROW
    has_bias = getattr(config, "relative_attention_num_buckets", 0)  # T5's kind: a number for each pair and head
    if config._attn_implementation == "eager" or has_bias:
        return _SCORES * num_heads
    has_windows = getattr(config, "sliding_window", None) or getattr(config, "local_attention", None)
    return _WINDOWS if has_windows and config._attn_implementation in _FUSED else 0


class MemoryTooSmallError(Exception):
    """`need_bytes` are not free."""

    def __init__(self, need_bytes: int, free_bytes: int) -> None:
        super().__init__(f"{need_bytes} bytes are needed, {free_bytes} are free")
        self.need_bytes = need_bytes
        self.free_bytes = free_bytes


class ForwardMemory:
    """What running forwards have been promised: two that begin at once must not both count on all that is free."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._promised = 0

    @property
    def promised_bytes(self) -> int:
        """Now, whether they are taken yet or not."""
        return self._promised

    @contextmanager
    def promised(self, need_bytes: int, device: torch.device, waits: Callable[[], None]) -> Iterator[None]:
        """Inside, so much was free at the beginning. Waits for other forwards to end if it would be free without them,
        and calls `waits` every now and then. Raises MemoryTooSmallError, and what `waits` raises."""
        if need_bytes < _SMALL_BYTES:
            yield
            return
        with self._changed:
            while self._promised and need_bytes > _SHARE * free_bytes(device) - self._promised:
                waits()
                self._changed.wait(1.0)
            free = int(_SHARE * free_bytes(device))
            if need_bytes > free:
                raise MemoryTooSmallError(need_bytes, free)
            self._promised += need_bytes
        try:
            yield
        finally:
            with self._changed:
                self._promised -= need_bytes
                self._changed.notify_all()


FORWARD_MEMORY: Final = ForwardMemory()
"""For all models of this process."""
