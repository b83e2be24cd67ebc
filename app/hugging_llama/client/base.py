"""The whole seam between the web side and an engine. A new verb needs an argument in review."""

from typing import Protocol

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


class EngineClient(Protocol):
    """What a web worker may ask of an engine. Methods may be called from any thread or greenlet."""

    def generate(self, request: GenerateRequest) -> AnswerStream:
        """Ends in exactly one Finished, or raises one typed error from the stream."""
        ...

    def embed(self, request: EmbedRequest) -> EventStream[Embeddings]:
        """Exactly one Embeddings, or one error."""
        ...

    def classify(self, request: ClassifyRequest) -> EventStream[Classified]:
        """Exactly one Classified, or one error."""
        ...

    def tokenize(self, request: TokenizeRequest) -> EventStream[Tokenized]:
        """Exactly one Tokenized, or one error."""
        ...

    def detokenize(self, request: DetokenizeRequest) -> EventStream[Detokenized]:
        """Exactly one Detokenized, or one error."""
        ...

    def load(self, request: LoadRequest) -> EventStream[Loaded]:
        """Exactly one Loaded, or one error."""
        ...

    def unload(self, model: ModelRef) -> None:
        """Unload the copy that `model` uses when its last request ends; a model that is not loaded is fine."""
        ...

    def loaded(self) -> list[LoadedModel]:
        """The models in memory, those being loaded included."""
        ...

    def status(self, timeout_s: float) -> EngineStatus:
        """Raises EngineDiedError if no engine answers in time. Never starts one."""
        ...

    def close(self) -> None:
        """Drop the connection; every open stream raises EngineDiedError."""
        ...
