"""One attention function for every model: flattened `[1, T]` input, keys and values in our own cache.

Registered with transformers' `AttentionInterface`; no mask function is registered under that name, so models build
no mask and pass None. The step's layout comes in as the keyword `kv_step`, which models hand down untouched.

On a processor that has them the native kernels attend, on CUDA FlashAttention where it is installed, each sequence
over its own keys alone; elsewhere torch's do, over rows that are padded to the longest beside them
(`padded_attention.py`). A decode step that a CUDA graph holds is a `DeviceStep`.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from hugging_llama.engine.device_step import DeviceRows, DeviceStep
from hugging_llama.engine.flash_attention import FlashAttention
from hugging_llama.engine.kv_cache import LayerShape
from hugging_llama.engine.kv_step import KVStep
from hugging_llama.engine.native.attention import chunk_attention, decode_attention
from hugging_llama.engine.padded_attention import AttentionKind, padded_attention, whole_attention
from hugging_llama.engine.slab_attention import slab_attention

ATTENTION_NAME = "hugging_llama"
STEP_KWARG = "kv_step"


class UnsupportedAttentionError(Exception):
    """A model wants attention that can't be computed from the cache. It never leaves the self-test."""


@dataclass(slots=True)
class LayerProbe:
    """Stands in for a KVStep to learn what a model's attention layers receive; attends causally over `T` tokens.

    `kinds` tells how each layer was called. A layer that comes twice in one forward (as cross attention does) is
    noted in `repeated`.
    """

    shapes: dict[int, LayerShape] = field(default_factory=dict)
    kinds: dict[int, AttentionKind] = field(default_factory=dict)
    repeated: set[int] = field(default_factory=set)
    layer: int | None = None

    @property
    def windows(self) -> dict[int, int | None]:
        return {layer: kind.window for layer, kind in self.kinds.items()}

    def note(self, layer: int, key: Tensor, value: Tensor, kind: AttentionKind) -> None:
        """Remembers one call; `key` and `value` `[T, num_kv_heads, head_dim]`."""
        if layer in self.shapes:
            self.repeated.add(layer)
        self.shapes[layer] = LayerShape(key.shape[1], key.shape[2], value.shape[2])
        self.kinds[layer] = kind


def batched_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    kv_step: KVStep | DeviceStep | LayerProbe | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention over the cache, causal within each sequence.

    `query` `[1, num_heads, T, head_dim]`, `key` and `value` `[1, num_kv_heads, T, head_dim]`; returns
    `[1, T, num_heads, value_head_dim]`. Decode tokens may come as T rows instead, `[T, num_heads, 1, head_dim]`, and
    then leave as `[T, 1, num_heads, value_head_dim]`. `s_aux` are attention sinks `[num_heads]`, `softcap` limits
    scores.

    Without a step `key` and `value` `[B, num_kv_heads, keys, head_dim]` are all that `query` `[B, num_heads, T,
    head_dim]` sees, its own at the end: so `generate` runs with this function, too.

    Raises UnsupportedAttentionError for what it can't honour; the self-test at load then chooses the other runner.
    """
    if position_bias is not None or attention_mask is not None or not getattr(module, "is_causal", True):
        raise UnsupportedAttentionError("it attends in its own way, with masks or a bias")
    kind = AttentionKind(query.shape[-1] ** -0.5 if scaling is None else scaling, sliding_window, softcap, s_aux)
    if kv_step is None:
        return whole_attention(query, key, value, kind), None
    # layers may share one attention module
    layer: int = module.layer_idx if kv_step.layer is None else kv_step.layer  # type: ignore[assignment]
    has_rows = query.shape[0] > 1
    if has_rows and query.shape[2] != 1:
        raise UnsupportedAttentionError("rows of several tokens can't be batched")
    # models make [T, heads, dim] and turn it around; that is undone without a copy
    query, key, value = (x[:, :, 0] if has_rows else x[0].transpose(0, 1) for x in (query, key, value))
    if isinstance(kv_step, LayerProbe):
        kv_step.note(layer, key, value, kind)
        out = query.new_zeros(query.shape[0], query.shape[1], value.shape[2])
    else:
        out = attend(kv_step, layer, query, key, value, kind)
    return out[:, None] if has_rows else out[None], None


def attend(
    step: KVStep | DeviceStep, layer: int, query: Tensor, key: Tensor, value: Tensor, kind: AttentionKind
) -> Tensor:
    """Stores the new keys and values and attends; all `[T, heads, head_dim]`, in the order of the step."""
    flash = step.flash if step.flash is not None and step.flash.takes(query.shape[2], value.shape[2], kind) else None
    if isinstance(step, DeviceStep):
        return torch.cat([_on_device(group, flash, layer, query, key, value, kind) for group in step.groups])
    if step.is_native:
        parts = _native_attention(step, layer, query, key, value, kind)
    else:
        step.write(layer, key, value)
        attending = padded_attention if flash is None else flash.parts
        parts = attending(step, layer, query, kind)
    if step.num_padding:
        parts.append(query.new_zeros(step.num_padding, query.shape[1], value.shape[2]))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _on_device(
    group: DeviceRows,
    flash: FlashAttention | None,
    layer: int,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    kind: AttentionKind,
) -> Tensor:
    group.write(layer, key, value)
    attending = slab_attention if flash is None else flash.decode
    return attending(group, layer, query[group.start : group.stop], kind)


def _native_attention(
    step: KVStep, layer: int, query: Tensor, key: Tensor, value: Tensor, kind: AttentionKind
) -> list[Tensor]:
    parts = []
    if n := step.num_decode:
        parts.append(
            decode_attention(
                query[:n],
                step.layer_cache(layer),
                step.places,
                scaling=kind.scaling,
                window=kind.window,
                softcap=kind.softcap,
                sinks=kind.sinks,
                new_keys=key[:n],
                new_values=value[:n],
            )
        )
    for chunk in step.chunks:
        at = slice(chunk.start, chunk.stop)
        parts.append(
            chunk_attention(
                query[at],
                chunk.slab.keys[layer][chunk.row],
                chunk.slab.values[layer][chunk.row],
                chunk.position,
                scaling=kind.scaling,
                window=kind.window,
                softcap=kind.softcap,
                sinks=kind.sinks,
                new_keys=key[at],
                new_values=value[at],
            )
        )
    return parts


AttentionInterface.register(ATTENTION_NAME, batched_attention)
