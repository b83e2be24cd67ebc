"""The keys of a server, read anew whenever their file has changed."""

import hmac
import logging
import os
from collections.abc import Mapping

from hugging_llama_config.keys import Key, KeyFileError, hash_of, read_keys

logger = logging.getLogger(__name__)


class KeyRing:
    """One for an application and process. `path` "" is a server without keys.

    Closed once, closed for ever: a file that vanishes or is damaged leaves the keys that were there.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._stamp: tuple[int, ...] | None = None
        self._keys: Mapping[str, Key] = {}
        self._is_closed = False

    @property
    def is_open(self) -> bool:
        """Whether everybody may come in."""
        self._refresh()
        return not self._is_closed

    def find(self, secret: str) -> Key | None:
        """The key that this is. Looked up by its hash, which tells nothing of the secret by its timing."""
        wanted = hash_of(secret)
        found = self._keys.get(wanted)
        return found if found is not None and hmac.compare_digest(found.sha256, wanted) else None

    def _refresh(self) -> None:
        if not self._path:
            return
        try:
            status = os.stat(self._path)
        except OSError:
            return
        stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
        if stamp == self._stamp:
            return
        self._stamp, self._is_closed = stamp, True
        try:
            self._keys = {key.sha256: key for key in read_keys(self._path)}
        except (KeyFileError, FileNotFoundError) as error:
            logger.error("%s; the keys from before go on to hold", error)
