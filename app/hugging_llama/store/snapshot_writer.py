"""Make a pulled commit visible: links to its blobs, and the ref at last."""

import os
from collections.abc import Iterable

from hugging_llama.store import durable
from hugging_llama.store.hub import RemoteFile
from hugging_llama.store.layout import RepoFolder
from hugging_llama.store.new_folders import make_folders


def write_snapshot(folder: RepoFolder, commit: str, revision: str, files: Iterable[RemoteFile]) -> None:
    """Link `files`, all of which are in the blobs, into the folder of `commit`, then point `revision` at it.

    The ref comes last and by rename, so that a pull which was interrupted is never seen as a model, and the commit
    that the revision meant before stays usable until then. Raises OSError.
    """
    make_folders(folder.snapshot(commit))
    for file in files:
        _link(folder.pointer(commit, file.path), folder.blob(file.digest))
    for made in (folder.blobs, folder.snapshot(commit)):
        durable.sync_folder(made)
    durable.replace_file(folder.ref(revision), commit.encode("ascii"))


def _link(pointer: str, blob: str) -> None:
    parent = os.path.dirname(pointer)
    make_folders(parent)
    target = os.path.relpath(blob, parent)
    try:
        os.symlink(target, pointer)  # atomic in itself: a crash leaves a link or none
    except FileExistsError:
        if os.path.islink(pointer) and os.readlink(pointer) == target:
            return
        temporary = durable.temporary_name(pointer)
        os.symlink(target, temporary)
        durable.rename(temporary, pointer)
