"""Models that users name: made from one on this machine."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from hugging_llama.errors import HuggingLlamaError, InvalidRequestError
from hugging_llama.neutral.models import LocalModel
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.operations.context import AppContext
from hugging_llama.operations.models import disk_errors, resolve_model
from hugging_llama.operations.residency import unload_named
from hugging_llama.store import names
from hugging_llama_config.hardware import probable_device

_STATUS_TIMEOUT_S = 1.0
_QUANTIZED = ("int8", "int4")
_EXACT_LEVELS = ("BF16", "F16", "F32")

Quantization = Literal["none", "int8", "int4"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewModel:
    """A model to make. What is not said is as in `base`: `quantization` None, `system` "".

    `sampling` holds SamplingParams fields by name, `context_length` is in tokens; they lie over those of `base`.
    """

    name: str
    base: str
    quantization: Quantization | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    context_length: int | None = None
    system: str = ""


def create_model(ctx: AppContext, new: NewModel) -> Iterator[TransferProgress]:
    """Make a named model, in place of the one that had its name; the last status is "success".

    Weights are neither copied nor changed: they are quantised when they are loaded. Raises InvalidRequestError for a
    name that is bad or the Hub's, for a quantization that can't be had and for too much text; ModelNotFoundError for
    `base`; HuggingLlamaError if the disk fails.
    """
    name = names.parse_own_name(new.name)
    if ctx.store.is_of_hub(name):
        raise InvalidRequestError("this name belongs to a model of the Hub; choose another one", param="model")
    base = resolve_model(ctx, new.base)
    before = ctx.store.named.find(name)
    inherited = ctx.store.manifest(base)
    manifest = msgspec.structs.replace(
        inherited,
        name=before.manifest.name if before else name.display,
        quantization=inherited.quantization if new.quantization is None else new.quantization,
        parameters={**inherited.parameters, **new.sampling},
        context_length=new.context_length or inherited.context_length,
        system=new.system or inherited.system,
    )
    if manifest.quantization in _QUANTIZED:
        _check_quantization(ctx, base, manifest.quantization)
    yield TransferProgress(status=f"using existing layer sha256:{base.ref.digest}")
    yield TransferProgress(status="writing manifest")
    with disk_errors():
        ctx.store.named.write(manifest)
    if before:  # what is in memory is as the model was
        unload_named(ctx, manifest.name)
    yield TransferProgress(status="success")


def _check_quantization(ctx: AppContext, base: LocalModel, quantization: str) -> None:
    level = base.details.quantization_level
    if level not in _EXACT_LEVELS:
        raise InvalidRequestError(
            f"quantization is only supported for F16, BF16 and F32 models, this one is {level}", param="quantize"
        )
    device = _device(ctx)
    if not device.startswith("cpu"):
        raise InvalidRequestError(
            f"{quantization} weights are for models on a CPU, and this server uses {device}", param="quantize"
        )


def _device(ctx: AppContext) -> str:
    """Where models run: the engine knows; where none answers, the settings or what this machine has."""
    try:
        return ctx.engine.status(_STATUS_TIMEOUT_S).device
    except HuggingLlamaError:
        return ctx.settings.device if ctx.settings.device != "auto" else probable_device()
