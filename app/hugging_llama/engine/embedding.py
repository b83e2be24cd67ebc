"""The runner of embedding models: the texts of all clients share batches.

What holds at all times: an accepted request ends in exactly one Embeddings or one error; between two batches a
cancelled request is dropped; what its batch mates are does not change a vector by more than rounding.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hugging_llama.engine.loader import Checkpoint
from hugging_llama.engine.stats import RunnerStats, StepCounters
from hugging_llama.errors import (
    ContextLengthError,
    EngineShutdownError,
    GenerationError,
    HuggingLlamaError,
    InvalidRequestError,
)
from hugging_llama.ipc.facade import Answer, Emit, Key
from hugging_llama.neutral.events import Embeddings
from hugging_llama.neutral.requests import EmbedRequest

_log = logging.getLogger(__name__)

_MAX_BATCH = 32


@dataclass(eq=False, slots=True)
class _Text:
    """One text on its way to a vector. `length` in tokens after truncation."""

    job: "EmbeddingJob"
    text: str
    length: int
    vector: tuple[float, ...] = ()


@dataclass(eq=False, slots=True)
class EmbeddingJob:
    """One request. `waiting` holds its texts that no batch has taken, the longest first."""

    key: Key
    limit: int
    dimensions: int | None
    load_ns: int
    texts: list[_Text] = field(default_factory=list)
    waiting: deque[_Text] = field(default_factory=deque)
    num_done: int = 0


class EmbeddingRunner:
    """Runs one embedding model in a thread of its own.

    `lock` is held around every forward. `on_finished` is called with the key of each accepted request after its end.
    """

    kind = "embedding"

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        lock: AbstractContextManager[None],
        emit: Emit,
        on_finished: Callable[[Key], None],
        name: str,
    ) -> None:
        self._model = checkpoint.model
        self._device = checkpoint.device
        self._trained_context = checkpoint.trained_context
        self._prompt = _default_prompt(self._model)
        self._compute_lock = lock
        self._emit = emit
        self._on_finished = on_finished
        self._tokenizer_lock = threading.Lock()
        self._changed = threading.Condition()
        self._jobs: deque[EmbeddingJob] = deque()
        self._closing = False
        self._counters = StepCounters()
        self._thread = threading.Thread(target=self._main, name=f"engine-{name}", daemon=True)
        self._thread.start()

    def prepare(self, key: Key, request: EmbedRequest, *, load_ns: int = 0) -> "EmbeddingJob":
        """Counts tokens, in the caller's thread. Raises ContextLengthError or InvalidRequestError."""
        limit = min(request.context_length or self._trained_context, self._trained_context)
        job = EmbeddingJob(key, limit, request.dimensions, load_ns)
        lengths = self._lengths(request.inputs)
        if not request.truncate and max(lengths, default=0) > limit:
            raise ContextLengthError(max(lengths), limit)
        job.texts = [_Text(job, text, min(length, limit)) for text, length in zip(request.inputs, lengths, strict=True)]
        job.waiting = deque(sorted(job.texts, key=lambda text: -text.length))
        return job

    def submit(self, job: "EmbeddingJob") -> None:
        """Accepts a prepared request. Raises EngineShutdownError; then no end follows."""
        with self._changed:
            if self._closing:
                raise EngineShutdownError("the model is being unloaded")
            self._jobs.append(job)
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
            waiting = sum(not job.num_done and len(job.waiting) == len(job.texts) for job in self._jobs)
            return self._counters.snapshot(num_running=len(self._jobs) - waiting, num_waiting=waiting)

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
                while not self._jobs and not self._closing:
                    self._changed.wait()
                if self._closing:
                    break
                batch, empty = self._next_batch()
            for job in empty:
                self._end(job, _result(job))
            if batch:
                self._run(batch)
        self._fail(self._snapshot(), EngineShutdownError("the model is being unloaded"))

    def _next_batch(self) -> tuple[list[_Text], list[EmbeddingJob]]:
        """The next texts, one from each request in turn, all under the same limit; and requests without any texts."""
        empty = [job for job in self._jobs if not job.texts]
        batch: list[_Text] = []
        limit = self._jobs[0].limit
        while len(batch) < _MAX_BATCH:
            sources = [job for job in self._jobs if job.waiting and job.limit == limit]
            if not sources:
                break
            for job in sources[: _MAX_BATCH - len(batch)]:
                batch.append(job.waiting.popleft())
        self._jobs.rotate(-1)  # whoever came first last time leaves the next batch's limit to another
        return batch, empty

    def _run(self, batch: list[_Text]) -> None:
        try:
            self._fill(batch)
        except Exception as error:
            jobs = list({id(text.job): text.job for text in batch}.values())
            if len(jobs) == 1:
                self._fail(jobs, _embedding_error(error))
                return
            # one client's text may be the cause: each request on its own, so that only that one fails
            for job in jobs:
                self._run([text for text in batch if text.job is job])
            return
        for job in {id(text.job): text.job for text in batch}.values():
            job.num_done += sum(text.job is job for text in batch)
            if job.num_done == len(job.texts):
                self._end(job, _result(job))

    def _fill(self, batch: list[_Text]) -> None:
        with self._tokenizer_lock:
            features: dict[str, Any] = self._model.preprocess(
                [text.text for text in batch],
                prompt=self._prompt,
                processing_kwargs={"text": {"max_length": batch[0].job.limit}},
            )
        features = {
            name: value.to(self._device) if isinstance(value, Tensor) else value for name, value in features.items()
        }
        with self._compute_lock, torch.inference_mode():
            vectors: Tensor = self._model(features)["sentence_embedding"].float()
            if not torch.isfinite(vectors).all():
                raise GenerationError("embedding contains NaN or Inf values")
            rows = vectors.cpu()
        self._counters.count_step(len(batch))
        self._counters.prompt_tokens += sum(text.length for text in batch)
        for text, row in zip(batch, rows, strict=True):
            if text.job.dimensions is not None and 0 < text.job.dimensions < row.shape[0]:
                row = row[: text.job.dimensions]
            text.vector = tuple(torch.nn.functional.normalize(row, p=2, dim=0).tolist())

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text before truncation, with what the model puts around it."""
        try:
            with self._tokenizer_lock:
                found = self._model.tokenizer(
                    [(self._prompt or "") + text for text in texts], truncation=False, padding=False, verbose=False
                )
        except (TypeError, ValueError) as error:
            raise InvalidRequestError("the input is not valid Unicode text", param="input") from error
        return [len(ids) for ids in found["input_ids"]]

    def _snapshot(self) -> list[EmbeddingJob]:
        with self._changed:
            return list(self._jobs)

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
        if self._forget(job):
            self._emit([(job.key, answer)])
            self._on_finished(job.key)

    def _forget(self, job: EmbeddingJob) -> bool:
        """Whether the job was still alive: of two threads that end it, one gets True."""
        with self._changed:
            if job not in self._jobs:
                return False
            self._jobs.remove(job)
            return True


def _result(job: EmbeddingJob) -> Embeddings:
    return Embeddings(
        vectors=tuple(text.vector for text in job.texts),
        num_prompt_tokens=sum(text.length for text in job.texts),
        load_ns=job.load_ns,
    )


def _default_prompt(model: Any) -> str | None:
    """What the model's makers want in front of every text, as `SentenceTransformer.encode` does."""
    name = getattr(model, "default_prompt_name", None)
    return (getattr(model, "prompts", None) or {}).get(name) if name else None


def _embedding_error(error: Exception) -> HuggingLlamaError:
    if isinstance(error, HuggingLlamaError):
        return error
    _log.error("an embedding failed", exc_info=error)
    return GenerationError("the model failed to embed this input")
