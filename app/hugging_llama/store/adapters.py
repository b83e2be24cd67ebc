"""Looks at a LoRA adapter's files, and at whether it fits its base, as far as headers tell, before a model is made of
both. What no header tells is found when it is first used. Raises InvalidRequestError with a sentence for users."""

import os
from collections.abc import Iterable, Mapping

from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.lora import (
    AdapterError,
    LowRankShape,
    check_kind,
    low_rank_shapes,
    no_such_layer,
    other_shape,
)
from hugging_llama.neutral.models import Capability, LocalModel
from hugging_llama.store import snapshot
from hugging_llama.store.safetensors_header import BadSafetensorsError, read_all_tensors, read_tensors
from hugging_llama.store.selection import ADAPTER_CONFIG, ADAPTER_WEIGHTS, NotServableError
from hugging_llama_config.model_size import StoredTensor

_PARAM = "adapters"
_FLOATS = ("F64", "F32", "F16", "BF16")
_ENDING = ".weight"
# What transformers calls layers of its models. A checkpoint that has one of these has no names of its own for them.
_USUAL_LAYERS = ("q_proj", "qkv_proj", "c_attn", "query_key_value")


def check_adapter(folder: str, base: LocalModel) -> None:
    """Whether a folder holds a whole LoRA adapter as peft writes it, for a model like `base`. Raises OSError."""
    for file in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not os.path.isfile(os.path.join(folder, file)):
            raise InvalidRequestError(
                f"the adapter has no {file}; an adapter is {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS} as peft writes them",
                param=_PARAM,
            )
    config = snapshot.read_object(os.path.join(folder, ADAPTER_CONFIG))
    if not config:
        raise InvalidRequestError(f"the adapter's {ADAPTER_CONFIG} can't be read, or is empty", param=_PARAM)
    if config.get("peft_type") != "LORA":
        raise InvalidRequestError("the adapter is not a LoRA: its peft_type must be LORA", param=_PARAM)
    try:
        tensors = read_tensors(os.path.join(folder, ADAPTER_WEIGHTS))
    except BadSafetensorsError as error:
        raise InvalidRequestError(f"{ADAPTER_WEIGHTS} is not a whole safetensors file: {error}", param=_PARAM) from None
    if Capability.COMPLETION not in base.capabilities:
        raise InvalidRequestError(
            f'"{base.ref.name or "the model"}" does not write, and adapters are for models that do', param=_PARAM
        )
    try:
        check_kind(config)
        changes = low_rank_shapes(config, ((tensor.name, tensor.dtype, tensor.shape) for tensor in tensors))
        _check_fit(changes, _base_tensors(base))
    except AdapterError as error:
        raise InvalidRequestError(str(error), param=_PARAM) from None


def _base_tensors(base: LocalModel) -> list[StoredTensor]:
    """None of a base that can't be read by now: whoever uses it is told."""
    try:
        found = snapshot.read_snapshot(base.ref.path)
        return read_all_tensors(map(found.place, found.weights))
    except (NotServableError, BadSafetensorsError):
        return []


def _check_fit(changes: Mapping[str, LowRankShape], tensors: Iterable[StoredTensor]) -> None:
    """Files may call a model's layers otherwise than the model does, so a name that is not among them is wrong only
    where its like is: the same layer at another depth, or where both have usual ones and none in common. Raises
    AdapterError."""
    shapes: dict[str, list[tuple[int, ...] | None]] = {}
    for tensor in tensors:
        if tensor.name.endswith(_ENDING):
            # packed weights have shapes of their own
            shape = tensor.shape if tensor.dtype in _FLOATS and len(tensor.shape) == 2 else None
            shapes.setdefault(_place(tensor.name.removesuffix(_ENDING)), []).append(shape)
    kinds = {_kind(place) for place in shapes}
    changed = {_kind(_place(name)) for name in changes}
    is_foreign = kinds.isdisjoint(changed) and all(
        any(kind.endswith(_USUAL_LAYERS) for kind in some) for some in (kinds, changed)
    )
    for name, change in changes.items():
        place = _place(name)
        if place not in shapes:
            if place == _kind(place):  # one that stands alone, such as a head that is the embeddings
                continue
            if _kind(place) in kinds or is_foreign:
                raise AdapterError(no_such_layer(name))
            continue
        here = shapes[place]
        wanted = (change.out_features, change.in_features)
        # some layers keep their weights transposed
        if None not in here and wanted not in here and wanted[::-1] not in here:
            out_features, in_features = here[0] or wanted
            raise AdapterError(other_shape(name, change, in_features, out_features))


def _place(name: str) -> str:
    """A layer's name without what stands before the list of layers: `layers.0.self_attn.q_proj`. Files and models
    often differ in the rest."""
    parts = name.split(".")
    numbered = next((at for at, part in enumerate(parts) if part.isdigit()), len(parts))
    return ".".join(parts[max(min(numbered, len(parts)) - 1, 0) :])


def _kind(place: str) -> str:
    """A layer's place, at whatever depth."""
    return ".".join("#" if part.isdigit() else part for part in place.split("."))
