"""What every operation needs, handed in by the web side."""

from collections.abc import Callable
from dataclasses import dataclass, field

from hugging_llama.client.base import EngineClient
from hugging_llama.neutral.callers import Caller
from hugging_llama.operations.audit_log import AuditLog
from hugging_llama.operations.observer import Observer
from hugging_llama.store.local import Store
from hugging_llama.store.responses import ResponseStore
from hugging_llama_config.settings import Settings


@dataclass(frozen=True, slots=True)
class AppContext:
    """The settings, the models on disk, the way to the engine, who watches the generations, the kept answers, and
    where it is written down what is done to the models.

    `caller` tells whose request is being served, in the thread or greenlet that serves it: everybody is the same one
    unless whoever lets callers in says more.
    """

    settings: Settings
    store: Store
    engine: EngineClient
    observer: Observer
    responses: ResponseStore = field(default_factory=ResponseStore)
    caller: Callable[[], Caller] = Caller
    audit: AuditLog | None = None
