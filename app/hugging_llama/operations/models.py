"""The models on this machine."""

from hugging_llama.neutral.models import LocalModel
from hugging_llama.operations.context import AppContext


def list_models(ctx: AppContext) -> list[LocalModel]:
    """All local models that can be served, newest first."""
    return ctx.store.list()


def resolve_model(ctx: AppContext, name: str) -> LocalModel:
    """The local model that a name means. Raises ModelNotFoundError; InvalidRequestError for bad syntax."""
    return ctx.store.resolve(name)
