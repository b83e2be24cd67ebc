"""Vectors and scores as they cross the socket: float32 values in this machine's byte order."""

from array import array
from collections.abc import Iterable, Sequence

from hugging_llama.ipc import messages as wire
from hugging_llama.neutral.events import Classified, Embeddings


def _wire_vectors(vectors: Iterable[Sequence[float]]) -> tuple[bytes, ...]:
    return tuple((vector if isinstance(vector, array) else array("f", vector)).tobytes() for vector in vectors)


def embeddings_item(request_id: int, reply: Embeddings) -> wire.Item:
    """For the wire. Raises one of codec.ENCODE_ERRORS for numbers that are none."""
    vectors = _wire_vectors(reply.vectors)
    return wire.EmbeddingsItem(
        request_id,
        vectors,
        reply.num_prompt_tokens,
        reply.num_truncated_tokens,
        reply.load_ns,
        reply.queued,
    )


def classified_item(request_id: int, reply: Classified) -> wire.Item:
    """For the wire. Raises like `embeddings_item`."""
    return wire.ClassifiedItem(
        request_id,
        _wire_vectors(reply.scores),
        reply.labels,
        reply.num_prompt_tokens,
        reply.num_truncated_tokens,
        reply.activation,
        reply.problem_type,
        reply.load_ns,
        reply.queued,
    )


def _vector(data: bytes) -> "array[float]":
    values = array("f")
    values.frombytes(data)
    return values


def neutral_embeddings(item: wire.EmbeddingsItem) -> Embeddings:
    """From the wire. Raises ValueError."""
    return Embeddings(
        vectors=tuple(map(_vector, item.vectors)),
        num_prompt_tokens=item.num_prompt_tokens,
        num_truncated_tokens=item.num_truncated_tokens,
        load_ns=item.load_ns,
        queued=item.queued,
    )


def neutral_classified(item: wire.ClassifiedItem) -> Classified:
    """From the wire. Raises ValueError."""
    return Classified(
        scores=tuple(map(_vector, item.scores)),
        labels=item.labels,
        num_prompt_tokens=item.num_prompt_tokens,
        num_truncated_tokens=item.num_truncated_tokens,
        activation=item.activation,
        problem_type=item.problem_type,
        load_ns=item.load_ns,
        queued=item.queued,
    )
