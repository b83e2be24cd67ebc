"""Embed: texts to vectors."""

from collections.abc import Sequence

from hugging_llama.neutral.events import Embeddings, EventStream
from hugging_llama.neutral.models import Capability, LocalModel
from hugging_llama.neutral.requests import EmbedRequest
from hugging_llama.operations.context import AppContext
from hugging_llama.operations.generation import require


def embed(
    ctx: AppContext,
    model: LocalModel,
    name: str,
    inputs: Sequence[str | tuple[int, ...]],
    *,
    truncate: bool = True,
    dimensions: int | None = None,
    normalize: bool = True,
    context_length: int | None = None,
    keep_alive_s: float | None = None,
) -> EventStream[Embeddings]:
    """One vector per input, L2-normalised unless `normalize` is false.

    Raises UnsupportedCapabilityError before anything is loaded; what the engine refuses is raised by the stream.
    """
    require(model, name, Capability.EMBEDDING)
    request = EmbedRequest(
        model=model.ref,
        inputs=tuple(inputs),
        truncate=truncate,
        dimensions=dimensions,
        normalize=normalize,
        context_length=context_length or model.defaults.context_length,
        keep_alive_s=keep_alive_s,
        caller=ctx.caller(),
    )
    return ctx.observer.pooling(ctx.engine.embed(request), model.ref.name)
