"""Contents that models are made of, named by their sha256: what users uploaded, and what was made of it.

A content is complete once it has its name; until then it lies beside it, under a name that begins with a dot.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator

from hugging_llama.errors import BodyTooLargeError, InvalidRequestError
from hugging_llama.store import durable, folders, home_format
from hugging_llama.store.blocking import run_blocking
from hugging_llama.store.disk_errors import HOME, check_space, disk_errors

KEPT_S = 3600.0
"""How long what no model needs stays: whoever uploads it has this time to make a model of it."""
_CHUNK_BYTES = 2**20


class Blobs:
    """The contents in one home. Safe for threads, greenlets and processes."""

    def __init__(self, home: str) -> None:
        self._home = os.path.abspath(home) if home else ""

    def path(self, digest: str) -> str:
        """Where the content with this sha256 lies or would lie. Raises ValueError for anything else."""
        return folders.blob_path(self._home, digest)

    def has(self, digest: str) -> bool:
        """Whether the content is here. Who asks is about to use it, so it counts as new again. Raises ValueError."""
        path = self.path(digest)
        try:
            if not self._home or not stat.S_ISREG(os.lstat(path).st_mode):
                return False
            os.utime(path)
        except OSError:
            return False
        return True

    def check_space(self, size_bytes: int) -> None:
        """Raises TransferError if the disk has no room for so much."""
        with contextlib.suppress(OSError):  # not there yet: it is about to be made
            check_space(self._home, size_bytes, "the file")

    def receive(self, digest: str, read: Callable[[int], bytes], max_bytes: int | None = None) -> None:
        """Keep what `read` gives, up to the empty piece, if it has this sha256. Of a content that is not kept, for
        whatever reason, nothing stays.

        Raises InvalidRequestError for another content, BodyTooLargeError for more than `max_bytes`, TransferError if
        the disk fails, ValueError for a hostile digest, and what `read` raises.
        """
        path = self.path(digest)
        hashed = hashlib.sha256()
        received = 0
        with self._new_file(path) as (temporary, fd):
            while chunk := read(_CHUNK_BYTES):
                received += len(chunk)
                if max_bytes is not None and received > max_bytes:
                    raise BodyTooLargeError(max_bytes)
                with disk_errors(HOME):
                    run_blocking(_hash_and_write, hashed, fd, chunk)
            if hashed.hexdigest() != digest:
                raise InvalidRequestError(
                    f'digest mismatch, expected "sha256:{digest}", got "sha256:{hashed.hexdigest()}"', param="digest"
                )
            with disk_errors(HOME):
                run_blocking(_name_file, temporary, fd, path)

    def add_file(self, path: str) -> str:
        """Take over a file of ours: it gets the name of its content, which is returned. Raises TransferError."""
        with disk_errors(HOME):
            home_format.prepare(self._home)
            digest: str = run_blocking(_hash_and_sync, path)
            kept = self.path(digest)
            if self.has(digest):
                os.unlink(path)
                return digest
            os.makedirs(os.path.dirname(kept), exist_ok=True)
            os.utime(path)  # new before it has the name: pruning may look at any moment
            try:
                os.replace(path, kept)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                with open(path, "rb") as file:
                    self.receive(digest, file.read)
                os.unlink(path)
            durable.sync_folder(os.path.dirname(kept))
        return digest

    def add_copy(self, path: str) -> str:
        """Keep the content of a file that stays where it is, without a copy where the disk can do that; its sha256.

        Raises TransferError.
        """
        with disk_errors(HOME):
            home_format.prepare(self._home)
            folder = os.path.join(self._home, "blobs")
            os.makedirs(folder, exist_ok=True)
            temporary = durable.temporary_name(os.path.join(folder, "copy"))
            try:
                run_blocking(_link_or_copy, os.path.realpath(path), temporary)
                return self.add_file(temporary)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)

    def prune(self, used: Collection[str], kept_s: float = KEPT_S) -> int:
        """Take away what is not `used` and older than `kept_s`, and what dead uploads left; the bytes that went."""
        folder = os.path.join(self._home, "blobs")
        newest, freed = time.time() - kept_s, 0
        for name in _names(folder):
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                status = os.lstat(path)
                if name not in used and status.st_mtime < newest and stat.S_ISREG(status.st_mode):
                    os.unlink(path)
                    freed += status.st_size
        return freed

    @contextlib.contextmanager
    def _new_file(self, path: str) -> Iterator[tuple[str, int]]:
        """A file beside `path` to write into, its name and its descriptor; it goes unless it was renamed."""
        if not self._home:
            raise InvalidRequestError("this server has no folder for uploads: set HUGGING_LLAMA_HOME")
        with disk_errors(HOME):
            home_format.prepare(self._home)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            temporary = durable.temporary_name(path)
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            yield temporary, fd
        finally:
            os.close(fd)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


def _hash_and_write(hashed: "hashlib._Hash", fd: int, chunk: bytes) -> None:
    hashed.update(chunk)
    left = memoryview(chunk)
    while left:
        left = left[os.write(fd, left) :]


def _name_file(temporary: str, fd: int, path: str) -> None:
    os.fsync(fd)
    os.replace(temporary, path)
    durable.sync_folder(os.path.dirname(path))


def _hash_and_sync(path: str) -> str:
    """The sha256 of a file that is safe on the disk by then."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with open(fd, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(fd)
    return digest


def _link_or_copy(path: str, target: str) -> None:
    try:
        os.link(path, target)
        os.utime(target)  # what is old may be pruned
    except OSError:  # another disk, or another user's file, of which there may be a link already
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)
        shutil.copyfile(path, target)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
