"""Small files that are there whole or not at all, whatever happens while they are written."""

import os

from hugging_llama.store.new_folders import make_folders


def replace_file(path: str, content: bytes, modified_ns: int | None = None) -> None:
    """Write `content` beside `path`, then rename it there; the folder is made if need be.

    Readers and other writers see the old content or the new one, after a power cut, too. `modified_ns` is the time
    that the file shall show, in nanoseconds, None for now. Raises OSError, and then nothing has changed.
    """
    folder = os.path.dirname(path)
    make_folders(folder)
    temporary = temporary_name(path)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(fd, left) :]
        if modified_ns is not None:
            os.utime(fd, ns=(modified_ns, modified_ns))
        os.fsync(fd)
    except OSError:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)
    rename(temporary, path)
    sync_folder(folder)


def rename(temporary: str, path: str) -> None:
    """Give a file its name; one that can't have it goes. Raises OSError."""
    try:
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def temporary_name(path: str) -> str:
    """A name beside `path` that no other writer has; the dot keeps it from being taken for a file that is done."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{os.getpid()}.{os.urandom(4).hex()}")


def sync_folder(path: str) -> None:
    """Make a rename in this folder survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
