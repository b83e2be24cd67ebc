"""The engine in the process that uses it: for tests, and for programs that embed it without a web server."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from hugging_llama.client.streams import OpenStreams, QueueStream, Waits, failed_stream
from hugging_llama.errors import EngineDiedError, HuggingLlamaError
from hugging_llama.ipc.facade import Answer, Emit, EngineFacade, Key
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

_CONNECTION_ID = 0
_FOR_EVER = Waits(math.inf, math.inf)


class LocalEngine:
    """Implements EngineClient over an engine object, as the server does over sockets; `close` closes that too.

    `make_engine` gets the function that takes the engine's answers: `LocalEngine(lambda emit: Engine(settings, emit))`.
    """

    def __init__(self, make_engine: Callable[[Emit], EngineFacade], waits: Waits = _FOR_EVER) -> None:
        self._waits = waits
        self._ids = itertools.count(1)
        self._streams = OpenStreams(lambda request_id: self._engine.cancel((_CONNECTION_ID, request_id)))
        self._engine = make_engine(self._emit)
        self._closed = False

    def generate(self, request: GenerateRequest) -> AnswerStream:
        return self._start(lambda key: self._engine.generate(key, request), generates=True)

    def embed(self, request: EmbedRequest) -> EventStream[Embeddings]:
        return self._start(lambda key: self._engine.embed(key, request))

    def classify(self, request: ClassifyRequest) -> EventStream[Classified]:
        return self._start(lambda key: self._engine.classify(key, request))

    def tokenize(self, request: TokenizeRequest) -> EventStream[Tokenized]:
        return self._start(lambda key: self._engine.tokenize(key, request))

    def detokenize(self, request: DetokenizeRequest) -> EventStream[Detokenized]:
        return self._start(lambda key: self._engine.detokenize(key, request))

    def load(self, request: LoadRequest) -> EventStream[Loaded]:
        return self._start(lambda key: self._engine.load(key, request))

    def unload(self, model: ModelRef) -> None:
        self._engine.unload(model)

    def loaded(self) -> list[LoadedModel]:
        return self._engine.loaded()

    def status(self, timeout_s: float) -> EngineStatus:
        if self._closed:
            raise EngineDiedError("the engine was closed")
        return self._engine.status()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._streams.end_all(lambda stream: EngineDiedError("the engine was closed"), cancel=False)
        self._engine.close()

    def _start(self, submit: Callable[[Key], None], *, generates: bool = False) -> QueueStream[Any]:
        if self._closed:
            return failed_stream(EngineDiedError("the engine was closed"))
        request_id = next(self._ids)
        stream = self._streams.open(request_id, self._waits, generates=generates)
        try:
            submit((_CONNECTION_ID, request_id))
        except HuggingLlamaError as error:
            self._streams.deliver(request_id, error)
        return stream

    def _emit(self, answers: Sequence[tuple[Key, Answer]]) -> None:
        """Called by the engine's threads."""
        for (_, request_id), answer in answers:
            self._streams.deliver(request_id, answer)
