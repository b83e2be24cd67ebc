"""The runner of models that read whole inputs at once, to embed or to classify: those of all clients share batches.

What holds at all times: an accepted request ends in exactly one answer or one error; between two batches a cancelled
request is dropped, and a batch of nothing else ends before the model's next layer or block of attention; what its batch
mates are does not change a vector or a score by more than rounding.
"""

import logging
import threading
from array import array
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from hugging_llama.engine.attention_memory import FORWARD_MEMORY, AttentionMemory, MemoryTooSmallError
from hugging_llama.engine.device_loss import exit_if_device_lost
from hugging_llama.engine.layer_hooks import before_layers, layers_of
from hugging_llama.engine.memory import empty_cache, is_out_of_memory
from hugging_llama.engine.pooling_batch import PoolingItem, PoolingJob, PoolingQueue, PoolingRequest
from hugging_llama.engine.pooling_tokens import PoolingTokenizer, TokenRow
from hugging_llama.engine.query_blocks import query_blocks
from hugging_llama.engine.stats import RunnerStats, StepCounters
from hugging_llama.engine.step_watch import StepClock
from hugging_llama.errors import (
    EngineShutdownError,
    GenerationError,
    HuggingLlamaError,
    InsufficientMemoryError,
    InvalidRequestError,
)
from hugging_llama.ipc.facade import Answer, Emit, Key
from hugging_llama.neutral.events import Classified, Embeddings
from hugging_llama.neutral.requests import EmbedRequest

_log = logging.getLogger(__name__)

_MAX_BATCHED_TOKENS = {"cpu": 512}
"""On a CPU small batches are the fast ones: what one layer makes is still in the cache when the next one reads it."""
_MAX_BATCHED_TOKENS_ELSEWHERE = 16_384
MAX_NUMBERS = 2**24
"""In one answer, which is 64 MiB on the socket and some 350 MB of JSON; twice 2,048 vectors of 4,096 numbers."""
MAX_SCORES = 2**20
"""Of a classifier in one answer, which is written in one go, half a second of JSON; 2,048 inputs of 512 labels."""


class PoolingHead(Protocol):
    """What is special to embedding or to classification.

    `module` computes. `kind` is the runner's name in ps, `verb` what the model does to an input, in the words of
    errors; `not_finite` what is said of numbers that are none. `width` numbers are made of an input.
    """

    module: torch.nn.Module
    kind: str
    verb: str
    not_finite: str
    tokenizer: PoolingTokenizer
    device: torch.device
    longest: int
    width: int

    def forward(self, rows: Sequence[TokenRow]) -> Tensor:
        """(rows, numbers) of float32 in main memory, as the model computes them. Runs in inference mode."""
        ...

    def finished(self, outputs: Tensor, requests: Sequence[PoolingRequest]) -> "list[array[float]]":
        """Row by row what callers get; `requests` are those that the rows belong to."""
        ...

    def answer(self, job: PoolingJob) -> Embeddings | Classified:
        """To a request whose inputs all have their values."""
        ...


class _EndedError(Exception):
    """Leaves a forward that nobody waits for."""


