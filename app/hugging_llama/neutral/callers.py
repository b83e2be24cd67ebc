"""Who asks: what the engine takes turns between."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """One of those who share the engine, by a name that whoever lets them in has chosen; "" is everybody without one.

    A higher `priority` goes first where requests wait. `is_metered`: what it reads and writes is counted, so the
    beginning of each answer is told, too.
    """

    id: str = ""
    priority: int = 0
    is_metered: bool = False


ANONYMOUS = Caller()
