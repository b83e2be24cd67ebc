"""Answers on their way from the thread that receives them to whoever waits for them.

Modules are imported as modules and looked up when used (`queue.SimpleQueue`, never `from queue import`): the same
code then waits on greenlets in a process that gevent patched, even after this module was imported.
"""

import math
import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from hugging_llama.errors import EngineShutdownError, GenerationError, HuggingLlamaError
from hugging_llama.ipc.codec import EngineHello, LoadedModels, Reply
from hugging_llama.neutral.events import (
    Classified,
    Detokenized,
    Embeddings,
    EngineStatus,
    Finished,
    FinishReason,
    Loaded,
    Progress,
    Tokenized,
)

ReplyT = TypeVar("ReplyT")

MAX_BUFFERED = 4096
"""Events that may wait for a caller who does not read; above it the request is cancelled."""
_LAST = (
    Finished,
    Embeddings,
    Classified,
    Tokenized,
    Detokenized,
    Loaded,
    LoadedModels,
    EngineStatus,
    EngineHello,
    HuggingLlamaError,
)


def _no_event(timeout_s: float) -> HuggingLlamaError:
    return GenerationError(f"no event came from the engine within {timeout_s:g} s")


@dataclass(frozen=True, slots=True)
class Waits:
    """How long a caller waits for the first event and between two; infinite for ever. `late` is what it gets then."""

    first_s: float
    idle_s: float
    late: Callable[[float], HuggingLlamaError] = _no_event


class QueueStream(Generic[ReplyT]):
    """An EventStream that one thread fills with `put` and another one iterates.

    `close` may come from any thread; `end` is what it calls to have the request cancelled, which must be harmless
    for one that is over.
    """

    def __init__(self, waits: Waits, end: Callable[[], None], *, generates: bool = False) -> None:
        self._queue: queue.SimpleQueue[Reply | None] = queue.SimpleQueue()
        self._waits = waits
        self._timeout_s = waits.first_s
        self._late_at = time.monotonic() + waits.first_s
        self._end = end
        self._over = False
        self._bell: Callable[[], None] | None = None
        self.generates = generates

    def put(self, reply: Reply | None) -> None:
        """None is no reply: it wakes a `next` that waits for one."""
        self._queue.put(reply)
        if self._bell is not None:
            self._bell()

    def listen(self, bell: Callable[[], None]) -> None:
        self._bell = bell

    @property
    def is_ready(self) -> bool:
        return self._over or self.num_buffered > 0 or self.late_in_s <= 0

    @property
    def late_in_s(self) -> float:
        return self._late_at - time.monotonic()

    @property
    def num_buffered(self) -> int:
        return self._queue.qsize()

    def __iter__(self) -> Iterator[ReplyT]:
        return self

    def __next__(self) -> ReplyT:
        if self._over:
            raise StopIteration
        try:
            reply = self._queue.get(timeout=None if math.isinf(self._late_at) else max(self.late_in_s, 0.0))
        except queue.Empty:
            self.close()
            raise self._waits.late(self._timeout_s) from None
        if reply is None:
            raise StopIteration
        if not isinstance(reply, Progress):  # the first event in earnest may be far away still
            self._timeout_s = self._waits.idle_s
        self._late_at = time.monotonic() + self._timeout_s
        if isinstance(reply, _LAST):
            self._over = True
        if isinstance(reply, HuggingLlamaError):
            raise reply
        return cast(ReplyT, reply)

    def close(self) -> None:
        self._over = True
        self._end()
        self.put(None)


class OpenStreams:
    """The requests of one connection that have not ended, by id.

    Whoever takes a stream out (the receiver at its last event, `close`, the overflow, the end of the connection)
    ends it, and only they; taking out is one atomic dict operation, so this needs no lock.
    """

    def __init__(self, cancel: Callable[[int], None]) -> None:
        self._streams: dict[int, QueueStream[Any]] = {}
        self._cancel = cancel

    def open(self, request_id: int, waits: Waits, *, generates: bool = False) -> QueueStream[Any]:
        stream: QueueStream[Any] = QueueStream(waits, lambda: self._abandon(request_id), generates=generates)
        self._streams[request_id] = stream
        return stream

    def deliver(self, request_id: int, reply: Reply) -> None:
        """Called by the one receiving thread; an answer that nobody waits for any more is dropped."""
        stream = self._streams.get(request_id)
        if stream is None:
            return
        if isinstance(reply, _LAST):
            self._streams.pop(request_id, None)
        elif stream.num_buffered >= MAX_BUFFERED:
            self._abandon(request_id)
            reply = GenerationError(f"cancelled: {MAX_BUFFERED} events wait for a caller who does not read")
        stream.put(reply)

    def end_all(self, reply_for: Callable[[QueueStream[Any]], Reply], *, cancel: bool) -> None:
        """End every open stream with an own last reply each; `cancel` also tells the engine."""
        for request_id in list(self._streams):
            stream = self._streams.pop(request_id, None)
            if stream is None:
                continue
            if cancel:
                self._cancel(request_id)
            stream.put(reply_for(stream))

    def _abandon(self, request_id: int) -> None:
        if self._streams.pop(request_id, None) is not None:
            self._cancel(request_id)


def shutdown_reply(stream: QueueStream[Any]) -> Reply:
    """How a request ends when the server shuts down: a generation keeps what it has said so far."""
    if stream.generates:
        return Finished(reason=FinishReason.SHUTDOWN)
    return EngineShutdownError("the server is shutting down")


def failed_stream(error: HuggingLlamaError) -> QueueStream[Any]:
    """A stream that does nothing but raise `error`."""
    stream: QueueStream[Any] = QueueStream(Waits(math.inf, math.inf), lambda: None)
    stream.put(error)
    return stream
