"""What the registry keeps of each model and of each request for one."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Generic, TypeVar

from hugging_llama.engine.admission import MemoryNeed
from hugging_llama.errors import HuggingLlamaError, ModelLoadError
from hugging_llama.neutral.callers import ANONYMOUS, Caller
from hugging_llama.neutral.events import Progress
from hugging_llama.neutral.models import LoadedModel, ModelRef

_log = logging.getLogger(__name__)

ModelT = TypeVar("ModelT")

Call = Callable[[], None]
"""Something that was decided under a lock and is to be done without it."""


class State(Enum):
    """Where a model is between its first request and its end. PARKED: it waits for memory, nothing is loaded yet."""

    LOADING = auto()
    PARKED = auto()
    LOADED = auto()
    LEAVING = auto()


@dataclass(frozen=True, slots=True)
class LoadFailure:
    """What `on_ready` gets instead of a model."""

    error: HuggingLlamaError


@dataclass(eq=False, slots=True)
class Ticket(Generic[ModelT]):
    """One request's hold on a model, from `acquire` to `release`. `context_length` in tokens, None for the default."""

    ref: ModelRef
    keep_alive_s: float | None
    on_ready: "Callable[[ModelT | LoadFailure], None]"
    context_length: int | None = None
    caller: Caller = ANONYMOUS
    is_released: bool = False


@dataclass(eq=False, slots=True)
class Instance(Generic[ModelT]):
    """A model on its way into memory, in it, or on its way out. `need` is known when PARKED.

    `last_ref` is that of the latest request: refs to one copy may differ in name and adapter.
    """

    ref: ModelRef
    last_ref: ModelRef
    keep_alive_s: float
    last_used: int
    context_length: int | None = None
    load_began: float = 0.0
    state: State = State.LOADING
    need: MemoryNeed | None = None
    model: ModelT | None = None
    waiting: list[Ticket[ModelT]] = field(default_factory=list)
    users: set[Ticket[ModelT]] = field(default_factory=set)
    idle_since: float = 0.0

    @property
    def ref_count(self) -> int:
        return len(self.waiting) + len(self.users)

    @property
    def is_idle(self) -> bool:
        return self.state is State.LOADED and not self.users

    @property
    def is_moving(self) -> bool:
        """Whether how much memory it holds is just changing."""
        return self.state in (State.LOADING, State.LEAVING)

    def expires_in_s(self, now: float) -> float:
        """One that is in use is kept so long after that."""
        return max(self.idle_since + self.keep_alive_s - now, 0.0) if self.is_idle else self.keep_alive_s


@dataclass(frozen=True, slots=True)
class Resident(Generic[ModelT]):
    """A row of `ps`, under the name that was used last. `model` None: still loading. `expires_in_s` counts from now;
    infinite for ever."""

    ref: ModelRef
    model: ModelT | None
    ref_count: int
    expires_in_s: float


def place_in_queue(
    instances: Mapping[tuple[str, str], Instance[ModelT]], ref: ModelRef, num_pending: int | None, max_loaded: int
) -> int | None:
    """Of a request for this model that comes now: 0 if its load is under way or begins at once, None if it is in
    memory, else its place in the queue for models, 1 for the next one. `num_pending` None: there is no room for it in
    that queue, and no place."""
    instance = instances.get(ref.identity)
    if instance is not None and instance.state is not State.LEAVING:
        return None if instance.model is not None else int(instance.state is State.PARKED)
    if num_pending is None:
        return None
    is_turn = not any(other.is_moving or other.state is State.PARKED for other in instances.values())
    return 0 if is_turn and not num_pending and len(instances) < max_loaded else num_pending + 1


def load_wait(place: int, expected_s: float) -> Progress:
    """What who waits at this place of `place_in_queue` is told."""
    return Progress(phase="queue", position=place, expected_s=expected_s) if place else Progress(phase="load")


def ready_calls(tickets: list[Ticket[ModelT]], model: ModelT) -> list[Call]:
    """Hands the model to those who waited for it."""
    return [lambda ticket=ticket: ticket.on_ready(model) for ticket in tickets]  # type: ignore[misc]


def fail_calls(tickets: list[Ticket[ModelT]], error: HuggingLlamaError) -> list[Call]:
    """Tells those who waited why they waited in vain; their tickets are over."""
    failure = LoadFailure(error)
    for ticket in tickets:
        ticket.is_released = True
    return [lambda ticket=ticket: ticket.on_ready(failure) for ticket in tickets]  # type: ignore[misc]


def run_calls(calls: list[Call]) -> None:
    """Runs what was decided under the lock. One that fails must not keep the others from running."""
    for call in calls:
        try:
            call()
        except Exception:
            _log.exception("a step of a model's life cycle failed")


def load_error(error: Exception) -> HuggingLlamaError:
    """What those who wait are told: our own errors as they are, of others the kind alone; the log has the rest."""
    if isinstance(error, HuggingLlamaError):
        return error
    _log.error("a model could not be loaded", exc_info=error)
    return ModelLoadError(f"the model could not be loaded: {type(error).__name__}")


def loading_row(ref: ModelRef, ref_count: int, expires_at_s: float) -> LoadedModel:
    """A row of `ps` for a model that is not there yet."""
    return LoadedModel(
        name=ref.name,
        path=ref.path,
        digest=ref.digest,
        size_bytes=0,
        size_vram_bytes=0,
        context_length=0,
        expires_at_s=expires_at_s,
        ref_count=ref_count,
        device="",
        dtype="",
        runner="loading",
        quantization=ref.quantization,
        linear="",
    )
