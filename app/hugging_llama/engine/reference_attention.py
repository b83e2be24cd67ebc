"""A model's own attention in float32: what the self-test compares with.

In half precision a model's plain attention rounds its scores, and in a model that routes by a hair that alone gives
other text. Ours does not round them; measured against the rounded ones it would look wrong where it is better.
"""

import sys
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

REFERENCE_NAME = "hugging_llama_reference"


def reference_attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """Calls `eager_attention_forward` of the module's own file. Raises AttributeError where there is none."""
    own: Any = sys.modules[type(module).__module__].eager_attention_forward
    mask = None if attention_mask is None else attention_mask.float()
    output, weights = own(module, query.float(), key.float(), value.float(), mask, **options)
    return output.to(query.dtype), weights


AttentionInterface.register(REFERENCE_NAME, reference_attention)
AttentionMaskInterface.register(REFERENCE_NAME, eager_mask)
