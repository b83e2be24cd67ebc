"""Who is next where requests of several callers wait.

The highest priority goes first; within one, whoever holds the fewest places, then whoever's last turn is longest ago,
and who never had one comes before all who had. So of two callers the one with fewer requests never waits for all of the
other's: the next place is its own until both hold as many, and from there on they take turns. A lower priority ages by
turns, not by the clock: after `_PASSED_OVER` of them that a higher one has taken, the next is for one of the lower.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from heapq import heapify, heappop, heapreplace
from itertools import chain
from types import MappingProxyType
from typing import Generic, TypeVar

from hugging_llama.neutral.callers import Caller

ItemT = TypeVar("ItemT")

_PASSED_OVER = 8

_NOBODY: Mapping[Caller, int] = MappingProxyType({})


class Turns:
    """Remembers who had a turn when. A caller is forgotten as soon as that makes no difference any more."""

    def __init__(self) -> None:
        self._last: dict[Caller, int] = {}
        self._num_turns = 0
        self._num_passed_over = 0

    def order(self, waiting: Mapping[Caller, int], held: Mapping[Caller, int] = _NOBODY) -> Iterator[Caller]:
        """Whose turns come, one after the other, for so many requests of each caller, if none comes and none ends.

        `held` are the places that callers have now; of callers who are alike the first one of `waiting` is next.
        """
        heaps: dict[int, list[tuple[int, int, int, Caller]]] = {}
        for place, caller in enumerate(waiting):
            heap = heaps.setdefault(caller.priority, [])
            heap.append((held.get(caller, 0), self._last.get(caller, 0), place, caller))
        for heap in heaps.values():
            heapify(heap)
        left, turn, passed_over = dict(waiting), self._num_turns, self._num_passed_over
        while heaps:
            top = max(heaps)
            chosen = top
            if passed_over >= _PASSED_OVER and len(heaps) > 1:
                chosen = min((lower for lower in heaps if lower != top), key=lambda lower: heaps[lower][0])
            passed_over = _passed_over(passed_over, is_top=chosen == top, has_lower=len(heaps) > 1)
            num_held, _, place, caller = heaps[chosen][0]
            yield caller
            turn, left[caller] = turn + 1, left[caller] - 1
            if left[caller]:
                heapreplace(heaps[chosen], (num_held + 1, turn, place, caller))
            elif len(heaps[chosen]) > 1:
                heappop(heaps[chosen])
            else:
                del heaps[chosen]

    def took(self, caller: Caller, others: Mapping[Caller, int]) -> None:
        """`caller` has had a turn; `others` are those who wait now, of it as well if more of it do."""
        is_top = all(other.priority <= caller.priority for other in others)
        has_lower = not is_top or any(other.priority < caller.priority for other in others)
        self._num_passed_over = _passed_over(self._num_passed_over, is_top=is_top, has_lower=has_lower)
        self._num_turns += 1
        self._last[caller] = self._num_turns
        oldest = min((self._last.get(other, 0) for other in others), default=self._num_turns)
        for known in [known for known, turn in self._last.items() if turn < oldest and known not in others]:
            del self._last[known]


def _passed_over(before: int, *, is_top: bool, has_lower: bool) -> int:
    return before + 1 if is_top and has_lower else 0


class CallerQueue(Generic[ItemT]):
    """Those who wait, in the order of arrival within a caller. Not thread-safe.

    With a single caller it is a plain queue.
    """

    def __init__(self, caller_of: Callable[[ItemT], Caller]) -> None:
        self._caller_of = caller_of
        self._lines: dict[Caller, deque[ItemT]] = {}
        self._ahead: deque[ItemT] = deque()
        self._turns = Turns()

    def __bool__(self) -> bool:
        return bool(self._ahead or self._lines)

    def __len__(self) -> int:
        return len(self._ahead) + sum(map(len, self._lines.values()))

    def __iter__(self) -> Iterator[ItemT]:
        """All of them; `in_turn` tells the order."""
        return chain(self._ahead, *self._lines.values())

    @property
    def has_ahead(self) -> bool:
        """Whether somebody waits whose turn has come already."""
        return bool(self._ahead)

    def has_room(self, caller: Caller, limit: int) -> bool:
        """Whether one more may wait where `limit` may: a full queue still has a place for a caller who has none in it,
        up to as many again, so that nobody can keep the others out."""
        return len(self) < limit or (caller not in self._lines and len(self) < 2 * limit)

    def append(self, item: ItemT) -> None:
        """It waits behind all of its caller."""
        self._lines.setdefault(self._caller_of(item), deque()).append(item)

    def put_back(self, item: ItemT) -> None:
        """It comes before everybody: it has had its turn before."""
        self._ahead.appendleft(item)

    def keep_first(self, item: ItemT) -> None:
        """Its turn has come and there is no room for it yet: nobody who comes later overtakes it."""
        if item not in self._ahead:
            self.take(item)
            self._ahead.append(item)

    def first(self, held: Mapping[Caller, int] = _NOBODY) -> ItemT | None:
        """Whose turn it is, None if nobody waits; `held` as in `Turns.order`."""
        return next(self.in_turn(held), None)

    def in_turn(self, held: Mapping[Caller, int] = _NOBODY) -> Iterator[ItemT]:
        """All in the order in which they will be taken, if nobody comes and nobody ends."""
        yield from self._ahead
        lines = {caller: iter(line) for caller, line in self._lines.items()}
        for caller in self._turns.order({caller: len(line) for caller, line in self._lines.items()}, held):
            yield next(lines[caller])

    def take(self, item: ItemT) -> None:
        """It has its turn. Raises ValueError if it does not wait."""
        is_turn = item not in self._ahead
        self.remove(item)
        if is_turn:
            self._turns.took(self._caller_of(item), {caller: len(line) for caller, line in self._lines.items()})

    def remove(self, item: ItemT) -> None:
        """It does not want to wait any longer. Raises ValueError if it does not wait."""
        if item in self._ahead:
            self._ahead.remove(item)
            return
        caller = self._caller_of(item)
        if caller not in self._lines:
            raise ValueError("it does not wait")
        self._lines[caller].remove(item)
        if not self._lines[caller]:
            del self._lines[caller]

    def clear(self) -> None:
        self._lines.clear()
        self._ahead.clear()


def fair_shares(total: int, wanted: Mapping[Caller, int]) -> dict[Caller, int]:
    """So much of `total` for each: all that it wants if that is no more than its share, else as much as the others.

    What does not divide goes to the first ones.
    """
    shares = dict.fromkeys(wanted, 0)
    hungry = [caller for caller in wanted if wanted[caller] > 0]
    while total > 0 and hungry:
        each, rest = divmod(total, len(hungry))
        for number, caller in enumerate(hungry):
            given = min(each + (each == 0 and number < rest), wanted[caller] - shares[caller])
            shares[caller] += given
            total -= given
        hungry = [caller for caller in hungry if shares[caller] < wanted[caller]]
    return shares
