"""Where a conversion works.

<home>/conversions/<name>/source    links to what is converted
<home>/conversions/<name>/target    what comes out

A folder is locked as long as a process works in it. One that nobody has locked is what a power cut left; it goes when
the next one is made.
"""

import contextlib
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Mapping

from hugging_llama.store import layout

_FOLDER = "conversions"
_ABANDONED_AFTER_S = 60.0
_MAX_FILES = 10_000


class ConversionFolder:
    """A new folder, with links to `sources` (name -> place of the content). Raises OSError, ValueError for a name."""

    def __init__(self, home: str, sources: Mapping[str, str]) -> None:
        parent = os.path.join(os.path.abspath(home), _FOLDER)
        os.makedirs(parent, exist_ok=True)
        _remove_abandoned(parent)
        self.path = os.path.join(parent, os.urandom(8).hex())
        os.mkdir(self.path, 0o700)
        self.lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.mkdir(self.source)
            os.mkdir(self.target)
            for name, place in sources.items():
                if "/" in name or not layout.is_safe_file(name):
                    raise ValueError("not the name of a weight file")
                os.symlink(os.path.abspath(place), os.path.join(self.source, name))
        except BaseException:
            self.remove()
            raise

    @property
    def source(self) -> str:
        return os.path.join(self.path, "source")

    @property
    def target(self) -> str:
        return os.path.join(self.path, "target")

    def results(self) -> dict[str, str]:
        """Name -> path of what was made. Raises ValueError for anything but plain files with plain names, OSError."""
        found = {entry.name: entry for entry in os.scandir(self.target)}
        if not 0 < len(found) <= _MAX_FILES:
            raise ValueError("no files, or too many")
        for name, entry in found.items():
            if not layout.is_safe_file(name) or not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
                raise ValueError("not a file of a model")
        return {name: entry.path for name, entry in sorted(found.items())}

    def written_bytes(self) -> int:
        """What has been made so far."""
        with contextlib.suppress(OSError):
            return sum(entry.stat(follow_symlinks=False).st_size for entry in os.scandir(self.target))
        return 0

    def remove(self) -> None:
        """Take it away with all that is in it; to be called once."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.lock)


def _remove_abandoned(parent: str) -> None:
    for entry in os.scandir(parent):
        with contextlib.suppress(OSError):
            # one that was made this moment may not be locked yet
            if time.time() - entry.stat(follow_symlinks=False).st_mtime < _ABANDONED_AFTER_S:
                continue
            lock = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(entry.path, ignore_errors=True)
            finally:
                os.close(lock)
