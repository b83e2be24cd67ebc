"""Whether a model may be loaded now: what it needs against the memory there is, and who has to leave for it."""

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

from hugging_llama.errors import InsufficientMemoryError
from hugging_llama.neutral.models import ModelRef

_log = logging.getLogger(__name__)

ModelT = TypeVar("ModelT")


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes that a load takes; with `least_bytes` the model still works, in a shorter context."""

    num_bytes: int
    least_bytes: int


class Verdict(Enum):
    """What to do about a load."""

    LOAD = auto()
    EVICT = auto()
    WAIT = auto()
    REFUSE = auto()


@dataclass(frozen=True, slots=True)
class Decision:
    """`num_evicted` of the idle models, the first ones, have to leave for EVICT. `room_bytes` is all there could be.
    `is_final`: nothing is left that would give memory back."""

    verdict: Verdict
    num_evicted: int = 0
    room_bytes: int = 0
    is_final: bool = False


def decide(
    need: MemoryNeed,
    *,
    free_bytes: int,
    idle_bytes: Sequence[int],
    busy_bytes: int,
    total_bytes: int = sys.maxsize,
) -> Decision:
    """Idle models, given by what they hold, the least valuable first, leave as far as that is needed and enough.

    A shorter context is better than a wait for busy models and forwards, and a wait better than a refusal, which is for
    what could not fit if all others were gone.
    """
    without_idle = free_bytes + sum(idle_bytes)
    room_bytes = min(without_idle + busy_bytes, total_bytes)  # what is promised may be free still
    wanted = need.num_bytes if need.num_bytes <= without_idle else need.least_bytes
    if wanted > room_bytes:
        return Decision(Verdict.REFUSE, room_bytes=room_bytes, is_final=not busy_bytes)
    if wanted > without_idle:
        return Decision(Verdict.WAIT, room_bytes=room_bytes)
    num_evicted, reached = 0, free_bytes
    while reached < wanted:
        reached += idle_bytes[num_evicted]
        num_evicted += 1
    return Decision(Verdict.EVICT if num_evicted else Verdict.LOAD, num_evicted, room_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryGauge(Generic[ModelT]):
    """How memory is measured.

    `need` is given a model and the context that its first request asks for, None for the default one; it reads files
    and may raise a HuggingLlamaError. The others are quick: bytes that are free now, bytes that an unload gives back,
    bytes that running forwards were promised, taken or not, and all that there are. `parked` is called when a load has
    to wait.
    """

    need: Callable[[ModelRef, int | None], MemoryNeed]
    free_bytes: Callable[[], int]
    held_bytes: Callable[[ModelT], int]
    passing_bytes: Callable[[], int] = lambda: 0
    total_bytes: Callable[[], int] = lambda: sys.maxsize
    parked: Callable[[ModelRef], None] = lambda ref: None

    def decide(self, need: MemoryNeed, idle: Sequence[ModelT], busy: Sequence[ModelT]) -> Decision:
        """As `decide`. Where nothing can be measured, for want of a descriptor perhaps, the load waits."""
        try:
            return decide(
                need,
                free_bytes=self.free_bytes(),
                idle_bytes=[self.held_bytes(model) for model in idle],
                busy_bytes=sum(map(self.held_bytes, busy)) + self.passing_bytes(),
                total_bytes=self.total_bytes(),
            )
        except Exception:
            _log.exception("how much memory is free can't be told now")
            return Decision(Verdict.WAIT)


def too_large(need_bytes: int, free_bytes: int) -> InsufficientMemoryError:
    """The refusal, in Ollama's words; `free_bytes` is what would be free if all other models had left."""
    return InsufficientMemoryError(
        f"model requires more system memory ({need_bytes / 2**30:.1f} GiB) than is available "
        f"({free_bytes / 2**30:.1f} GiB)",
        need_bytes=need_bytes,
        free_bytes=free_bytes,
    )
