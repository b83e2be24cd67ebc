"""The engine as a web worker sees it: another process behind a Unix socket."""

import logging
import math
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from hugging_llama.client.connection import Connection, MakeCommand
from hugging_llama.client.ensure import connect_engine, ensure_engine
from hugging_llama.client.streams import QueueStream, Waits, failed_stream
from hugging_llama.errors import (
    EngineDiedError,
    EngineShutdownError,
    HuggingLlamaError,
    ModelLoadError,
    ProtocolError,
)
from hugging_llama.ipc import messages as wire
from hugging_llama.ipc.codec import LoadedModels, wire_generate, wire_tokenize
from hugging_llama.neutral.events import (
    AnswerStream,
    Classified,
    Detokenized,
    Embeddings,
    EngineStatus,
    EventStream,
    Loaded,
    Tokenized,
)
from hugging_llama.neutral.models import LoadedModel, ModelRef
from hugging_llama.neutral.requests import (
    ClassifyRequest,
    DetokenizeRequest,
    EmbedRequest,
    GenerateRequest,
    LoadRequest,
    TokenizeRequest,
)
from hugging_llama_config.launch import LaunchError, engine_settings
from hugging_llama_config.settings import Settings

AnswerT = TypeVar("AnswerT")

logger = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT_S = 5.0
"""For requests, which start an engine. Questions have a time limit of their own."""
LIST_TIMEOUT_S = 5.0


class _ProcessState:
    """What one process has of an engine. Made at its first request, so that its lock is of the right kind: a lock
    made before gevent patches would block the whole worker."""

    def __init__(self) -> None:
        self.connecting = threading.Lock()
        self.connection: Connection | None = None
        self.drain_at = math.inf


