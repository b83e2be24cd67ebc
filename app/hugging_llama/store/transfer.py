"""One blob from the Hub into the cache: locked, resumed, verified, and only then given its name."""

import hashlib
import os
import re
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Protocol

import requests

from hugging_llama.errors import TransferError
from hugging_llama.store import hub_http
from hugging_llama.store.downloads import Wait
from hugging_llama.store.file_lock import FileLock
from hugging_llama.store.hub import RemoteFile
from hugging_llama.store.layout import RepoFolder
from hugging_llama.store.new_folders import make_folders
from hugging_llama.store.retry import RetryPolicy, TransientError

_LOCK_POLL_S = 0.1
_HASH_BYTES = 2**20
_MAX_MISMATCHES = 2
# Less than this between two failures is not progress, or a server could keep us for ever, byte by byte.
_PROGRESS_BYTES = 2**16
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(?:\d{1,18}|\*)")

OpenFile = Callable[[int], requests.Response]

Count = Callable[[int], object]
"""Is told how many bytes have just come."""


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class _MismatchError(Exception):
    pass


def has_blob(folder: RepoFolder, file: RemoteFile) -> bool:
    """Whether the content is there, whole."""
    try:
        return os.stat(folder.blob(file.digest)).st_size == file.size_bytes
    except OSError:
        return False


def arrived_bytes(folder: RepoFolder, file: RemoteFile) -> int:
    """How much of the content is there."""
    if has_blob(folder, file):
        return file.size_bytes
    try:
        return min(os.stat(folder.part(file.digest)).st_size, file.size_bytes)
    except OSError:
        return 0


def fetch_blob(
    folder: RepoFolder,
    file: RemoteFile,
    open_file: OpenFile,
    policy: RetryPolicy,
    wait: Wait,
    count: Count = lambda number: None,
) -> Generator[int, None, None]:
    """Bring one content into the cache; yields the bytes that are there, often.

    Whoever else fetches the same content, in this process or another, does so once: one has the lock, the others
    watch its file grow, and one of them goes on with it if the first goes away. `open_file` is given the first byte
    wanted; `wait` sleeps between two tries. When the last number has come the content is verified and has its name.
    Raises TransferError, and what `open_file` raises; OSError for the disk. What has arrived is kept.
    """
    lock = FileLock(folder.lock(file.digest))
    while not lock.acquire():
        yield arrived_bytes(folder, file)
        wait(_LOCK_POLL_S)
    with lock:
        if not has_blob(folder, file):
            yield from _fetch_locked(folder, file, open_file, policy, wait, count)
    yield file.size_bytes


def _fetch_locked(
    folder: RepoFolder, file: RemoteFile, open_file: OpenFile, policy: RetryPolicy, wait: Wait, count: Count
) -> Iterator[int]:
    make_folders(folder.blobs)
    mismatches = failures = best = 0
    with _Part(folder.part(file.digest), file) as part:
        while True:
            try:
                for arrived in _attempt(part, file, open_file, count):
                    if arrived >= best + _PROGRESS_BYTES:
                        best, failures = arrived, 0
                    yield arrived
                part.finish(folder.blob(file.digest))
                return
            except _MismatchError as error:
                part.restart()
                mismatches, best = mismatches + 1, 0
                if mismatches >= _MAX_MISMATCHES:
                    raise TransferError(
                        f"{file.path} does not have the digest that the Hub announced", cause="digest mismatch"
                    ) from error
            except TransientError as error:
                failures += 1
                if policy.is_over(failures, error):
                    raise TransferError(f"{file.path}: {error.cause}", cause=error.cause) from error
                wait(policy.wait_s(failures, error))


def _attempt(part: "_Part", file: RemoteFile, open_file: OpenFile, count: Count) -> Iterator[int]:
    """One request for what is missing. Raises TransientError, _MismatchError."""
    if part.arrived < file.size_bytes:
        with open_file(part.arrived) as response:
            if response.status_code != 206:
                part.restart()
            elif _range_start(response) != part.arrived:
                raise TransientError("the Hub sent another part of a file than was asked for")
            while chunk := hub_http.read_chunk(response):
                if part.arrived + len(chunk) > file.size_bytes:
                    raise _MismatchError
                part.write(chunk)
                count(len(chunk))
                yield part.arrived
    if part.arrived < file.size_bytes:
        raise TransientError("the Hub cut a file short")
    if part.digest() != file.digest:
        raise _MismatchError


def _range_start(response: requests.Response) -> int | None:
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    return int(match[1]) if match else None


class _Part:
    """The file that grows. It is hashed while it is written; what was there before is read once."""

    def __init__(self, path: str, file: RemoteFile) -> None:
        self._path = path
        self._file = file
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        self._hash: _Hash = new_hash(file)
        self.arrived = 0
        size = os.fstat(self._fd).st_size
        if size > file.size_bytes:
            self.restart()
        while self.arrived < size and (chunk := os.pread(self._fd, _HASH_BYTES, self.arrived)):
            self._hash.update(chunk)
            self.arrived += len(chunk)

    def __enter__(self) -> "_Part":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def write(self, chunk: bytes) -> None:
        """Append. The place is explicit: where locks don't work (some network disks), two writers write the same."""
        view = memoryview(chunk)
        place = self.arrived
        while view:
            written = os.pwrite(self._fd, view, place)
            place += written
            view = view[written:]
        self._hash.update(chunk)
        self.arrived = place

    def digest(self) -> str:
        return self._hash.hexdigest()

    def restart(self) -> None:
        os.ftruncate(self._fd, 0)
        self._hash = new_hash(self._file)
        self.arrived = 0

    def finish(self, blob: str) -> None:
        os.fsync(self._fd)
        os.replace(self._path, blob)


def new_hash(file: RemoteFile) -> _Hash:
    """Of the kind that names the file's content, ready for that."""
    if len(file.digest) == 64:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % file.size_bytes, usedforsecurity=False)  # git's name of a content
