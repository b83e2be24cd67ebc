"""What reading a model's folder told, kept for as long as nothing in it has changed."""

import os
import time
from collections.abc import Collection
from dataclasses import dataclass

from hugging_llama.neutral.models import Capability, ModelDetails
from hugging_llama.store import safetensors_header
from hugging_llama.store.blocking import run_blocking
from hugging_llama.store.capabilities import capabilities
from hugging_llama.store.classifiers import is_causal_reranker
from hugging_llama.store.details import model_details, named_dtype
from hugging_llama.store.places import SETTLED_NS
from hugging_llama.store.safetensors_header import BadSafetensorsError
from hugging_llama.store.selection import CONFIG, NotServableError
from hugging_llama.store.snapshot import Snapshot, read_snapshot
from hugging_llama_config.model_memory import ModelSize
from hugging_llama_config.model_size import model_size

_Stamp = tuple[int, ...]
_BLOBS = 1
"""Where a stamp has that of the Hub's `blobs`, 0 for a folder elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """Of files that can be served. `size_bytes` on disk; `size` decides their memory, `dtype` is the one that their
    configuration names, "" if none."""

    digest: str
    size_bytes: int
    details: ModelDetails
    capabilities: tuple[Capability, ...]
    size: ModelSize
    dtype: str


@dataclass(frozen=True, slots=True)
class _Folder:
    """What a folder holds, None if it can't be served, and the time stamps that tell whether it is still so."""

    stamp: _Stamp
    plain: tuple[str, ...]
    model: ModelFacts | None


class FolderFacts:
    """The facts of folders. Safe for threads and greenlets."""

    def __init__(self) -> None:
        self._known: dict[str, _Folder] = {}

    def of(self, folder: str) -> ModelFacts | None:
        """None if the folder is not there, or can't be served."""
        known = self._known.get(folder)
        try:
            if known and known.stamp == _stamp(folder, known.plain):
                return known.model
            before = _stamp(folder, ())
            found = run_blocking(_inspect, folder)
            is_settled = found.stamp[: len(before)] == before and time.time_ns() - max(found.stamp) > SETTLED_NS
            # what can't be served may be mended in place, which moves no stamp but its own
            if is_settled and (found.model or found.stamp[_BLOBS]):
                self._known[folder] = found
            return found.model
        except OSError:  # taken away while we looked
            return None

    def keep_only(self, folders: Collection[str]) -> None:
        """Forget all others."""
        for gone in self._known.keys() - set(folders):
            self._known.pop(gone, None)


def _stamp(folder: str, plain: tuple[str, ...]) -> _Stamp:
    """Time stamps that move when a file of the model is added, replaced or taken away. Raises OSError.

    In the Hub's cache files are links into `blobs`, so both folders tell; files that are no links speak for themselves.
    """
    stamp = [os.stat(folder).st_mtime_ns]
    try:
        stamp.append(os.stat(os.path.join(folder, "..", "..", "blobs")).st_mtime_ns)
    except OSError:  # a folder outside of the Hub's cache
        stamp.append(0)
    for path in plain:
        stamp.append(os.stat(os.path.join(folder, path)).st_mtime_ns)
    return tuple(stamp)


def _inspect(folder: str) -> _Folder:
    """Read a model's folder. Raises OSError."""
    try:
        found = read_snapshot(folder)
        model = _model_facts(found)
        return _Folder(_stamp(folder, found.plain), found.plain, model)
    except (NotServableError, BadSafetensorsError, ValueError):
        return _Folder(_stamp(folder, ()), (), None)


def _model_facts(found: Snapshot) -> ModelFacts:
    """Raises OSError, BadSafetensorsError, ValueError."""
    config = found.json(CONFIG)
    tensors = safetensors_header.read_all_tensors(map(found.place, found.weights))
    details = model_details(found, config, tensors)
    can = capabilities(found, config)
    writes = Capability.COMPLETION in can
    size = model_size(
        config,
        tensors,
        is_embedding=not writes,
        has_head=writes or is_causal_reranker(can),
        context_length=details.context_length,
    )
    return ModelFacts(
        digest=found.digest,
        size_bytes=found.size_bytes,
        details=details,
        capabilities=can,
        size=size,
        dtype=named_dtype(config),
    )
