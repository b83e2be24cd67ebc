"""Files that belong to one user and are there whole or not at all, whatever happens while they are written."""

import contextlib
import os
from pathlib import Path


def replace_private_file(path: Path, content: bytes) -> None:
    """Write `content` beside `path`, for its owner alone to read, then rename it there.

    Raises OSError, and then nothing has changed.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