class PoolingRunner:
    """Runs one model in a thread of its own.

    `max_batched_tokens` are in a batch with its padding, 0: by device. `max_jobs` requests are here at once, as in
    PoolingQueue. `lock` is held around every forward.
    `on_finished` is called with the key of each accepted request after its end.
    """

    def __init__(
        self,
        head: PoolingHead,
        *,
        max_batched_tokens: int = 0,
        max_jobs: int,
        lock: AbstractContextManager[None],
        emit: Emit,
        on_finished: Callable[[Key], None],
        name: str,
    ) -> None:
        self.kind = head.kind
        self.tokenizer = head.tokenizer
        self._head = head
        self._layers = layers_of(head.module)
        self._attention = AttentionMemory(head.module)
        self._compute_lock = lock
        self._emit = emit
        self._on_finished = on_finished
        self._changed = threading.Condition()
        self._queue = PoolingQueue(
            max_batched_tokens or _MAX_BATCHED_TOKENS.get(head.device.type, _MAX_BATCHED_TOKENS_ELSEWHERE), max_jobs
        )
        self._closing = False
        self._clock = StepClock()
        self._counters = StepCounters()
        self._thread = threading.Thread(target=self._main, name=f"engine-{name}", daemon=True)
        self._thread.start()

    def prepare(self, key: Key, request: PoolingRequest, *, load_ns: int = 0) -> PoolingJob:
        """Tokenises, in the caller's thread; there must be an input.

        Raises ContextLengthError or InvalidRequestError.
        """
        if not request.inputs:
            raise InvalidRequestError(f"there is no text to {self._head.verb}", param="input")
        self._check_numbers(request)
        limit = min(request.context_length or self._head.longest, self._head.longest)
        job = PoolingJob(key, request, load_ns)
        job.add(self.tokenizer.rows(request.inputs, limit=limit, truncate=request.truncate))
        return job

    def _check_numbers(self, request: PoolingRequest) -> None:
        width = self._head.width
        if isinstance(request, EmbedRequest) and request.dimensions and request.dimensions > 0:
            width = min(width, request.dimensions)
        most = MAX_NUMBERS if isinstance(request, EmbedRequest) else MAX_SCORES
        if len(request.inputs) * width > most:
            raise InvalidRequestError(
                f"{len(request.inputs)} inputs of {width} numbers each are more than the {most} numbers that "
                "one answer may have; send fewer at once",
                param="input",
            )

    def submit(self, job: PoolingJob) -> None:
        """Accepts a prepared request. Raises EngineBusyError or EngineShutdownError; then no end follows."""
        with self._changed:
            if self._closing:
                raise EngineShutdownError("the model is being unloaded")
            self._queue.append(job)
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

    @property
    def step_age_s(self) -> float:
        """How long the batch has been running that runs now; 0 if none does. Takes no lock."""
        return self._clock.age_s

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
                self._queue.done()
                while not self._queue.jobs and not self._closing:
                    self._changed.wait()
                if self._closing:
                    break
                batch = self._queue.take()
            try:
                with self._clock.running():
                    self._run(batch)
            except Exception as error:
                # outside of what `_run` isolates: nobody is left hanging
                self._fail([item.job for item in batch], self._failure(error))
        self._fail(self._snapshot(), EngineShutdownError("the model is being unloaded"))

    def _run(self, batch: list[PoolingItem]) -> None:
        """Computes the batch. A failing one is halved until it is known whose input is to blame."""
        batch = [item for item in batch if not item.job.is_over]
        if not batch or self._succeeds(batch):
            return
        # not before the failed forward's tensors are gone with its traceback
        empty_cache(self._head.device)
        half = len(batch) // 2
        self._run(batch[:half])
        self._run(batch[half:])

    def _succeeds(self, batch: list[PoolingItem]) -> bool:
        """Whether the batch's answers are delivered, be they errors; False if it has to be run in halves."""
        try:
            lengths, device = [item.length for item in batch], self._head.device
            look_around = partial(self._look_around, batch)
            with (
                FORWARD_MEMORY.promised(self._attention.needed_bytes(lengths), device, look_around),
                self._compute_lock,
                torch.inference_mode(),
                before_layers(self._layers, look_around),
                query_blocks(lengths, device, look_around),
            ):
                outputs = self._head.forward([item.row for item in batch])
        except _EndedError:
            return True
        except Exception as error:
            exit_if_device_lost(error)
            if len(batch) > 1:
                return False
            self._end(batch[0].job, self._failure(error, batch[0].length))
            return True
        self._counters.count_step(len(batch))
        self._counters.prompt_tokens += sum(item.length for item in batch)
        self._deliver(batch, outputs)
        return True

    def _look_around(self, batch: list[PoolingItem]) -> None:
        """A long input may take longer than a step, and its caller may be gone."""
        self._clock.restart()
        if all(item.job.is_over for item in batch):
            raise _EndedError

    def _deliver(self, batch: list[PoolingItem], outputs: Tensor) -> None:
        is_finite = torch.isfinite(outputs).all(dim=1).tolist()
        values = self._head.finished(outputs, [item.job.request for item in batch])
        for index, item in enumerate(batch):
            job = item.job
            if not is_finite[index]:
                self._end(job, InvalidRequestError(self._head.not_finite, param="input"))
                continue
            item.values = values[index]
            job.num_done += 1
            if job.num_done == len(job.items):
                self._end(job, self._head.answer(job))

    def _failure(self, error: Exception, length: int = 0) -> HuggingLlamaError:
        if isinstance(error, MemoryTooSmallError):
            return InsufficientMemoryError(
                f"there is not enough memory to {self._head.verb} this input: attention over {length} tokens takes "
                f"{error.need_bytes} bytes, {error.free_bytes} are free",
                need_bytes=error.need_bytes,
                free_bytes=error.free_bytes,
            )
        if is_out_of_memory(error):
            return InsufficientMemoryError(f"there is not enough memory to {self._head.verb} this input")
        _log.error("a model failed to %s an input", self._head.verb, exc_info=error)
        return GenerationError(f"the model failed to {self._head.verb} this input")

    def _snapshot(self) -> list[PoolingJob]:
        with self._changed:
            return list(self._queue.jobs)

    def _drop(self, jobs: list[PoolingJob]) -> None:
        for job in jobs:
            if self._forget(job):
                with self._changed:
                    self._counters.cancelled += 1
                self._on_finished(job.key)

    def _fail(self, jobs: list[PoolingJob], error: HuggingLlamaError) -> None:
        for job in jobs:
            self._end(job, error)

    def _end(self, job: PoolingJob, answer: Answer) -> None:
        if not self._forget(job):
            return
        try:
            self._emit([(job.key, answer)])
        except Exception:
            # the receiver's trouble must not end the other requests; it has lost this answer
            _log.exception("an answer could not be handed out")
        self._on_finished(job.key)

    def _forget(self, job: PoolingJob) -> bool:
        """Whether the job was still alive: of two threads that end it, one gets True."""
        with self._changed:
            if job.is_over:
                return False
            job.is_over = True
            self._queue.jobs.remove(job)
            return True
