"""Takes away what uploads and interrupted writes left in the home: at a server's start, never for a request.

<home>/models/.lock   held while this runs, and by whoever writes down or forgets what a model needs
"""

import contextlib
import logging
import os
import re
import time
from collections.abc import Collection

from hugging_llama.errors import HuggingLlamaError
from hugging_llama.store import folders, home_format
from hugging_llama.store.blobs import KEPT_S, Blobs
from hugging_llama.store.blocking import run_blocking
from hugging_llama.store.file_lock import FileLock
from hugging_llama.store.manifests import Manifests

logger = logging.getLogger(__name__)

_ATTEMPTS, _WAIT_S = 100, 0.1
_TEMPORARY = re.compile(r"\..+\.[0-9]+\.[0-9a-f]{8}")
"""What `durable.temporary_name` makes."""


def lock_file(home: str) -> str:
    """The lock of what models are made of."""
    return os.path.join(home, "models", ".lock")


def tidy(home: str, *, prunes: bool) -> None:
    """What a server does once when it starts: bring the home to today's format and, if `prunes`, prune it.

    Whatever fails is logged; the server can do without.
    """
    try:
        home_format.prepare(home)
        if not prunes:
            return
        for _ in range(_ATTEMPTS):
            freed = run_blocking(prune, home)
            if freed is not None:
                break
            time.sleep(_WAIT_S)
    except (OSError, HuggingLlamaError) as error:
        logger.warning("the folder of named models could not be tidied: %s", error)
        return
    if freed is None:
        logger.warning("uploads were not pruned: another process uses their folder")
    elif freed:
        logger.info("%d bytes of uploads that no model needs were removed", freed)


def prune(home: str, kept_s: float = KEPT_S) -> int | None:
    """Remove what no named model needs and is older than `kept_s`; the bytes that went, None if others are writing.

    Nothing goes while a manifest can't be read: nobody knows what it needs. Raises OSError.
    """
    lock = FileLock(lock_file(home), private=True)
    if not lock.acquire():
        return None
    with lock:
        _prune_temporary(os.path.join(home, "models"), kept_s)
        sources = Manifests(home).sources()
        if sources is None:
            logger.warning("uploads are not pruned: a file in %s can't be read", os.path.join(home, "models"))
            return 0
        files = [source.files for source in sources if source.files]
        _prune_folders(home, {os.path.basename(folders.folder_path(home, found)) for found in files}, kept_s)
        return Blobs(home).prune({digest for found in files for digest in found.values()}, kept_s)


def _prune_folders(home: str, used: Collection[str], kept_s: float) -> None:
    root = os.path.join(home, "folders")
    for name in _old(root, kept_s):
        if name not in used:
            with contextlib.suppress(OSError):
                folders.remove_folder(os.path.join(root, name))


def _prune_temporary(folder: str, kept_s: float) -> None:
    for name in _old(folder, kept_s):
        if _TEMPORARY.fullmatch(name):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(folder, name))


def _old(folder: str, kept_s: float) -> list[str]:
    newest = time.time() - kept_s
    try:
        return [entry.name for entry in os.scandir(folder) if entry.stat(follow_symlinks=False).st_mtime < newest]
    except OSError:
        return []
