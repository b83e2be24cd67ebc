"""Models of the Hub whose weights are pickled, on their way to a conversion."""

import os
from collections.abc import Mapping

from hugging_llama.store import selection, snapshot
from hugging_llama.store.blobs import Blobs
from hugging_llama.store.selection import NotServableError


def take_files(blobs: Blobs, folder: str) -> Mapping[str, str]:
    """The files that a conversion of the model in `folder`, one of the Hub's cache, is given: sha256 by path.

    Their contents are put among `blobs`. Empty if its weights are not pickled, or not all here. Raises TransferError if
    the disk fails.
    """
    try:
        found = snapshot.read_snapshot(folder, allow_pickle=True)
    except (NotServableError, OSError):
        return {}
    if all(path.endswith(".safetensors") for path in found.weights):
        return {}
    kept = [path for path in (*found.files, *found.documents) if not selection.is_code(path)]
    return {path: blobs.add_copy(os.path.join(folder, path)) for path in sorted(kept)}
