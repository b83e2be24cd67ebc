"""What reading a model's folder told, kept for as long as nothing in it has changed."""

import os
import time
from collections.abc import Collection
from dataclasses import dataclass

from hugging_llama.neutral.models import Capability, ModelDetails
from hugging_llama.store import snapshot
from hugging_llama.store.blocking import run_blocking
from hugging_llama.store.capabilities import capabilities
from hugging_llama.store.details import model_details
from hugging_llama.store.places import SETTLED_NS
from hugging_llama.store.safetensors_header import BadSafetensorsError
from hugging_llama.store.selection import NotServableError

_Stamp = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a folder holds, and the time stamps that tell whether it is still so. No details: it can't be served."""

    stamp: _Stamp
    plain: tuple[str, ...]
    digest: str
    size_bytes: int
    details: ModelDetails | None
    capabilities: tuple[Capability, ...]


class FolderFacts:
    """The facts of folders. Safe for threads and greenlets."""

    def __init__(self) -> None:
        self._known: dict[str, Facts] = {}

    def of(self, folder: str) -> Facts | None:
        """None if the folder is not there."""
        known = self._known.get(folder)
        try:
            if known and known.stamp == _stamp(folder, known.plain):
                return known
            before = _stamp(folder, ())
            facts = run_blocking(_inspect, folder)
            if facts.stamp[: len(before)] == before and time.time_ns() - max(facts.stamp) > SETTLED_NS:
                self._known[folder] = facts
            return facts
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


def _inspect(folder: str) -> Facts:
    """Read a model's folder. Raises OSError; what can't be served has no details."""
    try:
        found = snapshot.read_snapshot(folder)
        config = found.json("config.json")
        details = model_details(found, config)
        stamp = _stamp(folder, found.plain)
        return Facts(stamp, found.plain, found.digest, found.size_bytes, details, capabilities(found, config))
    except (NotServableError, BadSafetensorsError, ValueError):
        return Facts(_stamp(folder, ()), (), "", 0, None, ())
