"""Make a pulled commit visible: links to its blobs, and the ref at last."""

import os
from collections.abc import Iterable

from hugging_llama.store import transfer
from hugging_llama.store.hub import RemoteFile
from hugging_llama.store.layout import RepoFolder


def write_snapshot(folder: RepoFolder, commit: str, revision: str, files: Iterable[RemoteFile]) -> None:
    """Link `files`, all of which are in the blobs, into the folder of `commit`, then point `revision` at it.

    The ref comes last and by rename, so that a pull which was interrupted is never seen as a model, and the commit
    that the revision meant before stays usable until then. Raises OSError.
    """
    os.makedirs(folder.snapshot(commit), exist_ok=True)
    for file in files:
        _link(folder.pointer(commit, file.path), folder.blob(file.digest))
    for made in (folder.blobs, folder.snapshot(commit)):
        transfer.sync_folder(made)
    _write_ref(folder.ref(revision), commit)


def _link(pointer: str, blob: str) -> None:
    parent = os.path.dirname(pointer)
    os.makedirs(parent, exist_ok=True)
    target = os.path.relpath(blob, parent)
    if os.path.islink(pointer) and os.readlink(pointer) == target:
        return
    temporary = _temporary(pointer)
    os.symlink(target, temporary)
    _rename(temporary, pointer)


def _write_ref(path: str, commit: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = _temporary(path)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        os.write(fd, commit.encode("ascii"))
        os.fsync(fd)
    except OSError:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)
    _rename(temporary, path)
    transfer.sync_folder(os.path.dirname(path))


def _rename(temporary: str, path: str) -> None:
    try:
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def _temporary(path: str) -> str:
    """A name beside `path` that no other writer has; the dot keeps it from being taken for a ref or a file."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{os.getpid()}.{os.urandom(4).hex()}")
