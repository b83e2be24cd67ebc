"""Where a generation's figures go, without operations knowing about any metrics library."""

from typing import Protocol

from hugging_llama.neutral.events import EventStream, GenerateEvent


class Observer(Protocol):
    """Sees every event of a generation on its way out."""

    def observe(self, events: EventStream[GenerateEvent]) -> EventStream[GenerateEvent]:
        """The same events, looked at in passing."""
        ...
