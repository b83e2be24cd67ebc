"""How sequences' events leave a runner: collected during a step, handed out once at its end."""

import logging

from hugging_llama.engine.device_loss import exit_if_device_lost
from hugging_llama.engine.memory import is_out_of_memory
from hugging_llama.engine.sequence import Emit, OnFinished, Sequence, SequenceStatus, StepEvents
from hugging_llama.errors import GenerationError, HuggingLlamaError, InsufficientMemoryError
from hugging_llama.neutral.events import FinishReason, GenerateEvent

logger = logging.getLogger(__name__)


class Outbox:
    """Gives every sequence exactly one end. Used by one runner's thread only."""

    def __init__(self, emit: Emit, on_finished: OnFinished) -> None:
        self._emit = emit
        self._on_finished = on_finished
        self._events: StepEvents = []
        self._ended: list[Sequence] = []

    def add(self, sequence: Sequence, events: list[GenerateEvent]) -> None:
        """Events of a running sequence."""
        if not sequence.is_finished:
            self._events += [(sequence.key, event) for event in events]

    def end(self, sequence: Sequence, reason: FinishReason) -> None:
        """Flushes the held-back text and adds Finished; an error in the flush takes its place. Later calls do nothing.

        An aborted sequence has no reader, so nothing is flushed for it.
        """
        if sequence.is_finished:
            return
        if reason is not FinishReason.ABORT:
            try:
                self.add(sequence, sequence.output.finish())
            except Exception as error:
                self.fail(sequence, as_generation_error(error))
                return
        self._close(sequence, sequence.finished_event(reason))

    def fail(self, sequence: Sequence, error: HuggingLlamaError) -> None:
        """Adds the error as the sequence's end. Later calls do nothing."""
        if not sequence.is_finished:
            self._close(sequence, error)

    def flush(self) -> None:
        """Hands out what was collected, then reports the sequences that ended."""
        if not self._events:
            return
        events, self._events = self._events, []
        ended, self._ended = self._ended, []
        try:
            self._emit(events)
        except Exception:
            # the receiver's trouble must not end the other streams; it has lost these events
            logger.exception("events could not be handed out")
        for sequence in ended:
            try:
                self._on_finished(sequence)
            except Exception:
                logger.exception("the end of a sequence could not be reported")

    def _close(self, sequence: Sequence, last: GenerateEvent | HuggingLlamaError) -> None:
        sequence.status = SequenceStatus.FINISHED
        self._events.append((sequence.key, last))
        self._ended.append(sequence)


def as_generation_error(error: Exception) -> HuggingLlamaError:
    """Our own errors as they are, a failed allocation as InsufficientMemoryError; any other is logged with its
    traceback and becomes a GenerationError.

    Ends the process if the error means that the device is lost.
    """
    if isinstance(error, HuggingLlamaError):
        return error
    exit_if_device_lost(error)
    if is_out_of_memory(error):
        logger.warning("memory is short: %s", error)
        return InsufficientMemoryError("there is not enough memory to go on with this request")
    logger.error("a generation failed", exc_info=error)
    return GenerationError(f"generation failed: {type(error).__name__}: {error}")
