"""How soon a place becomes free, by how long places have been held before."""

from hugging_llama.errors import EngineBusyError
from hugging_llama.neutral.events import Queued

_SMOOTHING = 0.2
_UNKNOWN_S = 5.0
_LONGEST_S = 60.0
"""Official clients take no notice of a longer Retry-After and come back at once."""


class QueuePace:
    """Follows how long each of `num_places` is held. Not thread-safe."""

    def __init__(self, num_places: int) -> None:
        self._num_places = num_places
        self._held_s = 0.0

    def observe(self, held_s: float) -> None:
        """A place is free again."""
        self._held_s = held_s if not self._held_s else self._held_s + _SMOOTHING * (held_s - self._held_s)

    def busy(self, message: str, queue_depth: int, num_turns: int) -> EngineBusyError:
        """What a request is told that finds the queue full; those in it need so many turns."""
        return EngineBusyError(message, queue_depth=queue_depth, retry_after_s=self.retry_after_s(num_turns))

    def expected_s(self, position: int) -> float:
        """How long who is at this place, 1 being the next, will probably wait, in tenths of a second; 0.0 while nothing
        is known, and for no other reason."""
        wait_s = position * self._held_s / self._num_places
        return max(round(wait_s, 1), 0.1) if wait_s else 0.0

    def at(self, position: int) -> Queued:
        """How who comes to this place will wait."""
        return Queued(position=position, expected_s=self.expected_s(position))

    def retry_after_s(self, num_turns: int) -> float:
        """When to try again: when all who wait now will probably have begun. A guess while nothing is known."""
        if not self._held_s:
            return _UNKNOWN_S
        return min(max(num_turns, 1) * self._held_s / self._num_places, _LONGEST_S)
