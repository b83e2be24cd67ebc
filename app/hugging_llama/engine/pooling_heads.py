"""Which head a model in memory has, and what a request without inputs gets."""

from hugging_llama.engine.classification import ClassificationHead
from hugging_llama.engine.embedding import EmbeddingHead
from hugging_llama.engine.loader import Checkpoint, ModelKind
from hugging_llama.engine.pooling_batch import PoolingRequest
from hugging_llama.engine.pooling_runner import PoolingHead
from hugging_llama.neutral.events import Classified, Embeddings
from hugging_llama.neutral.requests import EmbedRequest


def pooling_head(checkpoint: Checkpoint) -> PoolingHead:
    """For a model that embeds or classifies. Blocks for a short forward."""
    return EmbeddingHead(checkpoint) if checkpoint.kind is ModelKind.EMBEDDING else ClassificationHead(checkpoint)


def empty_answer(request: PoolingRequest, load_ns: int) -> Embeddings | Classified:
    """To a request without inputs, which only loads its model."""
    if isinstance(request, EmbedRequest):
        return Embeddings(vectors=(), num_prompt_tokens=0, load_ns=load_ns)
    return Classified(scores=(), labels=(), num_prompt_tokens=0, load_ns=load_ns)
