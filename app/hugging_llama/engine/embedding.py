"""What is special to embedding: a SentenceTransformer's vectors, of length one, cut for requests that want it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hugging_llama.engine.embedding_batch import PoolingJob, PoolingRequest
from hugging_llama.engine.embedding_tokens import PoolingTokenizer, TokenRow
from hugging_llama.engine.loader import Checkpoint
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
        self.tokenizer = PoolingTokenizer(checkpoint.tokenizer, checkpoint.model)
        self._model = checkpoint.model

    def forward(self, rows: Sequence[TokenRow]) -> Tensor:
        """The vectors, not normalised."""
        features = self.tokenizer.features(rows, self.device)
        vectors: Tensor = self._model(features)["sentence_embedding"].float().cpu()
        return vectors

    def finished(self, outputs: Tensor, requests: Sequence[PoolingRequest]) -> list[tuple[float, ...]]:
        """Normalised, and cut and normalised again for who wants fewer dimensions."""
        rows = torch.nn.functional.normalize(outputs, p=2, dim=1).tolist()
        for index, request in enumerate(requests):
            wanted = request.dimensions if isinstance(request, EmbedRequest) else None
            if wanted is not None and 0 < wanted < outputs.shape[1]:
                rows[index] = torch.nn.functional.normalize(outputs[index, :wanted], p=2, dim=0).tolist()
        return list(map(tuple, rows))

    def answer(self, job: PoolingJob) -> Embeddings:
        """All vectors of a request."""
        return Embeddings(
            vectors=tuple(item.values for item in job.items),
            num_prompt_tokens=job.num_prompt_tokens,
            load_ns=job.load_ns,
        )
