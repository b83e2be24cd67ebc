"""How many pulls one server process runs at once, each a child process of some 35 MB; and until when."""

import math
import time
import weakref

from hugging_llama.errors import EngineShutdownError

_LIMIT = 8


class PullSlots:
    """Places for pulls. No lock is held, so that it works with threads and greenlets alike.

    Under threads that race for the last place there may for a moment be one pull more than the limit. From `ends_at`
    on (`time.monotonic()`), when the server shuts down, every pull and conversion is to end.
    """

    def __init__(self, limit: int = _LIMIT) -> None:
        self.ends_at = math.inf
        self._limit = limit
        self._holders: weakref.WeakSet[object] = weakref.WeakSet()  # who is forgotten gives its place back

    def take(self, holder: object) -> bool:
        """Take a place for `holder` unless all are taken."""
        if len(self._holders) >= self._limit:
            return False
        self._holders.add(holder)
        return True

    def check(self) -> None:
        """Raises EngineShutdownError from `ends_at` on: a caller who is told so knows more than one who is cut off."""
        if time.monotonic() >= self.ends_at:
            raise EngineShutdownError("the server is shutting down")

    def give_back(self, holder: object) -> None:
        """Give the place back, if `holder` has one."""
        self._holders.discard(holder)
