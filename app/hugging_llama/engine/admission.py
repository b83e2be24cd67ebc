"""Whether a model may be loaded now: what it needs against the memory there is, and who has to leave for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

from hugging_llama.errors import InsufficientMemoryError
from hugging_llama.neutral.models import ModelRef

ModelT = TypeVar("ModelT")


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes that a load takes; with `least_bytes` the model still works, in a shorter context."""

    num_bytes: int
    least_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryGauge(Generic[ModelT]):
    """How memory is measured.

    `need` is given a model and the context that its first request asks for, None for the default one; it reads files
    and may raise a HuggingLlamaError. The others are quick: bytes that are free now, bytes that an unload gives back,
    bytes that running forwards give back. `parked` is called when a load has to wait.
    """

    need: Callable[[ModelRef, int | None], MemoryNeed]
    free_bytes: Callable[[], int]
    held_bytes: Callable[[ModelT], int]
    passing_bytes: Callable[[], int] = lambda: 0
    parked: Callable[[ModelRef], None] = lambda ref: None


class Verdict(Enum):
    """What to do about a load."""

    LOAD = auto()
    EVICT = auto()
    WAIT = auto()
    REFUSE = auto()


@dataclass(frozen=True, slots=True)
class Decision:
    """`num_evicted` of the idle models, the first ones, have to leave for EVICT. `room_bytes` is all there could be."""

    verdict: Verdict
    num_evicted: int = 0
    room_bytes: int = 0


def decide(need: MemoryNeed, *, free_bytes: int, idle_bytes: Sequence[int], busy_bytes: int) -> Decision:
    """Idle models, given by what they hold, the least valuable first, leave as far as that is needed and enough.

    A shorter context is better than a wait for busy models and forwards, and a wait better than a refusal, which is for
    what could not fit if all others were gone.
    """
    without_idle = free_bytes + sum(idle_bytes)
    room_bytes = without_idle + busy_bytes
    wanted = need.num_bytes if need.num_bytes <= without_idle else need.least_bytes
    if wanted > room_bytes:
        return Decision(Verdict.REFUSE, room_bytes=room_bytes)
    if wanted > without_idle:
        return Decision(Verdict.WAIT, room_bytes=room_bytes)
    num_evicted, reached = 0, free_bytes
    while reached < wanted:
        reached += idle_bytes[num_evicted]
        num_evicted += 1
    return Decision(Verdict.EVICT if num_evicted else Verdict.LOAD, num_evicted, room_bytes)


def too_large(need_bytes: int, free_bytes: int) -> InsufficientMemoryError:
    """The refusal, in Ollama's words; `free_bytes` is what would be free if all other models had left."""
    return InsufficientMemoryError(
        f"model requires more system memory ({need_bytes / 2**30:.1f} GiB) than is available "
        f"({free_bytes / 2**30:.1f} GiB)",
        need_bytes=need_bytes,
        free_bytes=free_bytes,
    )
