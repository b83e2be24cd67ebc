"""How much a configuration makes transformers allocate, found by building the model without memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules.module import register_module_module_registration_hook

from hugging_llama.errors import ModelLoadError
from hugging_llama_config.model_limits import WEIGHTS_PER_BYTE

_MOST_MODULES = 50_000
"""A tenth of a millisecond each. Mixtures of 2,048 experts of a dozen layers have more, and are not served."""
_MOST_COMPUTED_POSITIONS = 2**22
"""Numbers in a table of sines, which transformers computes one by one. Real ones have a million."""
_MOST_BUFFER_BYTES = 2**30
"""Masks and tables of positions, which are no weights; their making takes some times as much."""
_HAS_SINES = ("sinusoidal_pos_embds", "sinusoidal_embeddings")


def check_built_size(auto_class: Any, config: Any, weight_bytes: int, *, is_packed: bool = False) -> None:
    """A tensor that does not fit the stored one is made anew, at the size that the configuration says, before that is
    an error; and buffers are made whatever is stored. `is_packed`: several weights may share a byte.

    Raises ModelLoadError for more elements than weights of `weight_bytes` can have, for buffers of a size that none
    needs, or for what would take minutes to build, and what the model's class raises.
    """
    with torch.device("meta"), _counted():
        model: torch.nn.Module = auto_class.from_config(config)
    num_weights = sum(weight.numel() for weight in model.parameters())
    buffer_bytes = sum(buffer.nbytes for buffer in model.buffers())
    # none takes less than a byte where nothing is packed
    per_byte = WEIGHTS_PER_BYTE if is_packed or getattr(config, "quantization_config", None) else 1
    if num_weights > per_byte * weight_bytes or buffer_bytes > _MOST_BUFFER_BYTES:
        raise _not_fitting()
    if _num_sines(model, config) > _MOST_COMPUTED_POSITIONS:
        raise _not_fitting()


def _not_fitting() -> ModelLoadError:
    return ModelLoadError("the model's config.json does not fit its weights")


class _Count(threading.local):
    """How many modules this thread may still make; None for any number."""

    left: int | None = None


_COUNT = _Count()


def _count(*_: object) -> None:
    if _COUNT.left is None:
        return
    _COUNT.left -= 1
    if _COUNT.left < 0:
        raise _not_fitting()


# for good: to add one while another thread makes a module would be an error there
register_module_module_registration_hook(_count)


@contextmanager
def _counted() -> Iterator[None]:
    _COUNT.left = _MOST_MODULES
    try:
        yield
    finally:
        _COUNT.left = None


def _num_sines(model: torch.nn.Module, config: Any) -> int:
    has_sines = any(getattr(config, name, False) for name in _HAS_SINES)
    return sum(
        module.weight.numel()
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Embedding)
        and ("Sinusoidal" in type(module).__name__ or (has_sines and name.endswith("position_embeddings")))
    )
