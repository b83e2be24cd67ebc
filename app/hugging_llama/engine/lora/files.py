"""Looks at an adapter's files before a weight is read: they come from strangers.

`adapter_config.json` beside `adapter_model.safetensors`, as the library peft writes them. Raises ModelLoadError with a
sentence for the user, which never names a path.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from hugging_llama.engine.model_files import read_json
from hugging_llama.errors import ModelLoadError
from hugging_llama.neutral.lora import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    AdapterError,
    LowRankShape,
    check_kind,
    low_rank_shapes,
)

_MAX_TENSORS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFiles:
    """What the files say. `shapes` by the name of a module of the base model."""

    weights: Path
    shapes: Mapping[str, LowRankShape]


def vet_adapter(folder: str) -> AdapterFiles:
    """Raises ModelLoadError for files that are missing, damaged, oversized, or of another kind than LoRA."""
    path = Path(folder)
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (path / name).is_file():
            raise ModelLoadError(f"this adapter has no {name}; pull or create it again")
    config = read_json(path / ADAPTER_CONFIG)
    try:
        check_kind(config)
        shapes = low_rank_shapes(config, _tensors(path / ADAPTER_WEIGHTS))
    except AdapterError as error:
        raise ModelLoadError(str(error)) from None
    return AdapterFiles(weights=path / ADAPTER_WEIGHTS, shapes=shapes)


def _tensors(path: Path) -> list[tuple[str, str, tuple[int, ...]]]:
    try:
        with safe_open(path, framework="np") as file:
            names = list(file.keys())
            if len(names) > _MAX_TENSORS:
                raise ModelLoadError("the adapter has no weights, or far too many")
            parts = ((name, file.get_slice(name)) for name in names)
            return [(name, part.get_dtype(), tuple(part.get_shape())) for name, part in parts]
    except (SafetensorError, OSError) as error:
        raise ModelLoadError("the adapter's weights are damaged; pull or create it again") from error
