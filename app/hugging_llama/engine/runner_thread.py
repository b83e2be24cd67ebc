"""What all runners of this process share: one thread, a lock, and the ways in.

What holds at all times:
- A sequence that `submit` accepted ends in exactly one Finished or one error; one that it refused (it raises) in none.
- Only the runner's thread runs the model, changes accepted sequences and emits, so events leave in order.
- A cancelled sequence ends in Finished(ABORT) before the next step; on close all others end in Finished(SHUTDOWN).
"""

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

from hugging_llama.engine.outbox import Outbox, as_generation_error
from hugging_llama.engine.queue_pace import QueuePace
from hugging_llama.engine.sequence import Emit, OnFinished, Sequence, StreamKey
from hugging_llama.engine.stats import RunnerStats, StepCounters
from hugging_llama.engine.step_watch import StepClock
from hugging_llama.errors import ContextLengthError, EngineShutdownError, InvalidRequestError
from hugging_llama.neutral.events import FinishReason

logger = logging.getLogger(__name__)


class RunnerThread(ABC):
    """Takes sequences from any thread and works on them in its own. Subclasses say what a step is.

    Call `start` when the subclass is complete. `reason` says why this runner serves the model.
    """

    def __init__(
        self, *, vocab_size: int, max_positions: int | None, emit: Emit, on_finished: OnFinished, name: str
    ) -> None:
        self.reason = ""
        self._clock = StepClock()
        self._vocab_size = vocab_size
        self._max_positions = max_positions
        self._outbox = Outbox(emit, on_finished)
        self._counters = StepCounters()
        self._lock = threading.Condition()
        self._to_end: list[tuple[Sequence, FinishReason]] = []
        self._closing = False
        self._thread = threading.Thread(target=self._main, name=f"engine-{name}", daemon=True)

    @property
    def step_age_s(self) -> float:
        """How long the step has been running that runs now; 0 if none does. Takes no lock."""
        return self._clock.age_s

    def start(self) -> None:
        """Starts the thread; sequences submitted earlier are worked on now."""
        self._thread.start()

    def submit(self, sequence: Sequence) -> None:
        """Accepts a sequence; from now on it belongs to the runner.

        Raises InvalidRequestError (no or unknown tokens), ContextLengthError, InsufficientMemoryError (it could
        never fit), EngineBusyError (the queue is full) or EngineShutdownError.
        """
        self._check(sequence)
        with self._lock:
            if self._closing:
                raise EngineShutdownError("the model is being unloaded")
            self._accept(sequence)
            sequence.submitted_ns = time.monotonic_ns()
            if sequence.wants_no_token and sequence.prompt_logprobs is None:
                self._to_end.append((sequence, FinishReason.LENGTH))
            self._lock.notify()

    def cancel(self, key: StreamKey) -> None:
        """Ends this sequence in Finished(ABORT) before the next step. Unknown and ended ones are fine."""
        with self._lock:
            self._cancel([sequence for sequence in self._live() if sequence.key == key])

    def cancel_connection(self, connection_id: int) -> None:
        """Cancels all sequences of one connection."""
        with self._lock:
            self._cancel([sequence for sequence in self._live() if sequence.key[0] == connection_id])

    def close(self) -> None:
        """Ends all sequences in Finished(SHUTDOWN), accepts no more and waits for the running step to finish."""
        with self._lock:
            self._closing = True
            self._lock.notify()
            is_running = self._thread.ident is not None
        if not is_running:
            self._end_all()
        elif threading.current_thread() is not self._thread:
            self._thread.join()

    @abstractmethod
    def stats(self) -> RunnerStats:
        """A snapshot of the runner's figures."""

    @abstractmethod
    def _accept(self, sequence: Sequence) -> None:
        """Queues a sequence, or raises EngineBusyError. Called with the lock held."""

    @abstractmethod
    def _live(self) -> Iterable[Sequence]:
        """All sequences that have not ended. Called with the lock held."""

    @abstractmethod
    def _release(self, sequence: Sequence) -> None:
        """Forgets a sequence and frees what it holds; unknown ones are fine. Called with the lock held."""

    @abstractmethod
    def _step(self) -> None:
        """Does the next piece of work. Called by the thread, without the lock, when a sequence is alive."""

    def _check(self, sequence: Sequence) -> None:
        ids = sequence.prompt_token_ids
        if not ids:
            raise InvalidRequestError("the prompt is empty", param="prompt")
        if min(ids) < 0 or max(ids) >= self._vocab_size:
            raise InvalidRequestError("a token id is outside the vocabulary", param="context")
        if self._max_positions is not None:
            # beyond its last position a model talks nonsense, or its table ends and a GPU's whole process with it
            sequence.context_length = min(sequence.context_length, self._max_positions)
        if len(ids) > sequence.context_length:
            raise ContextLengthError(len(ids), sequence.context_length)

    def _cancel(self, sequences: list[Sequence]) -> None:
        self._to_end += [(sequence, FinishReason.ABORT) for sequence in sequences]
        self._lock.notify()

    def _end_early(self) -> None:
        """Carries out cancels and empty requests. Called by the thread with the lock held."""
        for sequence, reason in self._to_end:
            if not sequence.is_finished:
                self._counters.cancelled += reason is FinishReason.ABORT
                self._outbox.end(sequence, reason)
                self._let_go(sequence)
        self._to_end.clear()

    def _let_go(self, sequence: Sequence) -> None:
        """Releases what has ended. A broken device may refuse even this, and others still wait for their end."""
        try:
            self._release(sequence)
        except Exception:
            logger.exception("what a sequence held could not be freed")

    def _tell_queue(
        self, waiting: Iterable[Sequence], in_turn: Callable[[], Iterable[Sequence]], pace: QueuePace
    ) -> None:
        """Tells those who ask for it where in the queue they are. Called by the thread with the lock held."""
        now_ns = time.monotonic_ns()
        if not any(sequence.progress is not None and sequence.progress.is_due(now_ns) for sequence in waiting):
            return
        for position, sequence in enumerate(in_turn(), 1):
            if sequence.progress is not None and not sequence.output_token_ids:
                self._outbox.add(sequence, sequence.progress.in_queue(position, now_ns, pace.expected_s(position)))

    def run_once(self) -> None:
        """One step and what it emits. For the thread, and for whoever drives a runner that was never started."""
        with self._lock:
            self._end_early()
            has_work = any(True for _ in self._live())
        try:
            if has_work:
                self._step()
        except Exception as error:
            self._fail_all(error)
        self._outbox.flush()

    def _main(self) -> None:
        try:
            while self._wait_for_work():
                with self._clock.running():
                    self.run_once()
        finally:
            self._end_all()

    def _wait_for_work(self) -> bool:
        """Sleeps until there is something to do; False when closing."""
        with self._lock:
            while not self._closing and not self._to_end and not any(True for _ in self._live()):
                self._lock.wait()
            return not self._closing

    def _fail_all(self, error: Exception) -> None:
        """A step failed outside of what it isolates: our own bug. Nobody is left hanging."""
        failure = as_generation_error(error)
        with self._lock:
            for sequence in list(self._live()):
                self._outbox.fail(sequence, failure)
                self._let_go(sequence)

    def _end_all(self) -> None:
        with self._lock:
            self._closing = True
            self._end_early()
            for sequence in list(self._live()):
                self._outbox.end(sequence, FinishReason.SHUTDOWN)
                self._let_go(sequence)
        self._outbox.flush()
