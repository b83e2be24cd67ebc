"""FlashAttention (arXiv:2307.08691) over the slots of the KV cache, where the package `flash_attn` is installed.

Rows need no padding: the kernels are told each row's length. Layers that they don't take (sinks, heads that are too
wide, values of another size than keys) stay with torch's operators.
"""

import functools
import importlib
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hugging_llama.engine.device_step import DeviceRows
from hugging_llama.engine.kv_cache import KVSlot, LayerShape, Slab
from hugging_llama.engine.kv_step import KVStep, PromptChunk, decode_groups
from hugging_llama.engine.memory import raise_if_out_of_memory
from hugging_llama.engine.padded_attention import AttentionKind, padded_attention

_log = logging.getLogger(__name__)

_MAX_HEAD_DIM = 256
# other sizes are padded, which would copy the whole cache at every step
_HEAD_DIM_MULTIPLE = 8
# relative to the norm of the right answer; both sides are rounded to half precision
_ALLOWED_ERROR = 0.02
_PROBED_WINDOW = 20


@dataclass(frozen=True, slots=True)
class FlashKernels:
    """`flash_attn_with_kvcache` and `flash_attn_func` of the package, or what computes the same."""

    with_kvcache: Callable[..., Tensor]
    plain: Callable[..., Tensor]


class FlashAttention:
    """Attention whose keys and values are in the cache already."""

    def __init__(self, kernels: FlashKernels) -> None:
        self._kernels = kernels

    def takes(self, key_head_dim: int, value_head_dim: int, kind: AttentionKind) -> bool:
        """Whether a layer can be computed so."""
        is_even = key_head_dim % _HEAD_DIM_MULTIPLE == 0
        return kind.sinks is None and key_head_dim == value_head_dim <= _MAX_HEAD_DIM and is_even

    def decode(self, group: DeviceRows, layer: int, query: Tensor, kind: AttentionKind) -> Tensor:
        """`query` `[n, num_heads, head_dim]` of the group; returns the same shape."""
        out = self._kernels.with_kvcache(
            query[:, None],
            group.slab.keys[layer].transpose(1, 2),
            group.slab.values[layer].transpose(1, 2),
            cache_seqlens=group.lengths_int32,
            cache_batch_idx=group.rows_int32,
            softmax_scale=kind.scaling,
            causal=True,
            window_size=_window(kind),
            softcap=kind.softcap or 0.0,
        )
        return out[:, 0]

    def chunk(self, chunk: PromptChunk, layer: int, query: Tensor, kind: AttentionKind) -> Tensor:
        """`query` `[n, num_heads, head_dim]`, the last of the row's tokens; returns the same shape."""
        stop = chunk.position + len(query)
        out = self._kernels.plain(
            query[None],
            chunk.slab.keys[layer][chunk.row, :, :stop].transpose(0, 1)[None],
            chunk.slab.values[layer][chunk.row, :, :stop].transpose(0, 1)[None],
            softmax_scale=kind.scaling,
            causal=True,
            window_size=_window(kind),
            softcap=kind.softcap or 0.0,
        )
        return out[0]

    def parts(self, step: KVStep, layer: int, query: Tensor, kind: AttentionKind) -> list[Tensor]:
        """The outputs of a step's groups and chunks in the order of the input; `query` `[T, num_heads, head_dim]`."""
        decode = [self.decode(g.on_device, layer, query[g.start : g.stop], kind) for g in step.decode]
        return decode + [self.chunk(c, layer, query[c.start : c.stop], kind) for c in step.chunks]


@functools.cache
def find_flash_attention(device: torch.device, dtype: torch.dtype) -> FlashAttention | None:
    """None where it is not installed, not made for the device or dtype, or computes something else than torch."""
    if device.type != "cuda" or dtype not in (torch.float16, torch.bfloat16):
        return None
    if importlib.util.find_spec("flash_attn") is None:
        return None
    try:
        package = importlib.import_module("flash_attn")
        flash = FlashAttention(FlashKernels(package.flash_attn_with_kvcache, package.flash_attn_func))
        reason = "" if agrees_with_torch(flash, device, dtype) else "it computes something else than torch"
    except Exception as error:
        raise_if_out_of_memory(error)
        # a build for another torch or another device fails in its own ways
        reason = f"{type(error).__name__}: {error}"
    if reason:
        _log.warning("flash_attn is installed but not used: %s", reason)
        return None
    _log.info("attention by flash_attn")
    return flash


@torch.inference_mode()
def agrees_with_torch(flash: FlashAttention, device: torch.device, dtype: torch.dtype) -> bool:
    """Compares both on random rows and chunks, with and without window and softcap."""
    random = torch.Generator().manual_seed(0)
    shape = LayerShape(num_kv_heads=2, key_head_dim=64, value_head_dim=64)
    slab = Slab(0, 256, 4, {0: shape}, dtype=dtype, device=device)
    for buffer in (slab.keys[0], slab.values[0]):
        buffer.copy_(torch.randn(buffer.shape, generator=random))
    decode = decode_groups([KVSlot(slab, 0), KVSlot(slab, 2)], [7, 200])
    step = KVStep(decode, [PromptChunk(slab, 3, 90, 2, 39), PromptChunk(slab, 1, 0, 39, 44)], is_native=False)
    query = torch.randn(44, 6, 64, generator=random).to(device, dtype)
    for window, softcap in ((None, None), (_PROBED_WINDOW, None), (None, 1.0)):
        kind = AttentionKind(0.25, window, softcap)
        expected = torch.cat(padded_attention(step, 0, query, kind)).float()
        found = torch.cat(flash.parts(step, 0, query, kind)).float()
        # written so that NaN fails
        if not (found - expected).norm() <= _ALLOWED_ERROR * expected.norm():
            return False
    return True


def _window(kind: AttentionKind) -> tuple[int, int]:
    """Keys to the left of a query's own, and to its right; -1 for all. The right side is cut by causality."""
    return (-1, -1) if kind.window is None else (kind.window - 1, 0)