class RemoteEngine:
    """Implements EngineClient. Nothing is opened before the first request of a process, so an instance may be made
    before a fork and before gevent patches. `life_line` goes to a supervisor that this process has to start;
    `on_new_engine` is called in a thread of its own for every engine that no process was connected to before."""

    def __init__(self, settings: Settings, life_line: int | None = None) -> None:
        self.settings = settings
        self._fingerprint = engine_settings(settings).fingerprint
        self._waits = Waits(settings.first_event_timeout_s, settings.idle_event_timeout_s)
        self._states: dict[int, _ProcessState] = {}
        self.on_new_engine: Callable[[], None] | None = None
        self.life_line = life_line
        self._minds_forks = False

    def generate(self, request: GenerateRequest) -> AnswerStream:
        return self._start(lambda rid: wire.Generate(rid, wire_generate(request)), generates=True)

    def embed(self, request: EmbedRequest) -> EventStream[Embeddings]:
        return self._start(lambda rid: wire.Embed(rid, request))

    def classify(self, request: ClassifyRequest) -> EventStream[Classified]:
        return self._start(lambda rid: wire.Classify(rid, request))

    def tokenize(self, request: TokenizeRequest) -> EventStream[Tokenized]:
        return self._start(lambda rid: wire.Tokenize(rid, wire_tokenize(request)))

    def detokenize(self, request: DetokenizeRequest) -> EventStream[Detokenized]:
        return self._start(lambda rid: wire.Detokenize(rid, request))

    def load(self, request: LoadRequest) -> EventStream[Loaded]:
        """A load can't be broken off: whoever waits longer than `load_timeout_s` is told so, and the load goes on."""

        def late(timeout_s: float) -> HuggingLlamaError:
            return ModelLoadError("timed out waiting for the model to load", model=request.model.name)

        waits = Waits(self.settings.load_timeout_s, self.settings.idle_event_timeout_s, late)
        return self._start(lambda rid: wire.Load(rid, request), waits)

    def unload(self, model: ModelRef) -> None:
        """Without an engine there is nothing to unload, so this never starts one."""
        if (connection := self._existing(LIST_TIMEOUT_S)) is not None:
            connection.tell(wire.Unload(model))

    def loaded(self) -> list[LoadedModel]:
        """Without an engine no model is in memory, so this never starts one. Raises EngineDiedError if there is one
        that does not answer."""
        deadline = time.monotonic() + LIST_TIMEOUT_S
        connection = self._existing(LIST_TIMEOUT_S)
        if connection is None:
            return []
        return list(_ask(connection, wire.ListLoaded, LoadedModels, deadline).models)

    def status(self, timeout_s: float) -> EngineStatus:
        deadline = time.monotonic() + timeout_s
        connection = self._existing(timeout_s)
        if connection is None:
            raise EngineDiedError("no engine is running")
        return _ask(connection, wire.AskStatus, EngineStatus, deadline)

    def start(self) -> None:
        """Start an engine, if there is none, without a request for it; not while the server ends. Returns at once."""
        state = self._state()
        if time.monotonic() < state.drain_at and not state.connecting.locked():
            threading.Thread(target=self._connect_early, daemon=True).start()

    def start_drain(self, deadline: float) -> None:
        """The server shuts down at `deadline` (`time.monotonic()`). Returns at once.

        Until then everything goes on: what ends by itself ends well, and a last request on a kept-alive connection
        is still served. Then every open generation ends with Finished(SHUTDOWN) and new requests are refused.
        """
        state = self._state()
        state.drain_at = min(state.drain_at, deadline)
        timer = threading.Timer(max(0.0, deadline - time.monotonic()), self._shut_down, (state,))
        timer.daemon = True
        timer.start()

    def close(self) -> None:
        state = self._states.pop(os.getpid(), None)
        if state is not None and state.connection is not None:
            state.connection.close()

    def _start(self, command: MakeCommand, waits: Waits | None = None, *, generates: bool = False) -> QueueStream[Any]:
        """Every failure, that of sending included, is raised by the stream, where the caller expects it."""
        try:
            return self._send(command, waits or self._waits, generates=generates)
        except HuggingLlamaError as error:
            return failed_stream(error)

    def _send(self, command: MakeCommand, waits: Waits, *, generates: bool) -> QueueStream[Any]:
        state = self._state()
        if time.monotonic() >= state.drain_at:
            raise EngineShutdownError("the server is shutting down")
        connection = self._connection(state)
        try:
            return connection.request(command, waits, generates=generates)
        except EngineDiedError:
            # it died since the last request and did not get this one: once more, with a new one
            return self._connection(state).request(command, waits, generates=generates)

    def _state(self) -> _ProcessState:
        pid = os.getpid()
        self._mind_forks()
        # setdefault is atomic: of two threads that come first, both get the same state
        return self._states.get(pid) or self._states.setdefault(pid, _ProcessState())

    def _connection(self, state: _ProcessState) -> Connection:
        """The connection of this process, made (and the engine started) if need be."""
        connection = state.connection
        if connection is not None and connection.alive:
            return connection
        with state.connecting:
            if state.connection is None or not state.connection.alive:
                state.connection = self._connect()
            return state.connection

    def _connect_early(self) -> None:
        try:
            self._connection(self._state())
        except HuggingLlamaError as error:
            logger.error("no engine could be started: %s", error.message)

    def _connect(self) -> Connection:
        error: Exception | None = None
        # an engine that was just ending takes a connection and drops it; the next one will not
        for _ in range(2):
            sock = ensure_engine(self.settings, self.life_line)
            try:
                return self._greeted(sock, HANDSHAKE_TIMEOUT_S)
            except TimeoutError:
                raise EngineDiedError("the engine does not answer") from None
            except (OSError, EngineDiedError) as found:
                error = found
        raise EngineDiedError(f"the engine can't be reached: {error}")

    def _greeted(self, sock: socket.socket, timeout_s: float) -> Connection:
        connection = Connection(sock, self._fingerprint, timeout_s)
        if connection.is_first and self.on_new_engine is not None:
            threading.Thread(target=self.on_new_engine, daemon=True).start()
        return connection

    def _existing(self, timeout_s: float) -> Connection | None:
        """The connection of this process to an engine that runs already, None if none does. Raises EngineDiedError
        if it does not answer in time."""
        deadline = time.monotonic() + timeout_s
        state = self._state()
        connection = state.connection
        if connection is not None and connection.alive:
            return connection
        try:
            sock = connect_engine(self.settings, timeout_s)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except (OSError, LaunchError) as error:
            raise EngineDiedError(f"the engine can't be reached: {error}") from None
        # one that listens is about to be connected to by whoever holds this
        if not state.connecting.acquire(timeout=_left_s(deadline)):
            sock.close()
            raise EngineDiedError("the engine does not answer")
        try:
            if state.connection is None or not state.connection.alive:
                state.connection = self._greeted(sock, _left_s(deadline))
            else:
                sock.close()
            return state.connection
        except (OSError, ProtocolError) as error:
            raise EngineDiedError(f"the engine does not answer: {error}") from None
        finally:
            state.connecting.release()

    def _shut_down(self, state: _ProcessState) -> None:
        if state.connection is not None:
            state.connection.shut_down()

    def _mind_forks(self) -> None:
        """Not before there is something to forget: what is registered with the interpreter stays for good."""
        if self._minds_forks:
            return
        forget = weakref.WeakMethod(self._forget_parent)

        def after_fork() -> None:
            if (method := forget()) is not None:
                method()

        os.register_at_fork(after_in_child=after_fork)
        self._minds_forks = True  # two threads that come first register twice, which harms nobody

    def _forget_parent(self) -> None:
        for state in self._states.values():
            if state.connection is not None:
                state.connection.forget()
        self._states = {}


def _ask(
    connection: Connection, command: Callable[[int], wire.Command], expected: type[AnswerT], deadline: float
) -> AnswerT:
    """One question, one answer. Raises EngineDiedError if none comes in time."""
    waits = Waits(_left_s(deadline), math.inf, lambda timeout_s: EngineDiedError("the engine does not answer"))
    answer = next(connection.request(command, waits))
    if not isinstance(answer, expected):
        raise ProtocolError(f"the engine answered with {type(answer).__name__}")
    return answer


def _left_s(deadline: float) -> float:
    """Never nothing: a socket without time to wait is one that does not block."""
    return max(0.001, deadline - time.monotonic())
