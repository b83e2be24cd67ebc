"""Models that users name: made from one of the Hub or of uploaded files."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from hugging_llama.errors import InvalidRequestError
from hugging_llama.neutral.events import EventStream
from hugging_llama.neutral.messages import Message
from hugging_llama.neutral.models import LocalModel
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.operations.audit import audited
from hugging_llama.operations.context import AppContext
from hugging_llama.operations.creation import (
    Creation,
    Steps,
    adapter_of_files,
    adapter_of_hub,
    made_of_files,
    made_of_model,
)
from hugging_llama.operations.engine_status import engine_status
from hugging_llama.operations.models import disk_errors
from hugging_llama.operations.residency import unload_named
from hugging_llama.store import names
from hugging_llama.store.manifests import Manifest, Source, stored_message
from hugging_llama.store.names import ModelName
from hugging_llama_config.hardware import expected_device

_QUANTIZED = ("int8", "int4")
_EXACT_LEVELS = ("BF16", "F16", "F32")

Quantization = Literal["none", "int8", "int4"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewModel:
    """A model to make of `base`, a model's name, or of `files`, sha256 by path. What is not said is as in `base`.

    `adapter` is the name of a LoRA's repository, `adapter_files` are sha256 by path of one that was uploaded.
    `sampling` holds SamplingParams fields by name, `context_length` is in tokens; they lie over those of `base`.
    `template` is Jinja; `messages` take the place of those of `base`, `licenses` come after its. `requires`
    is a version of Ollama, which somebody has compared with ours.
    """

    name: str
    base: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    adapter: str = ""
    adapter_files: Mapping[str, str] = field(default_factory=dict)
    quantization: Quantization | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    context_length: int | None = None
    system: str = ""
    template: str = ""
    messages: tuple[Message, ...] = ()
    licenses: tuple[str, ...] = ()
    requires: str = ""


@audited("create", "model", is_long=True)
def create_model(ctx: AppContext, new: NewModel) -> EventStream[TransferProgress]:
    """Make a named model, in place of the one that had its name; the last status is "success".

    A `base` or `adapter` that is not here is pulled first. Weights are neither copied nor changed: they are quantised
    when they are loaded. Closing the stream before its end leaves everything as it was.

    Raises InvalidRequestError for a name that is bad or the Hub's; iterating raises it for files that make no model,
    for a quantization that can't be had and for too much text; what `pull_model` raises; TransferError and
    HuggingLlamaError if the disk fails.
    """
    name = names.parse_own_name(new.name)
    if ctx.store.is_of_hub(name):
        raise InvalidRequestError("this name belongs to a model of the Hub; choose another one", param="model")
    return Creation(_steps(ctx, name, new))


def _steps(ctx: AppContext, name: ModelName, new: NewModel) -> Steps[None]:
    made = yield from (made_of_files(ctx, new.files) if new.files else made_of_model(ctx, new.base))
    adapter, digests = yield from _adapter(ctx, new, made.model)
    manifest = _manifest(name, made.manifest, adapter, new)
    if manifest.quantization in _QUANTIZED:
        _check_quantization(ctx, made.model, manifest.quantization)
    with disk_errors():
        ctx.store.named.check(manifest)
    for digest in (*made.digests, *digests):
        yield TransferProgress(status=f"using existing layer sha256:{digest}")
    yield TransferProgress(status="writing manifest")
    before = ctx.store.named.find(name)
    with disk_errors():
        ctx.store.save(msgspec.structs.replace(manifest, name=before.manifest.name) if before else manifest)
    if before:  # what is in memory is as the model was
        unload_named(ctx, before.manifest.name)
    yield TransferProgress(status="success")


def _adapter(ctx: AppContext, new: NewModel, base: LocalModel) -> Steps[tuple[Source | None, Iterable[str]]]:
    """The adapter that is asked for, if any, and the digests of its contents."""
    if new.adapter_files:
        return adapter_of_files(ctx, new.adapter_files, base), dict.fromkeys(new.adapter_files.values())
    if new.adapter:
        source, digest = yield from adapter_of_hub(ctx, new.adapter, base)
        return source, (digest,)
    return None, ()


def _manifest(name: ModelName, inherited: Manifest, adapter: Source | None, new: NewModel) -> Manifest:
    return msgspec.structs.replace(
        inherited,
        name=name.display,
        adapter=adapter or inherited.adapter,
        quantization=inherited.quantization if new.quantization is None else new.quantization,
        parameters={**inherited.parameters, **new.sampling},
        context_length=new.context_length or inherited.context_length,
        system=new.system or inherited.system,
        template=new.template or inherited.template,
        messages=tuple(map(stored_message, new.messages)) or inherited.messages,
        licenses=tuple(dict.fromkeys((*inherited.licenses, *new.licenses))),
        requires=new.requires or inherited.requires,
    )


def _check_quantization(ctx: AppContext, base: LocalModel, quantization: str) -> None:
    level = base.details.quantization_level
    if level not in _EXACT_LEVELS:
        raise InvalidRequestError(
            f"quantization is only supported for F16, BF16 and F32 models, this one is {level}", param="quantize"
        )
    status = engine_status(ctx)
    device = status.device if status else expected_device(ctx.settings.device)
    if not device.startswith("cpu"):
        raise InvalidRequestError(
            f"{quantization} weights are for models on a CPU, and this server uses {device}", param="quantize"
        )
