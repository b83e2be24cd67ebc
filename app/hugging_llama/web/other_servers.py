"""Servers that do not hand out the client's socket: how each of them tells that the client hung up."""

import asyncio
import concurrent.futures
import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)

POLL_S = 0.2
_DISCONNECT = "http.disconnect"


def uwsgi_socket(environ: dict[str, Any]) -> int:
    """The descriptor of uWSGI's connection to its client, which may be its own router; -1 in other servers."""
    if "uwsgi.version" not in environ or (uwsgi := sys.modules.get("uwsgi")) is None:
        return -1
    return int(uwsgi.connection_fd())


def question(environ: dict[str, Any]) -> Callable[[], bool] | None:
    """Waitress' answer to whether the client is gone, which it knows with `channel_request_lookahead` above 0."""
    found = environ.get("waitress.client_disconnected")
    return found if callable(found) else None


class AsgiWatch:
    """Waits for the message with which an ASGI server says that the client left. `of` what a2wsgi has as the body."""

    def __init__(self, body: Any, on_gone: Callable[[], None]) -> None:
        self._on_gone = on_gone
        self._future: concurrent.futures.Future[None] = asyncio.run_coroutine_threadsafe(
            self._wait(body.receive), body.loop
        )

    @staticmethod
    def is_for(environ: dict[str, Any]) -> bool:
        """Whether this request came through a2wsgi. Its body must have been read: what comes next is the end."""
        body = environ.get("wsgi.input")
        return "asgi.scope" in environ and hasattr(body, "loop") and hasattr(body, "receive")

    def cancel(self) -> None:
        """End the watch. Any thread, any number of times."""
        self._future.cancel()

    async def _wait(self, receive: Callable[[], Any]) -> None:
        while (await receive()).get("type") != _DISCONNECT:
            pass
        await asyncio.to_thread(self._on_gone)  # it may have to wait for the engine's socket


class PolledWatch:
    """One request of a server that must be asked."""

    def __init__(self, poller: "Poller", is_gone: Callable[[], bool], on_gone: Callable[[], None]) -> None:
        self.is_gone = is_gone
        self.on_gone = on_gone
        self._poller = poller

    def cancel(self) -> None:
        """End the watch. Any thread, any number of times."""
        self._poller.remove(self)


class Poller:
    """Asks for all requests of a process, in a thread that lives while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watches: set[PolledWatch] = set()
        self._is_running = False

    def watch(self, is_gone: Callable[[], bool], on_gone: Callable[[], None]) -> PolledWatch:
        """Ask from now on."""
        watch = PolledWatch(self, is_gone, on_gone)
        with self._lock:
            self._watches.add(watch)
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, daemon=True, name="hugging-llama-polls").start()
        return watch

    def remove(self, watch: PolledWatch) -> bool:
        """Whether this call ended the watch."""
        with self._lock:
            found = watch in self._watches
            self._watches.discard(watch)
            return found

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._watches:
                    self._is_running = False
                    return
                watches = list(self._watches)
            for watch in watches:
                self._ask(watch)
            time.sleep(POLL_S)

    def _ask(self, watch: PolledWatch) -> None:
        """Nothing that goes wrong with one request may end the thread, which all others need."""
        try:
            is_gone = watch.is_gone()
            if is_gone and self.remove(watch):
                watch.on_gone()
        except Exception:
            with contextlib.suppress(Exception):
                self.remove(watch)
            logger.exception("ending a request whose client hung up failed")
