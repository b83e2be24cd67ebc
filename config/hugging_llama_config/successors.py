"""What gunicorn's reload lacks: workers of before serve until those that come after them can, and for good where these
can't; and several HUPs that nobody has acted on yet are one.

gunicorn tells the old ones to end at once, while the new ones load for seconds; each further HUP ends what loads, so
that under a row of them nobody is served; and new ones that fail are its own end.
"""

import contextlib
import mmap
import queue
import signal
import time
from collections.abc import Callable
from typing import Any

from gunicorn.errors import HaltServer

LOADING_TIMEOUT_S = 60.0
"""So long new workers are waited for."""
_POLL_S = 0.05
_ENDINGS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class NoSuccessorsError(Exception):
    """The new workers don't serve, and are gone; those of before do. The message says why."""


def announce(worker: Any) -> None:
    """In the master, before the fork: a byte that the worker and the master share."""
    worker.hugging_llama_loaded = mmap.mmap(-1, 1)


def loaded(worker: Any) -> None:
    """In the worker: it can serve now."""
    worker.hugging_llama_loaded[0] = 1


def reload(server: Any, reload: Callable[[], None]) -> None:
    """gunicorn's own `reload`, whose call of `manage_workers` ends the old workers, with that call held back.

    Raises NoSuccessorsError.
    """
    manage_workers, last_age = server.manage_workers, server.worker_age

    def when_others_have_loaded() -> None:
        if problem := _wait_for_workers_after(server, last_age):
            _end_workers_after(server, last_age)
            server.num_workers = max(1, len(server.WORKERS))  # what is missing would be started, and fail, once more
            raise NoSuccessorsError(problem)
        manage_workers()

    server.manage_workers = when_others_have_loaded
    try:
        reload()
    finally:
        server.manage_workers = manage_workers


def _wait_for_workers_after(server: Any, last_age: int) -> str:
    """Why they are not waited for any more, "" where they have all loaded."""
    deadline = time.monotonic() + LOADING_TIMEOUT_S
    while time.monotonic() < deadline:
        new = _workers_after(server, last_age)
        if len(new) >= server.num_workers and all(worker.hugging_llama_loaded[0] for worker in new):
            return ""
        for _ in range(server.num_workers - len(new)):  # in place of those that were killed
            server.spawn_worker()
        time.sleep(_POLL_S)
        if _is_told_to_end(server):
            return "the server ends"
        if not _reap(server):
            return "the new workers fail to start"
    return f"the new workers have not started within {LOADING_TIMEOUT_S:g} s"


def _end_workers_after(server: Any, last_age: int) -> None:
    for worker in _workers_after(server, last_age):
        server.kill_worker(worker.pid, signal.SIGKILL)
    while _workers_after(server, last_age):
        _reap(server)
        time.sleep(_POLL_S)


def _reap(server: Any) -> bool:
    """False if one of those that have ended could not start, of which gunicorn would end, without tidying up."""
    workers = dict(server.WORKERS)
    try:
        server.reap_workers()
    except HaltServer:
        for worker in (worker for pid, worker in workers.items() if pid not in server.WORKERS):
            worker.tmp.close()
            server.cfg.child_exit(server, worker)
        return False
    return True


def _workers_after(server: Any, last_age: int) -> list[Any]:
    return [worker for worker in server.WORKERS.values() if worker.age > last_age]


def _is_told_to_end(server: Any) -> bool:
    """Whether such a signal waits, as all do while a reload goes on."""
    waiting = []
    with contextlib.suppress(queue.Empty):
        while True:
            waiting.append(server.SIG_QUEUE.get_nowait())
    for number in waiting:
        server.SIG_QUEUE.put_nowait(number)
    return any(number in _ENDINGS for number in waiting)


def wait_for_signals(wait: Callable[[float], list[int]], timeout: float = 1.0) -> list[int]:
    """gunicorn's own `wait_for_signals`, which collects what came while a reload was going on."""
    signals = wait(timeout)
    return [number for n, number in enumerate(signals) if number != signal.SIGHUP or number not in signals[:n]]
