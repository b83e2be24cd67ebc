"""What the package `flash_attn` computes, by its documentation, in plain torch: for machines without it.

Layouts, masks and argument names are the package's own: `[batch, tokens, heads, head_dim]`, causal from the bottom
right, windows of (left, right) keys beside a query's own with -1 for all, softcap after scaling. Nothing waits for
the device.
"""

import torch
from torch import Tensor

from hugging_llama.engine.flash_attention import FlashAttention, FlashKernels


def flash_attn_with_kvcache(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    *,
    cache_seqlens: Tensor,
    cache_batch_idx: Tensor,
    softmax_scale: float,
    causal: bool,
    window_size: tuple[int, int],
    softcap: float,
) -> Tensor:
    assert cache_seqlens.dtype == cache_batch_idx.dtype == torch.int32
    assert all(tensor.stride(-1) == 1 for tensor in (q, k_cache, v_cache))
    keys, values = k_cache[cache_batch_idx.long()], v_cache[cache_batch_idx.long()]
    return _attention(q, keys, values, cache_seqlens.long(), softmax_scale, causal, window_size, softcap)


def flash_attn_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    softmax_scale: float,
    causal: bool,
    window_size: tuple[int, int],
    softcap: float,
) -> Tensor:
    assert all(tensor.stride(-1) == 1 for tensor in (q, k, v))
    lengths = torch.full((len(q),), k.shape[1], device=q.device)
    return _attention(q, k, v, lengths, softmax_scale, causal, window_size, softcap)


def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor,
    scale: float,
    causal: bool,
    window: tuple[int, int],
    softcap: float,
) -> Tensor:
    group = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(group, dim=2), v.repeat_interleave(group, dim=2)
    scores = torch.einsum("bqhd,bkhd->bhqk", q.float(), k.float()) * scale
    if softcap:
        scores = torch.tanh(scores / softcap) * softcap
    columns = torch.arange(k.shape[1], device=q.device)
    # the last query stands at the last key
    own = lengths[:, None] - q.shape[1] + torch.arange(q.shape[1], device=q.device)
    left, right = window[0], 0 if causal else window[1]
    hidden = columns >= lengths[:, None, None]
    if right >= 0:
        hidden = hidden | (columns > own[:, :, None] + right)
    if left >= 0:
        hidden = hidden | (columns < own[:, :, None] - left)
    weights = scores.masked_fill(hidden[:, None], -torch.inf).softmax(dim=-1)
    return torch.einsum("bhqk,bkhd->bqhd", weights, v.float()).to(q.dtype)


REFERENCE = FlashAttention(FlashKernels(flash_attn_with_kvcache, flash_attn_func))
