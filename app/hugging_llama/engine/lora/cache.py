"""The adapters of one model that are in memory: loaded when first asked for; those used longest ago leave."""

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from weakref import WeakSet

from transformers import PreTrainedModel

from hugging_llama.engine.device_loss import exit_if_device_lost
from hugging_llama.engine.lora.adapter import LoraAdapter
from hugging_llama.engine.lora.files import vet_adapter
from hugging_llama.engine.lora.layers import AdaptedLayers
from hugging_llama.engine.memory import free_bytes, is_out_of_memory
from hugging_llama.engine.sequence import Sequence
from hugging_llama.errors import HuggingLlamaError, InsufficientMemoryError, ModelLoadError

_log = logging.getLogger(__name__)

_FREE_MEMORY_SHARE = 0.25


@dataclass(slots=True)
class _Entry:
    adapter: LoraAdapter
    users: "WeakSet[Sequence]" = field(default_factory=WeakSet)

    @property
    def is_idle(self) -> bool:
        """Sequences that were never submitted just go, those that were have an end."""
        return all(user.is_finished for user in self.users)


class AdapterCache:
    """At most `budget_bytes` of adapters; 0 is a quarter of the memory that is free at the start. Thread-safe.

    What an unfinished sequence uses stays. Loads take turns; `size_bytes` never waits for one.
    """

    def __init__(self, model: PreTrainedModel, *, budget_bytes: int) -> None:
        self._layers = AdaptedLayers(model)
        self._device = model.device
        self._budget_bytes = budget_bytes or int(free_bytes(model.device) * _FREE_MEMORY_SHARE)
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        # in the order of use, the one used last at the end
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    @property
    def size_bytes(self) -> int:
        """What the adapters in memory take."""
        with self._lock:
            return self._held_bytes

    def __contains__(self, folder: str) -> bool:
        """Whether the adapter in `folder` is in memory."""
        with self._lock:
            return folder in self._entries

    def take(self, folder: str, user: Sequence | None = None) -> LoraAdapter:
        """The adapter in `folder`, kept for `user` until that has ended. Blocks while it loads.

        Raises ModelLoadError for files that are damaged or of another model or kind, InsufficientMemoryError if it
        does not fit beside the adapters in use.
        """
        if (adapter := self._known(folder, user)) is not None:
            return adapter
        with self._turn:
            if (adapter := self._known(folder, user)) is not None:
                return adapter
            adapter = self._loaded(folder)
            with self._lock:
                entry = self._entries[folder] = _Entry(adapter)
                if user is not None:
                    entry.users.add(user)
            return adapter

    def _known(self, folder: str, user: Sequence | None) -> LoraAdapter | None:
        with self._lock:
            entry = self._entries.get(folder)
            if entry is None:
                return None
            self._entries.move_to_end(folder)
            if user is not None:
                entry.users.add(user)
            return entry.adapter

    def _loaded(self, folder: str) -> LoraAdapter:
        start = time.monotonic()
        try:
            files = vet_adapter(folder)
            self._make_room(self._layers.size_bytes(files))
            adapter = self._layers.load(files, folder)
        except HuggingLlamaError:
            raise
        except Exception as error:
            exit_if_device_lost(error)
            if is_out_of_memory(error):
                raise InsufficientMemoryError("there is not enough memory to load this adapter") from error
            _log.warning("an adapter could not be loaded", exc_info=True)
            raise ModelLoadError("this adapter could not be loaded: its files do not fit together") from error
        _log.info("an adapter of %d bytes is loaded, after %.2f s", adapter.num_bytes, time.monotonic() - start)
        return adapter

    def _make_room(self, need_bytes: int) -> None:
        """Sends idle adapters away, those used longest ago first.

        Raises InsufficientMemoryError if that is not enough.
        """
        with self._lock:
            idle = {folder: entry.adapter.num_bytes for folder, entry in self._entries.items() if entry.is_idle}
            limit = min(self._budget_bytes, self._held_bytes + free_bytes(self._device))
            room_bytes = max(limit - self._held_bytes + sum(idle.values()), 0)
            if need_bytes > room_bytes:
                raise InsufficientMemoryError(
                    f"the adapter requires more memory ({_mib(need_bytes)}) than there is for adapters "
                    f"({_mib(room_bytes)})",
                    need_bytes=need_bytes,
                    free_bytes=room_bytes,
                )
            for folder in idle:
                if self._held_bytes + need_bytes <= limit:
                    return
                del self._entries[folder]

    @property
    def _held_bytes(self) -> int:
        return sum(entry.adapter.num_bytes for entry in self._entries.values())


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.1f} MiB"
