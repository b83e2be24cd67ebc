"""The keys of a server, read anew whenever their file has changed."""

import hmac
import logging
import mmap
import os
from collections.abc import Mapping

from hugging_llama_config.keys import Key, KeyFileError, KeyFileUnreadableError, hash_of, read_keys

logger = logging.getLogger(__name__)

_UNREAD: tuple[int, ...] = ()


class KeyRing:
    """One for an application and process. `path` "" is a server without keys; `is_required`: nobody comes in without a
    key, be there a file or not.

    Closed once, closed for ever: a file that vanishes or is damaged leaves the keys that were there, and a process that
    comes later, and has seen none, lets nobody in; see `share`.
    """

    def __init__(self, path: str, *, is_required: bool = False) -> None:
        self._path = path
        self._stamp = _UNREAD
        self._keys: Mapping[str, Key] = {}
        self._closed: bytearray | mmap.mmap = bytearray([is_required])
        self._said = ""

    def share(self, closed: mmap.mmap) -> None:
        """`closed` is a byte that all processes of a server have in common, as long as it lives: not 0 if one of them
        has been closed."""
        closed[0] |= self._closed[0]
        self._closed = closed
        self._refresh()

    @property
    def is_open(self) -> bool:
        """Whether everybody may come in."""
        self._refresh()
        return not self._closed[0]

    def find(self, secret: str) -> Key | None:
        """The key that this is. Looked up by its hash, which tells nothing of the secret by its timing."""
        wanted = hash_of(secret)
        found = self._keys.get(wanted)
        return found if found is not None and hmac.compare_digest(found.sha256, wanted) else None

    def _refresh(self) -> None:
        stamp = _stamp(self._path) if self._path else _UNREAD
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = {key.sha256: key for key in read_keys(self._path)}
            self._said = ""
        except FileNotFoundError:
            if self._closed[0]:
                self._say(f"there is no file {self._path}")
            return
        except KeyFileError as error:
            if isinstance(error, KeyFileUnreadableError):
                self._stamp = _UNREAD  # the file need not change to be readable later
            self._say(str(error))
        self._closed[0] = 1

    def _say(self, text: str) -> None:
        """Once, not with every request."""
        if text != self._said:
            self._said = text
            logger.error("%s; %s", text, "the keys from before go on to hold" if self._keys else "nobody may come in")


def _stamp(path: str) -> tuple[int, ...]:
    """Another one whenever there is something else to be read."""
    try:
        status = os.stat(path)
    except OSError as error:
        return (error.errno or 0,)
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size
