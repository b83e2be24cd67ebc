"""What the two ends of the socket are written against: the engine as its server sees it."""

from collections.abc import Callable, Sequence
from typing import Protocol

from hugging_llama.errors import HuggingLlamaError
from hugging_llama.neutral.events import (
    Classified,
    Detokenized,
    Embeddings,
    EngineStatus,
    GenerateEvent,
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

Event = GenerateEvent | Embeddings | Classified | Tokenized | Detokenized | Loaded
Answer = Event | HuggingLlamaError
Key = tuple[int, int]
"""A request in the engine: the connection it came by, and its id there."""
Emit = Callable[[Sequence[tuple[Key, Answer]]], None]
"""Takes what one step made; callable from any thread, never blocks."""


class EngineFacade(Protocol):
    """The engine. Every method returns at once; answers go out through the `emit` that it was made with.

    Each accepted request ends in exactly one error, Finished, or one answer of its own kind (Embeddings, Classified,
    Tokenized, Detokenized, Loaded); a cancelled one needs no end.
    """

    def generate(self, key: Key, request: GenerateRequest) -> None: ...

    def embed(self, key: Key, request: EmbedRequest) -> None: ...

    def classify(self, key: Key, request: ClassifyRequest) -> None: ...

    def tokenize(self, key: Key, request: TokenizeRequest) -> None: ...

    def detokenize(self, key: Key, request: DetokenizeRequest) -> None: ...

    def load(self, key: Key, request: LoadRequest) -> None: ...

    def unload(self, model: ModelRef) -> None: ...

    def cancel(self, key: Key) -> None: ...

    def cancel_connection(self, connection_id: int) -> None: ...

    def loaded(self) -> list[LoadedModel]: ...

    def status(self) -> EngineStatus: ...

    def close(self) -> None: ...
