"""Which models are in memory: load, unload, list."""

from hugging_llama.neutral.events import EventStream, Loaded
from hugging_llama.neutral.models import LoadedModel, LocalModel
from hugging_llama.neutral.requests import LoadRequest
from hugging_llama.operations.context import AppContext


def load(
    ctx: AppContext, model: LocalModel, *, keep_alive_s: float | None, context_length: int | None = None
) -> EventStream[Loaded]:
    """Load the model, or restart the idle timer of one that is loaded."""
    return ctx.engine.load(LoadRequest(model=model.ref, keep_alive_s=keep_alive_s, context_length=context_length))


def unload(ctx: AppContext, model: LocalModel) -> None:
    """Unload the model once its last request has ended; one that is not loaded is fine."""
    ctx.engine.unload(model.ref.path)


def loaded_models(ctx: AppContext) -> list[LoadedModel]:
    """The models in memory, the one that stays longest first."""
    return sorted(ctx.engine.loaded(), key=lambda model: -model.expires_at_s)
