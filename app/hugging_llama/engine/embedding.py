"""What is special to embedding: a SentenceTransformer's vectors, of length one, cut for requests that want it."""

from array import array
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hugging_llama.engine.loader import Checkpoint
from hugging_llama.engine.pooling_batch import PoolingJob, PoolingRequest
from hugging_llama.engine.pooling_numbers import packed
from hugging_llama.engine.pooling_tokens import PoolingTokenizer, TokenRow
from hugging_llama.neutral.events import Embeddings
from hugging_llama.neutral.requests import EmbedRequest


class EmbeddingHead:
    """Implements PoolingHead over a checkpoint whose model is a SentenceTransformer."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.kind = "embedding"
        self.verb = "embed"
        self.not_finite = "embedding contains NaN or Inf values"
        self.device = checkpoint.device
        self.longest = checkpoint.trained_context
        self.width = _width(checkpoint.model)
        self.tokenizer = PoolingTokenizer(
            checkpoint.tokenizer, checkpoint.model, checkpoint.model.transformers_model.config
        )
        self.module = self._model = checkpoint.model

    def forward(self, rows: Sequence[TokenRow]) -> Tensor:
        """The vectors, not normalised."""
        features = self.tokenizer.features(rows, self.device)
        vectors: Tensor = self._model(features)["sentence_embedding"].float().cpu()
        return vectors

    def finished(self, outputs: Tensor, requests: Sequence[PoolingRequest]) -> "list[array[float]]":
        """Cut for who wants fewer dimensions, and normalised unless somebody wants them as they are."""
        rows = list(_normalized(outputs))
        for index, request in enumerate(requests):
            if not isinstance(request, EmbedRequest):
                continue
            wanted = request.dimensions
            is_cut = wanted is not None and 0 < wanted < outputs.shape[1]
            if is_cut or not request.normalize:
                vector = outputs[index, :wanted] if is_cut else outputs[index]
                rows[index] = _normalized(vector) if request.normalize else vector
        return list(map(packed, rows))

    def answer(self, job: PoolingJob) -> Embeddings:
        """All vectors of a request."""
        return Embeddings(
            vectors=tuple(item.values for item in job.items),
            num_prompt_tokens=job.num_prompt_tokens,
            num_truncated_tokens=job.num_truncated_tokens,
            load_ns=job.load_ns,
            queued=job.queued,
        )


def _width(model: Any) -> int:
    """Of its vectors, under the name that the installed version has for it."""
    named = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
    return int(named() or 0)


def _normalized(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, p=2, dim=-1)
