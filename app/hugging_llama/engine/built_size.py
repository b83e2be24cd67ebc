"""How much a configuration makes transformers allocate, found by building the model without memory."""

from typing import Any

import torch

from hugging_llama.errors import ModelLoadError
from hugging_llama_config.model_limits import WEIGHTS_PER_BYTE


def check_built_size(auto_class: Any, config: Any, weight_bytes: int) -> None:
    """A tensor that does not fit the stored one is made anew, at the size that the configuration says, before that is
    an error; and buffers are made whatever is stored.

    Raises ModelLoadError for more elements than weights of `weight_bytes` can have, and what the model's class raises.
    """
    with torch.device("meta"):
        model: torch.nn.Module = auto_class.from_config(config)
    if sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers())) > WEIGHTS_PER_BYTE * weight_bytes:
        raise ModelLoadError("the model's config.json does not fit its weights")
