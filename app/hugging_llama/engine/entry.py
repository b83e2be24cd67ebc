"""A request as the engine keeps it."""

import threading
from dataclasses import dataclass, field

from hugging_llama.engine.instances import Ticket
from hugging_llama.engine.served_model import ServedModel
from hugging_llama.ipc.facade import Key
from hugging_llama.neutral.callers import Caller
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

    @property
    def caller(self) -> Caller:
        """Whose request it is."""
        return self.request.caller

    @property
    def tells_progress(self) -> bool:
        return isinstance(self.request, GenerateRequest) and self.request.tells_progress
