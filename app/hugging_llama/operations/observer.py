"""Where the figures of what is done go, without operations knowing about any metrics library."""

from typing import Literal, Protocol, TypeVar

from hugging_llama.neutral.events import AnswerStream, Classified, Embeddings, EventStream
from hugging_llama.neutral.transfer import TransferProgress

PooledT = TypeVar("PooledT", bound=Embeddings | Classified)


class Observer(Protocol):
    """Looks at events in passing; each method returns the same events. `model` is the full name of one that exists."""

    def generation(self, events: AnswerStream, model: str, *, shares_prompt: bool) -> AnswerStream:
        """An answer of a model that writes; `shares_prompt`: another one of the same request has counted its prompt."""
        ...

    def pooling(self, events: EventStream[PooledT], model: str) -> EventStream[PooledT]:
        """An answer of a model that reads whole inputs."""
        ...

    def transfer(
        self, kind: Literal["pull", "push"], events: EventStream[TransferProgress]
    ) -> EventStream[TransferProgress]:
        """A model on its way from the Hub or to it."""
        ...


class Unobserved:
    """Nobody looks."""

    def generation(self, events: AnswerStream, model: str, *, shares_prompt: bool) -> AnswerStream:
        return events

    def pooling(self, events: EventStream[PooledT], model: str) -> EventStream[PooledT]:
        return events

    def transfer(
        self, kind: Literal["pull", "push"], events: EventStream[TransferProgress]
    ) -> EventStream[TransferProgress]:
        return events
