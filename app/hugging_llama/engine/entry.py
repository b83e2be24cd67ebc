"""A request as the engine keeps it."""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from hugging_llama.engine.instances import Ticket
from hugging_llama.engine.served_model import ServedModel
from hugging_llama.ipc.facade import Answer, Key
from hugging_llama.neutral.callers import Caller
from hugging_llama.neutral.events import Progress, Queued
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
    """The model that it waits for in the queue for models."""
    queued: Queued | None = None
    """How it waits there, or has waited."""

    @property
    def caller(self) -> Caller:
        """Whose request it is."""
        return self.request.caller

    @property
    def tells_progress(self) -> bool:
        return isinstance(self.request, GenerateRequest) and self.request.tells_progress


def load_told(entries: Iterable[Entry], ref: ModelRef) -> list[tuple[Key, Answer]]:
    """Those in the queue for this model, whose load begins, have waited; for those who ask for their progress."""
    waiting = [entry for entry in entries if entry.awaits == ref.identity]
    for entry in waiting:
        entry.awaits = None
        entry.queued = entry.queued and entry.queued.waiting(time.monotonic_ns() - entry.arrival_ns)
    return [(entry.key, Progress(phase="load")) for entry in waiting if entry.tells_progress]


def wait_told(entry: Entry, ref: ModelRef, wait: Progress) -> list[tuple[Key, Answer]]:
    """Who waits for this model as `Registry.wait_for` has said; for it, if it asks for its progress."""
    if wait.phase == "queue":
        entry.awaits = ref.identity
        entry.queued = Queued(position=wait.position, expected_s=wait.expected_s)
    return [(entry.key, wait)] if entry.tells_progress else []
