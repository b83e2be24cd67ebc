"""Uploaded GGUF files and pickled weights become safetensors: once, in a child process, before the model is named."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from hugging_llama.errors import HuggingLlamaError, InvalidRequestError, TransferError
from hugging_llama.neutral.conversion import ConversionRequest
from hugging_llama.neutral.transfer import TransferProgress
from hugging_llama.store import child_process, conversion_plan
from hugging_llama.store.blobs import Blobs
from hugging_llama.store.blocking import run_blocking
from hugging_llama.store.child_connection import HEARTBEAT_S, ChildConnection
from hugging_llama.store.conversion_folder import ConversionFolder
from hugging_llama.store.conversion_plan import ConversionPlan, needs_conversion
from hugging_llama.store.disk_errors import HOME, check_space, disk_error
from hugging_llama.store.file_lock import FileLock
from hugging_llama_config import launch
from hugging_llama_config.settings import Settings

__all__ = ["Conversion", "convert_files", "needs_conversion"]

_LOCK = ".conversion.lock"
"""In the home, held from the start of a conversion to its end, by one of all servers."""
_SPARE_BYTES = 64 * 2**20


class Conversion:
    """The progress of a conversion. Works with threads and in a process patched by gevent alike.

    `next` blocks for about a second at most, or as long as one file of the result is hashed. It raises
    InvalidRequestError for files that can't or may not be converted, InsufficientMemoryError, TransferError for all
    that a disk can do, and what `check` raises, which is called before each wait. `close` ends the conversion; it may
    be called at any time, from any thread or greenlet, more than once. It waits for nothing: a `next` that is under way
    is the one that clears away what is left.
    """

    def __init__(self, settings: Settings, blobs: Blobs, files: Mapping[str, str], check: Callable[[], None]) -> None:
        self._settings = settings
        self._check = check
        self._blobs = blobs
        self._given = files
        self._steps = self._run()
        self._folder: ConversionFolder | None = None
        self._process: ChildConnection | None = None
        self._is_closed = False
        self._turn = threading.Lock()
        self._only_one = FileLock(os.path.join(os.path.abspath(settings.home), _LOCK), private=True)
        self.files: dict[str, str] = {}
        """Path -> sha256 of a blob; filled at the good end."""

    def __iter__(self) -> "Conversion":
        return self

    def __next__(self) -> TransferProgress:
        try:
            with self._turn:
                progress = None if self._is_closed else next(self._steps, None)
        except Exception as error:
            was_closed = self._is_closed
            self.close()
            if was_closed:  # which was the reason
                raise StopIteration from None
            if isinstance(error, OSError):
                raise disk_error(error, HOME) from error
            raise
        if progress is None or self._is_closed:
            self.close()
            raise StopIteration
        return progress

    def close(self) -> None:
        """End the conversion."""
        self._is_closed = True
        if process := self._process:
            process.interrupt()
        if not self._turn.acquire(blocking=False):  # whoever has it looks at `_is_closed` after it
            return
        try:
            process, folder = self._process, self._folder
            self._process = self._folder = None
            if process:
                process.close()
            if folder:
                run_blocking(folder.remove)
            self._only_one.release()
        finally:
            self._turn.release()

    def _run(self) -> Iterator[TransferProgress]:
        is_gguf = conversion_plan.has_gguf(self._given)
        yield TransferProgress(status="parsing GGUF" if is_gguf else "converting model")
        plan = conversion_plan.make_plan(self._given, self._blob, allow_pickle=self._settings.allow_pickle)
        while not self._only_one.acquire():  # two would count on the same free memory
            self._check()
            yield TransferProgress(status="waiting for another conversion")
            time.sleep(HEARTBEAT_S)
        folder = ConversionFolder(
            self._settings.home, {name: self._blobs.path(digest) for name, digest in plan.sources.items()}
        )
        self._folder = folder
        check_space(folder.path, plan.weight_bytes + _SPARE_BYTES, "the converted model")
        request = ConversionRequest(
            source=folder.source,
            target=folder.target,
            weight_bytes=plan.weight_bytes,
            largest_bytes=plan.largest_bytes,
            gguf=plan.gguf,
        )
        self._process = _started(self._settings, request, folder)
        yield from self._listen(self._process, folder, plan)
        made = {}
        for name, path in _results(folder):
            self._check()
            made[name] = self._blobs.add_file(path)
            yield TransferProgress(status="verifying conversion")
        self.files = {**plan.kept, **made}

    def _listen(
        self, process: ChildConnection, folder: ConversionFolder, plan: ConversionPlan
    ) -> Iterator[TransferProgress]:
        while True:
            self._check()
            try:
                message = process.receive()
            except TimeoutError:
                message = TransferProgress(status="converting model")
            except EOFError:
                message = _death(process.wait())
            if message is None:
                return
            if isinstance(message, HuggingLlamaError):
                raise message
            yield TransferProgress(
                status=message.status,
                total_bytes=plan.weight_bytes,
                completed_bytes=min(folder.written_bytes(), plan.weight_bytes),
            )

    def _blob(self, digest: str) -> str:
        if not self._blobs.has(digest):
            raise InvalidRequestError(f"blob sha256:{digest} is not here; upload it first", param="files")
        return self._blobs.path(digest)


def convert_files(
    settings: Settings, blobs: Blobs, files: Mapping[str, str], check: Callable[[], None] = lambda: None
) -> Conversion:
    """Convert the files of a model (path -> sha256 of a blob); nothing happens before the first `next`. `check` raises
    when it is to end, as a server's does that shuts down."""
    return Conversion(settings, blobs, files, check)


def _started(settings: Settings, request: ConversionRequest, folder: ConversionFolder) -> ChildConnection:
    """A process that serves the request. It holds the lock of the folder open as long as it lives."""
    try:
        process = ChildConnection(lambda fd: launch.start_conversion(settings, fd, folder.lock))
    except OSError as error:
        raise TransferError(
            f"the conversion can't be started: {error.strerror or error}", cause="no process"
        ) from error
    with contextlib.suppress(OSError):  # it has ended, which is seen when it is listened to
        process.send(child_process.render_request(request))
    return process


def _death(status: int | None) -> HuggingLlamaError:
    """Why a process ended without a word."""
    if status == -signal.SIGXCPU:
        return InvalidRequestError("the conversion of this model takes too long and was ended", param="files")
    return TransferError("the conversion ended unexpectedly", cause="process ended")


def _results(folder: ConversionFolder) -> list[tuple[str, str]]:
    try:
        return list(folder.results().items())
    except ValueError as error:
        raise TransferError("the conversion ended without a model", cause="no files") from error
