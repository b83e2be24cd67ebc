"""torch's fused attention, in float32 on CUDA, for models whose heads share keys and values.

None of torch's fused kernels for float32 shares heads there, and what it falls back to makes the scores of all pairs
of tokens: Qwen3 0.6B's shape took 39.6 GB for 16,384 tokens, and with keys and values repeated for each head 1.9 GB and
a third of the time (H200, torch 2.11). Models that write don't need it: they attend by `attention.py`.
"""

from typing import Any, Final

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

WIDE_NAME: Final = "hugging_llama_wide_sdpa"
_UNSHARED: Final = torch.nn.Identity()
"""In place of the layer, by whose attributes transformers would share, or repeat once more."""


def wide_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """As transformers' `sdpa_attention_forward`."""
    shared_by = query.shape[1] // key.shape[1]
    is_causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    key, value = repeat_kv(key, shared_by), repeat_kv(value, shared_by)
    return sdpa_attention_forward(_UNSHARED, query, key, value, attention_mask, is_causal=is_causal, **options)


AttentionInterface.register(WIDE_NAME, wide_attention)
AttentionMaskInterface.register(WIDE_NAME, sdpa_mask)


def use_wide_attention(module: torch.nn.Module, device: torch.device) -> None:
    """In every part of `module` that shares heads and would have torch's fused attention; on CUDA only."""
    if device.type != "cuda":
        return
    for part in module.modules():
        if isinstance(part, PreTrainedModel) and _shares_heads(part) and part._can_set_attn_implementation():
            part.set_attn_implementation(WIDE_NAME)


def _shares_heads(model: PreTrainedModel) -> bool:
    config: Any = model.config.get_text_config()
    num_heads = getattr(config, "num_attention_heads", 0)
    return config._attn_implementation == "sdpa" and getattr(config, "num_key_value_heads", num_heads) != num_heads
