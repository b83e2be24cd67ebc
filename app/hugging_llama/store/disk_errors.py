"""What a disk refuses, in words that hold no path."""

import contextlib
import errno
import shutil
from collections.abc import Iterator

from hugging_llama.errors import TransferError
from hugging_llama_config.units import format_bytes

HOME = "the folder of this server's models"
CACHE = "the model cache"
_FULL = frozenset({errno.ENOSPC, errno.EFBIG})


def disk_error(error: OSError, place: str) -> TransferError:
    """The operating system's words; `place` is what it refuses to write to."""
    if error.errno in _FULL:
        return TransferError(f"no space left on the disk of {place}", cause="disk full")
    if error.errno == errno.EDQUOT:
        text = f"the disk quota of the server's user is used up: {place} can't grow"
        return TransferError(text, cause="disk quota")
    cause = (error.strerror or "input/output error").lower()
    return TransferError(f"{place} can't be written: {cause}", cause=cause)


@contextlib.contextmanager
def disk_errors(place: str) -> Iterator[None]:
    """Raises TransferError in place of an OSError."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, place) from error


def check_space(folder: str, need_bytes: int, what: str) -> None:
    """Raises TransferError if the disk of `folder` has no room for `what`, OSError if there is no such folder."""
    free_bytes = shutil.disk_usage(folder).free
    if need_bytes > free_bytes:
        need, free = format_bytes(need_bytes), format_bytes(free_bytes)
        raise TransferError(f"not enough disk space for {what}: {need} are needed, {free} are free", cause="disk full")
