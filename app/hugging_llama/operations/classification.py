"""Classify and rerank: labels for texts, and documents in the order in which they fit a query."""

from collections.abc import Sequence

from hugging_llama.errors import InvalidRequestError, UnsupportedCapabilityError
from hugging_llama.neutral.classification import probabilities, relevance
from hugging_llama.neutral.events import Classified, EventStream
from hugging_llama.neutral.models import Capability, LocalModel
from hugging_llama.neutral.requests import ClassifyRequest
from hugging_llama.operations.context import AppContext
from hugging_llama.operations.generation import require


def classify(
    ctx: AppContext,
    model: LocalModel,
    name: str,
    inputs: Sequence[str],
    *,
    context_length: int | None = None,
    keep_alive_s: float | None = None,
) -> EventStream[Classified]:
    """The logits of every label for each text; what is too long is truncated.

    Raises UnsupportedCapabilityError before anything is loaded; what the engine refuses is raised by the stream.
    """
    require(model, name, Capability.CLASSIFICATION)
    request = ClassifyRequest(
        model=model.ref,
        inputs=tuple(inputs),
        context_length=context_length or model.defaults.context_length,
        keep_alive_s=keep_alive_s,
        caller=ctx.caller(),
    )
    return ctx.observer.pooling(ctx.engine.classify(request), model.ref.name)


def rerank(
    ctx: AppContext,
    model: LocalModel,
    name: str,
    query: str,
    documents: Sequence[str],
    *,
    truncate: bool = True,
    context_length: int | None = None,
    keep_alive_s: float | None = None,
) -> EventStream[Classified]:
    """One logit for each document, in order; `ranking` makes an order of them.

    Raises UnsupportedCapabilityError before anything is loaded, and InvalidRequestError where the query, which is read
    once with every document, makes more of a body than a body may be; what the engine refuses is raised by the stream.
    """
    require(model, name, Capability.RERANK)
    _check_size(query, documents, ctx.settings.max_body_bytes)
    request = ClassifyRequest(
        model=model.ref,
        inputs=tuple((query, document) for document in documents),
        truncate=truncate,
        context_length=context_length or model.defaults.context_length,
        keep_alive_s=keep_alive_s,
        caller=ctx.caller(),
    )
    return ctx.observer.pooling(ctx.engine.classify(request), model.ref.name)


def _check_size(query: str, documents: Sequence[str], limit: int) -> None:
    num_bytes = len(query.encode()) * len(documents) + sum(len(document.encode()) for document in documents)
    if num_bytes > limit:
        raise InvalidRequestError(
            f"{len(documents)} documents, each with this query, are {num_bytes} bytes, and at most {limit} are taken; "
            "send fewer at once, or a shorter query",
            param="documents",
        )


def ranking(answer: Classified, name: str, top_n: int) -> list[tuple[int, float]]:
    """Places of documents and their relevance, the best first, equal ones in their order; `top_n` 0 is all.

    Raises UnsupportedCapabilityError for an answer with several labels.
    """
    if len(answer.labels) != 1:
        raise UnsupportedCapabilityError(name, [Capability.RERANK.value])
    found = [(place, relevance(logits, answer.activation)) for place, logits in enumerate(answer.scores)]
    found.sort(key=lambda pair: -pair[1])
    return found[: top_n or None]


def labelled(answer: Classified) -> list[tuple[str, tuple[float, ...]]]:
    """Of each text its likeliest label, and the probabilities of all."""
    found = [probabilities(logits, answer.problem_type) for logits in answer.scores]
    return [(answer.labels[row.index(max(row))], row) for row in found]
