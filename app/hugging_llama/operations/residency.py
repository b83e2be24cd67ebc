"""Which models are in memory: load, unload, list."""

import logging
from dataclasses import replace

from hugging_llama.errors import HuggingLlamaError
from hugging_llama.neutral.callers import Caller
from hugging_llama.neutral.events import EventStream, Loaded
from hugging_llama.neutral.models import LoadedModel, LocalModel, ModelDetails, ModelRef
from hugging_llama.neutral.requests import LoadRequest
from hugging_llama.operations.audit import audited
from hugging_llama.operations.context import AppContext
from hugging_llama.operations.models import resolve_model

logger = logging.getLogger(__name__)


@audited("load", "model")
def load(
    ctx: AppContext, model: LocalModel, *, keep_alive_s: float | None, context_length: int | None = None
) -> EventStream[Loaded]:
    """Load the model, or restart the idle timer of one that is loaded."""
    context_length = context_length or model.defaults.context_length
    request = LoadRequest(
        model=model.ref, keep_alive_s=keep_alive_s, context_length=context_length, caller=ctx.caller()
    )
    return ctx.engine.load(request)


@audited("unload", "model")
def unload(ctx: AppContext, model: LocalModel) -> None:
    """Unload the model once its last request has ended; one that is not loaded is fine."""
    ctx.engine.unload(model.ref)


def unload_named(ctx: AppContext, name: str, folder: str = "") -> None:
    """Unload what is in memory under exactly this canonical name, even if its files are gone by now, and what was
    loaded from `folder`.

    Else a copy that was loaded under another name stays, though it may serve this one, too.
    """
    try:
        for row in ctx.engine.loaded():
            if row.name == name or (folder and row.path == folder):
                ctx.engine.unload(
                    ModelRef(name=row.name, path=row.path, digest=row.digest, quantization=row.quantization)
                )
    except HuggingLlamaError as error:
        logger.warning("%s could not be unloaded: %s", name, error.message)


def loaded_models(ctx: AppContext) -> list[LoadedModel]:
    """The models in memory, the one that stays longest first."""
    return sorted(ctx.engine.loaded(), key=lambda model: -model.expires_at_s)


def loaded_details(ctx: AppContext, model: LoadedModel) -> ModelDetails | None:
    """What the files of a model in memory say of it; None if they are gone by now."""
    return ctx.store.details(model.path)


def preload(ctx: AppContext) -> None:
    """Load the models that the settings name, one after another; one that can't be loaded is logged and left out."""
    ctx = replace(ctx, caller=Caller)  # nobody has asked
    for name in ctx.settings.preload:
        try:
            for loaded in load(ctx, resolve_model(ctx, name), keep_alive_s=None):
                logger.info("preloaded %s", loaded.model.name)
        except HuggingLlamaError as error:
            logger.error("%s could not be preloaded: %s", name, error.message)
