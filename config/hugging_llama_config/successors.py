"""What gunicorn's reload lacks: workers of before serve until those that come after them can, and several HUPs that
nobody has acted on yet are one.

gunicorn tells the old ones to end at once, while the new ones load for seconds; each further HUP ends what loads, so
that under a row of them nobody is served.
"""

import mmap
import signal
import time
from collections.abc import Callable
from typing import Any

LOADING_TIMEOUT_S = 30.0
"""So long new workers are waited for; then the old ones end all the same, as a reload must come to its end."""
_POLL_S = 0.05


def announce(worker: Any) -> None:
    """In the master, before the fork: a byte that the worker and the master share."""
    worker.hugging_llama_loaded = mmap.mmap(-1, 1)


def loaded(worker: Any) -> None:
    """In the worker: it can serve now."""
    worker.hugging_llama_loaded[0] = 1


def reload(server: Any, reload: Callable[[], None]) -> None:
    """gunicorn's own `reload`, whose call of `manage_workers` ends the old workers, with that call held back."""
    manage_workers, last_age = server.manage_workers, server.worker_age

    def when_others_have_loaded() -> None:
        _wait_for_workers_after(server, last_age)
        manage_workers()

    server.manage_workers = when_others_have_loaded
    try:
        reload()
    finally:
        server.manage_workers = manage_workers


def _wait_for_workers_after(server: Any, last_age: int) -> None:
    deadline = time.monotonic() + LOADING_TIMEOUT_S
    while time.monotonic() < deadline:
        new = [worker for worker in server.WORKERS.values() if worker.age > last_age]
        if len(new) >= server.num_workers and all(worker.hugging_llama_loaded[0] for worker in new):
            return
        for _ in range(server.num_workers - len(new)):  # in place of those that were killed
            server.spawn_worker()
        time.sleep(_POLL_S)
        server.reap_workers()


def wait_for_signals(wait: Callable[[float], list[int]], timeout: float = 1.0) -> list[int]:
    """gunicorn's own `wait_for_signals`, which collects what came while a reload was going on."""
    signals = wait(timeout)
    return [number for n, number in enumerate(signals) if number != signal.SIGHUP or number not in signals[:n]]
