"""Folders of models that are made of uploaded blobs: links, so that a content lies on disk once.

<home>/blobs/<sha256>               contents
<home>/folders/<sha256>/<file>      links to blobs; the folder is named by what is in it, and can be made again
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Mapping

from hugging_llama.store import durable, layout

_SHA256_LENGTH = 64


def check(files: Mapping[str, str]) -> None:
    """Raises ValueError for a path or a digest that must not become part of a path."""
    for path, digest in files.items():
        if not layout.is_safe_file(path) or len(digest) != _SHA256_LENGTH or not layout.is_digest(digest):
            raise ValueError("not a file of a model")


def blob_path(home: str, digest: str) -> str:
    """Where the content of this sha256 lies. Raises ValueError for anything else."""
    if len(digest) != _SHA256_LENGTH or not layout.is_digest(digest):
        raise ValueError("not a digest")
    return os.path.join(home, "blobs", digest)


def folder_path(home: str, files: Mapping[str, str]) -> str:
    """Where the folder of these files is or would be. Raises ValueError for hostile ones."""
    check(files)
    text = "".join(f"{path}\0{digest}\n" for path, digest in sorted(files.items()))
    return os.path.join(home, "folders", hashlib.sha256(text.encode()).hexdigest())


def make_folder(home: str, files: Mapping[str, str]) -> str:
    """The folder of these files, made if it is not there. A link whose blob is gone leads nowhere.

    Raises ValueError for hostile files, OSError.
    """
    folder = folder_path(home, files)
    if os.path.isdir(folder):
        return folder
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    temporary = durable.temporary_name(folder)
    os.mkdir(temporary)
    try:
        for path, digest in files.items():
            pointer = os.path.join(temporary, *path.split("/"))
            os.makedirs(os.path.dirname(pointer), exist_ok=True)
            os.symlink(os.path.relpath(blob_path(home, digest), os.path.dirname(pointer)), pointer)
        durable.sync_folder(temporary)
        with contextlib.suppress(FileExistsError):  # somebody else was faster
            os.rename(temporary, folder)
        durable.sync_folder(os.path.dirname(folder))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def remove_folder(folder: str) -> None:
    """Take a folder away, and what an interrupted call has left of it.

    It loses its name before anything in it goes: what has the name counts as whole. Raises OSError.
    """
    parent, name = os.path.split(folder)
    doomed = os.path.join(parent, f".{name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder, doomed)
    shutil.rmtree(doomed, ignore_errors=True)
