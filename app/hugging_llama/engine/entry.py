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
    ref: ModelRef
    """The model, with the quantization that it is loaded in."""
    arrival_ns: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    ticket: Ticket[ServedModel] | None = None
    submitted_to: ServedModel | None = None
    cancelled: bool = False
    awaits_model: bool = False
    """Whether it waits for its model's place, or for the memory that it needs."""
    queued: Queued | None = None
    """How it waits so, or has waited."""

    @property
    def caller(self) -> Caller:
        """Whose request it is."""
        return self.request.caller

    @property
    def tells_progress(self) -> bool:
        return isinstance(self.request, GenerateRequest) and self.request.tells_progress


def load_told(entries: Iterable[Entry], ref: ModelRef) -> list[tuple[Key, Answer]]:
    """Those who wait for this model, whose load begins, have waited; for those who ask for their progress."""
    waiting = [entry for entry in _of(ref, entries) if entry.awaits_model]
    for entry in waiting:
        entry.awaits_model = False
        entry.queued = entry.queued and entry.queued.waiting(time.monotonic_ns() - entry.arrival_ns)
    return [(entry.key, Progress(phase="load")) for entry in waiting if entry.tells_progress]


def park_told(entries: Iterable[Entry], ref: ModelRef, wait: Progress) -> list[tuple[Key, Answer]]:
    """All for this model wait as `Registry.wait_for` has said; for those who ask for their progress."""
    return [told for entry in _of(ref, entries) for told in wait_told(entry, wait)]


def wait_told(entry: Entry, wait: Progress) -> list[tuple[Key, Answer]]:
    """It waits for its model as `Registry.wait_for` has said; for it, if it asks for its progress."""
    if wait.phase == "queue":
        entry.awaits_model = True
        # what it is told in the end is how it came
        entry.queued = entry.queued or Queued(position=wait.position, expected_s=wait.expected_s)
    return [(entry.key, wait)] if entry.tells_progress else []


def _of(ref: ModelRef, entries: Iterable[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.ref.identity == ref.identity]
