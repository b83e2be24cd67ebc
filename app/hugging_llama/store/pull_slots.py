"""How many pulls one server process runs at once; each is a child process of some 35 MB."""

import weakref

_LIMIT = 8


class PullSlots:
    """Places for pulls. No lock is held, so that it works with threads and greenlets alike.

    Under threads that race for the last place there may for a moment be one pull more than the limit.
    """

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._holders: weakref.WeakSet[object] = weakref.WeakSet()  # who is forgotten gives its place back

    def take(self, holder: object) -> bool:
        """Take a place for `holder` unless all are taken."""
        if len(self._holders) >= self._limit:
            return False
        self._holders.add(holder)
        return True

    def give_back(self, holder: object) -> None:
        """Give the place back, if `holder` has one."""
        self._holders.discard(holder)
