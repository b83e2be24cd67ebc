"""The runner of embedding models: the texts of all clients share batches.

What holds at all times: an accepted request ends in exactly one Embeddings or one error; between two batches a
cancelled request is dropped; what its batch mates are does not change a vector by more than rounding.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from hugging_llama.engine.device_loss import exit_if_device_lost
from hugging_llama.engine.embedding_batch import EmbeddingJob, EmbeddingQueue, EmbeddingText
from hugging_llama.engine.embedding_tokens import EmbeddingTokenizer
from hugging_llama.engine.loader import Checkpoint
from hugging_llama.engine.memory import is_out_of_memory
from hugging_llama.engine.stats import RunnerStats, StepCounters
from hugging_llama.errors import (
    EngineShutdownError,
    GenerationError,
    HuggingLlamaError,
    InsufficientMemoryError,
    InvalidRequestError,
)
from hugging_llama.ipc.facade import Answer, Emit, Key
from hugging_llama.neutral.events import Embeddings
from hugging_llama.neutral.requests import EmbedRequest

_log = logging.getLogger(__name__)

_MAX_BATCHED_TOKENS = {"cpu": 512}
"""On a CPU small batches are the fast ones: what one layer makes is still in the cache when the next one reads it."""
_MAX_BATCHED_TOKENS_ELSEWHERE = 16_384


class EmbeddingRunner:
    """Runs one embedding model in a thread of its own.

    `max_batched_tokens` are in a batch with its padding, 0: by device. `lock` is held around every forward.
    `on_finished` is called with the key of each accepted request after its end.
    """

    kind = "embedding"

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        max_batched_tokens: int = 0,
        lock: AbstractContextManager[None],
        emit: Emit,
        on_finished: Callable[[Key], None],
        name: str,
    ) -> None:
        self._model = checkpoint.model
        self._device = checkpoint.device
        self._trained_context = checkpoint.trained_context
        self.tokenizer = EmbeddingTokenizer(checkpoint.model)
        self._compute_lock = lock
        self._emit = emit
        self._on_finished = on_finished
        self._changed = threading.Condition()
        self._queue = EmbeddingQueue(
            max_batched_tokens or _MAX_BATCHED_TOKENS.get(checkpoint.device.type, _MAX_BATCHED_TOKENS_ELSEWHERE)
        )
        self._closing = False
        self._counters = StepCounters()
        self._thread = threading.Thread(target=self._main, name=f"engine-{name}", daemon=True)
        self._thread.start()

    def prepare(self, key: Key, request: EmbedRequest, *, load_ns: int = 0) -> EmbeddingJob:
        """Tokenises, in the caller's thread; there must be a text. Raises ContextLengthError or InvalidRequestError."""
        if not request.inputs:
            raise InvalidRequestError("there is no text to embed", param="input")
        limit = min(request.context_length or self._trained_context, self._trained_context)
        job = EmbeddingJob(key, request.dimensions, request.normalize, load_ns)
        job.add(self.tokenizer.rows(request.inputs, limit=limit, truncate=request.truncate))
        return job

    def submit(self, job: EmbeddingJob) -> None:
        """Accepts a prepared request. Raises EngineShutdownError; then no end follows."""
        with self._changed:
            if self._closing:
                raise EngineShutdownError("the model is being unloaded")
            self._queue.jobs.append(job)
            self._changed.notify()

    def cancel(self, key: Key) -> None:
        """Drops a request without an end: nobody reads it. Unknown ones are fine."""
        self._drop([job for job in self._snapshot() if job.key == key])

    def cancel_connection(self, connection_id: int) -> None:
        """Drops all requests of one connection."""
        self._drop([job for job in self._snapshot() if job.key[0] == connection_id])

    def stats(self) -> RunnerStats:
        """A snapshot of the runner's figures."""
        with self._changed:
            waiting = sum(job.is_untouched for job in self._queue.jobs)
            return self._counters.snapshot(num_running=len(self._queue.jobs) - waiting, num_waiting=waiting)

    def close(self) -> None:
        """Ends all requests in EngineShutdownError and waits for the running batch."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _main(self) -> None:
        while True:
            with self._changed:
                while not self._queue.jobs and not self._closing:
                    self._changed.wait()
                if self._closing:
                    break
                batch = self._queue.take()
            try:
                self._run(batch)
            except Exception as error:
                # outside of what `_run` isolates: nobody is left hanging
                self._fail([text.job for text in batch], _embedding_error(error))
        self._fail(self._snapshot(), EngineShutdownError("the model is being unloaded"))

    def _run(self, batch: list[EmbeddingText]) -> None:
        """Embeds the batch. A failing one is halved until it is known whose text is to blame."""
        batch = [text for text in batch if not text.job.is_over]
        if not batch:
            return
        try:
            vectors = self._forward(batch)
        except Exception as error:
            exit_if_device_lost(error)
            if len(batch) == 1:
                self._end(batch[0].job, _embedding_error(error))
                return
            half = len(batch) // 2
            self._run(batch[:half])
            self._run(batch[half:])
            return
        self._counters.count_step(len(batch))
        self._counters.prompt_tokens += sum(text.length for text in batch)
        self._deliver(batch, vectors)

    def _forward(self, batch: list[EmbeddingText]) -> Tensor:
        """The vectors of the texts, (texts, dimensions) of float32 in main memory, not normalised."""
        features = self.tokenizer.features([text.row for text in batch], self._device)
        with self._compute_lock, torch.inference_mode():
            vectors: Tensor = self._model(features)["sentence_embedding"].float().cpu()
        return vectors

    def _deliver(self, batch: list[EmbeddingText], vectors: Tensor) -> None:
        is_finite = torch.isfinite(vectors).all(dim=1).tolist()
        rows = _normalized(vectors).tolist()
        for index, text in enumerate(batch):
            job = text.job
            if not is_finite[index]:
                self._end(job, InvalidRequestError("embedding contains NaN or Inf values", param="input"))
                continue
            is_cut = job.dimensions is not None and 0 < job.dimensions < vectors.shape[1]
            if is_cut or not job.normalize:
                vector = vectors[index, : job.dimensions] if is_cut else vectors[index]
                rows[index] = (_normalized(vector) if job.normalize else vector).tolist()
            text.vector = tuple(rows[index])
            job.num_done += 1
            if job.num_done == len(job.texts):
                self._end(job, _result(job))

    def _snapshot(self) -> list[EmbeddingJob]:
        with self._changed:
            return list(self._queue.jobs)

    def _drop(self, jobs: list[EmbeddingJob]) -> None:
        for job in jobs:
            if self._forget(job):
                with self._changed:
                    self._counters.cancelled += 1
                self._on_finished(job.key)

    def _fail(self, jobs: list[EmbeddingJob], error: HuggingLlamaError) -> None:
        for job in jobs:
            self._end(job, error)

    def _end(self, job: EmbeddingJob, answer: Answer) -> None:
        if not self._forget(job):
            return
        try:
            self._emit([(job.key, answer)])
        except Exception:
            # the receiver's trouble must not end the other requests; it has lost this answer
            _log.exception("an answer could not be handed out")
        self._on_finished(job.key)

    def _forget(self, job: EmbeddingJob) -> bool:
        """Whether the job was still alive: of two threads that end it, one gets True."""
        with self._changed:
            if job.is_over:
                return False
            job.is_over = True
            self._queue.jobs.remove(job)
            return True


def _normalized(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, p=2, dim=-1)


def _result(job: EmbeddingJob) -> Embeddings:
    return Embeddings(
        vectors=tuple(text.vector for text in job.texts),
        num_prompt_tokens=sum(text.length for text in job.texts),
        load_ns=job.load_ns,
    )


def _embedding_error(error: Exception) -> HuggingLlamaError:
    if is_out_of_memory(error):
        return InsufficientMemoryError("there is not enough memory to embed this input")
    _log.error("an embedding failed", exc_info=error)
    return GenerationError("the model failed to embed this input")
