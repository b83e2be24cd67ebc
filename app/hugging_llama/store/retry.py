"""When to try again, and how long to wait before."""

import random
from dataclasses import dataclass


class TransientError(Exception):
    """Something that may go away by itself. `cause` is for users; `retry_after_s` is what the server asked for."""

    def __init__(self, cause: str, *, retry_after_s: float | None = None, is_unreachable: bool = False) -> None:
        super().__init__(cause)
        self.cause = cause
        self.retry_after_s = retry_after_s
        self.is_unreachable = is_unreachable


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Waits double from `first_wait_s` to `max_wait_s`; progress starts the count of `attempts` again.

    A host that can't be reached at all gets `connect_attempts` only, so that an offline machine answers in seconds.
    """

    attempts: int = 6
    connect_attempts: int = 3
    first_wait_s: float = 0.5
    max_wait_s: float = 8.0
    max_retry_after_s: float = 60.0
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0

    def is_over(self, failures: int, error: TransientError) -> bool:
        """Whether to give up after so many failures in a row."""
        return failures >= (self.connect_attempts if error.is_unreachable else self.attempts)

    def wait_s(self, failures: int, error: TransientError) -> float:
        """How long to wait after the `failures`th failure in a row; a little random, so that clients spread."""
        if error.retry_after_s is not None:
            return min(error.retry_after_s, self.max_retry_after_s)
        doubled: float = self.first_wait_s * 2.0 ** (failures - 1)
        return min(self.max_wait_s, doubled) * random.uniform(0.8, 1.2)
