"""A request as the engine keeps it."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from hugging_llama.engine.instances import Ticket
from hugging_llama.engine.served_model import ServedModel
from hugging_llama.ipc.facade import Answer, Key
from hugging_llama.neutral.callers import Caller
from hugging_llama.neutral.events import Progress
from hugging_llama.neutral.models import ModelRef
from hugging_llama.neutral.requests import (
    ClassifyRequest,
    DetokenizeRequest,
    EmbedRequest,
    GenerateRequest,
    LoadRequest,
    TokenizeRequest,
)

Request = GenerateRequest | EmbedRequest | ClassifyRequest | TokenizeRequest | DetokenizeRequest | LoadRequest


@dataclass(eq=False, slots=True)
class Entry:
    """One request between its arrival and its end. `lock` orders a cancel and the submit to the runner."""

    key: Key
    request: Request
    arrival_ns: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    ticket: Ticket[ServedModel] | None = None
    submitted_to: ServedModel | None = None
    cancelled: bool = False
    awaits: tuple[str, str] | None = None
    """The model that it has been told to wait in the queue for."""

    @property
    def caller(self) -> Caller:
        """Whose request it is."""
        return self.request.caller

    @property
    def tells_progress(self) -> bool:
        return isinstance(self.request, GenerateRequest) and self.request.tells_progress


def load_told(entries: Iterable[Entry], ref: ModelRef) -> list[tuple[Key, Answer]]:
    """For those in the queue for this model, whose load begins."""
    return [(entry.key, Progress(phase="load")) for entry in entries if entry.awaits == ref.identity]


def wait_told(entry: Entry, ref: ModelRef, wait: Progress) -> list[tuple[Key, Answer]]:
    """For who waits for this model as `Registry.wait_for` has said."""
    if wait.phase == "queue":
        entry.awaits = ref.identity
    return [(entry.key, wait)]
