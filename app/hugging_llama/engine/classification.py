"""What is special to classification: logits of texts and pairs, whatever lies beside them in a batch."""

import logging
from array import array
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from hugging_llama.engine.classifier import Classifier
from hugging_llama.engine.device_loss import exit_if_device_lost
from hugging_llama.engine.loader import Checkpoint
from hugging_llama.engine.memory import LOAD_SHORTAGE, is_out_of_memory
from hugging_llama.engine.model_runner import compute_guard
from hugging_llama.engine.pooling_batch import PoolingJob, PoolingRequest
from hugging_llama.engine.pooling_numbers import packed
from hugging_llama.engine.pooling_tokens import PoolingTokenizer, TokenRow
from hugging_llama.errors import InsufficientMemoryError
from hugging_llama.neutral.events import Classified

_log = logging.getLogger(__name__)

_PROBES = (("a", "b"), ("a word", "or two, or more of them"))
_TOLERANCE = 1e-3


class ClassificationHead:
    """Implements PoolingHead over a checkpoint whose model is a Classifier. Computes a little to learn whether padding
    changes the scores; a model whose scores it changes gets batches of equally long inputs alone."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.kind = "classification"
        self.verb = "classify"
        self.not_finite = "the scores contain NaN or Inf values"
        self.device = checkpoint.device
        self.longest = checkpoint.trained_context
        self._classifier: Classifier = checkpoint.model
        self.width = len(self._classifier.labels)
        self.module = self._classifier.module
        config = self._classifier.model.config
        self.tokenizer = PoolingTokenizer(
            self._classifier.tokenizer, self._classifier.library, config, pads_left=self._classifier.pads_left
        )
        self._text_config = config.get_text_config()
        self._pad_token_id: int | None = self._text_config.pad_token_id
        self.bears_padding = self._bears_padding()

    def forward(self, rows: Sequence[TokenRow]) -> Tensor:
        """The logits."""
        if self.bears_padding:
            return self._scores(rows)
        places: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            places.setdefault(row.length, []).append(place)
        found = torch.cat([self._scores([rows[place] for place in group]) for group in places.values()])
        order = torch.tensor([place for group in places.values() for place in group])
        return found[order.argsort()]

    def finished(self, outputs: Tensor, requests: Sequence[PoolingRequest]) -> "list[array[float]]":
        """The logits as they are: what they mean is decided where it is known what was asked."""
        return list(map(packed, outputs))

    def answer(self, job: PoolingJob) -> Classified:
        """All scores of a request."""
        return Classified(
            scores=tuple(item.values for item in job.items),
            labels=self._classifier.labels,
            num_prompt_tokens=job.num_prompt_tokens,
            num_truncated_tokens=job.num_truncated_tokens,
            activation=self._classifier.activation,
            problem_type=self._classifier.problem_type,
            load_ns=job.load_ns,
            queued=job.queued,
        )

    def _scores(self, rows: Sequence[TokenRow]) -> Tensor:
        """Decoders read the last token that is no padding by comparing ids, so it is padded with the id that the model
        knows; without any it is told one that no row ends with."""
        pad_token_id = self._pad_token_id
        if pad_token_id is None:
            pad_token_id = _unlike(row.last_id for row in rows)
            self._text_config.pad_token_id = pad_token_id
        features = self.tokenizer.features(rows, self.device, pad_token_id=pad_token_id)
        return self._classifier.scores(features).float().cpu()

    def _bears_padding(self) -> bool:
        rows = [row for probe in _PROBES for row in self.tokenizer.rows([probe], limit=self.longest, truncate=True)]
        try:
            with compute_guard(self.device), torch.inference_mode():
                alone = torch.cat([self._scores([row]) for row in rows])
                together = self._scores(rows)
        except Exception as error:
            if is_out_of_memory(error):
                raise InsufficientMemoryError(LOAD_SHORTAGE) from error
            exit_if_device_lost(error)
            _log.warning("a model that classifies gets inputs of one length at a time", exc_info=error)
            return False
        return torch.allclose(together, alone, rtol=_TOLERANCE, atol=_TOLERANCE)


def _unlike(ids: Iterable[int]) -> int:
    """The smallest id that is not among these."""
    taken = set(ids)
    return next(token_id for token_id in range(len(taken) + 1) if token_id not in taken)
