"""Several files of a pull at once, each on a thread with a connection of its own."""

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType

from hugging_llama.store.hub import RemoteFile

_CONNECTIONS = 4

Wait = Callable[[float], object]
"""Sleeps for so many seconds, less if the download is to stop."""

Fetch = Callable[[RemoteFile, Wait], Generator[int, None, None]]
"""Brings one file and yields how many of its bytes are there; closing it keeps them."""


class Downloads:
    """Files on their way, at most four at a time, begun in the order given. A context manager.

    `connect` makes what one thread fetches with. Nothing waits for whoever asks about the progress: one that asks
    seldom holds up nobody who waits for the same files. Leaving the block stops what is under way.
    """

    def __init__(self, files: Sequence[RemoteFile], connect: Callable[[], AbstractContextManager[Fetch]]) -> None:
        self._waiting = iter(list(files))  # shared by the threads: `next` of a list's iterator is atomic
        self._connect = connect
        self._arrived: dict[str, int] = {}
        self._failures: list[BaseException] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name=f"download-{number}", daemon=True)
            for number in range(min(_CONNECTIONS, len(files)))
        ]

    def __enter__(self) -> "Downloads":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait(self, timeout_s: float) -> bool:
        """Whether all files are there and verified, after `timeout_s` at most. Raises what ended a download."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        is_over = not any(thread.is_alive() for thread in self._threads)
        if self._failures:
            raise self._failures[0]
        return is_over

    def arrived(self) -> dict[str, int]:
        """How many bytes are there, by path, of the files that were begun."""
        return self._arrived.copy()

    def _work(self) -> None:
        try:
            with self._connect() as fetch:
                for file in self._waiting:
                    self._bring(fetch, file)
                    if self._stop.is_set():
                        return
        except BaseException as error:
            self._failures.append(error)
            self._stop.set()

    def _bring(self, fetch: Fetch, file: RemoteFile) -> None:
        with contextlib.closing(fetch(file, self._stop.wait)) as progress:
            for arrived in progress:
                self._arrived[file.path] = arrived
                if self._stop.is_set():
                    return
