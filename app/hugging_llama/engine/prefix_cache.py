"""What ended sequences have computed, for the prompts that begin with the same tokens.

A chat's next turn repeats all that was said before, and many chats share a system prompt. So the keys and values of
a sequence that has ended are kept until the memory is needed: the entry used longest ago leaves first. A prompt
takes the longest common prefix by copying it, from an entry or from the slot of a sequence that still runs, which
costs a thousandth of computing it; so several prompts can begin with one entry, and none waits for another.
"""

from collections.abc import Sequence as TokenIds
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from hugging_llama.engine.kv_cache import KVCache, KVSlot

MIN_PREFIX_TOKENS = 16
"""Shorter prefixes are computed: they are cheap, and every text begins with the same few tokens."""


class KeyKind(NamedTuple):
    """What keys and values depend on besides the tokens: those of one kind are of no use to another.

    `is_long` tells which frequencies have rotated them, see `ModelRunner.rope_switch`; `adapter` is the key of the
    adapter that has computed them, "" for none.
    """

    is_long: bool = False
    adapter: str = ""


@dataclass(eq=False, slots=True)
class Prefix:
    """The keys and values of `token_ids`: per layer `[num_kv_heads, len(token_ids), head_dim]`."""

    token_ids: list[int]
    kind: KeyKind
    keys: dict[int, Tensor]
    values: dict[int, Tensor]


class PrefixCache:
    """At most `max_entries` prefixes, within the budget of `kv_cache`. Only the step loop's thread uses it."""

    def __init__(self, kv_cache: KVCache, *, max_entries: int) -> None:
        self._kv_cache = kv_cache
        self._max_entries = max_entries
        # in the order of use, the one used last at the end
        self._entries: list[Prefix] = []

    @property
    def is_on(self) -> bool:
        return self._max_entries > 0

    @property
    def num_tokens(self) -> int:
        """Tokens that all entries hold."""
        return sum(len(entry.token_ids) for entry in self._entries)

    def retain(self, slot: KVSlot, token_ids: list[int], kind: KeyKind) -> None:
        """Copies what a slot holds of `token_ids`, unless it is short or memory is.

        Entries that the new one begins with are dropped: whatever they could give, it gives too.
        """
        n = len(token_ids)
        if n < MIN_PREFIX_TOKENS or not self.is_on:
            return
        for entry in [entry for entry in self._entries if entry.kind == kind]:
            common = common_prefix(entry.token_ids, token_ids)
            if common == len(entry.token_ids):
                self._drop(entry)
            elif common == n:
                self._touch(entry)
                return
        while len(self._entries) >= self._max_entries or not self._kv_cache.reserve(n):
            if not self.evict():
                return
        copied = self._copied(slot, token_ids, kind) if self._kv_cache.has_memory(n) else None
        if copied is None:
            self._kv_cache.release(n)
        else:
            self._entries.append(copied)

    def _copied(self, slot: KVSlot, token_ids: list[int], kind: KeyKind) -> Prefix | None:
        """None if the device has no room for it after all: a prefix is a gain, never worth an error."""
        n = len(token_ids)
        try:
            return Prefix(
                list(token_ids),
                kind,
                {layer: buffer[slot.row, :, :n].clone() for layer, buffer in slot.slab.keys.items()},
                {layer: buffer[slot.row, :, :n].clone() for layer, buffer in slot.slab.values.items()},
            )
        except (RuntimeError, MemoryError):
            return None

    def longest(self, token_ids: list[int], kind: KeyKind) -> tuple[Prefix | None, int]:
        """The entry that shares most tokens with the beginning of `token_ids`, and how many."""
        best, most = None, 0
        for entry in reversed(self._entries):
            if entry.kind == kind and (common := common_prefix(entry.token_ids, token_ids)) > most:
                best, most = entry, common
        if best is not None:
            # what is about to be used is not what leaves to make room for its user
            self._touch(best)
        return best, most

    def fill(self, slot: KVSlot, entry: Prefix, num_tokens: int) -> None:
        """Copies the first `num_tokens` of an entry into a slot."""
        for kept, buffers in ((entry.keys, slot.slab.keys), (entry.values, slot.slab.values)):
            for layer, buffer in buffers.items():
                buffer[slot.row, :, :num_tokens] = kept[layer][:, :num_tokens]

    def _touch(self, entry: Prefix) -> None:
        """The entry is of use: others leave before it."""
        self._entries.remove(entry)
        self._entries.append(entry)

    def evict(self) -> bool:
        """Drops the entry that was used longest ago; False if there is none."""
        if not self._entries:
            return False
        self._drop(self._entries[0])
        return True

    def clear(self) -> None:
        """Drops all entries."""
        while self.evict():
            pass

    def _drop(self, entry: Prefix) -> None:
        self._entries.remove(entry)
        self._kv_cache.release(len(entry.token_ids))


def common_prefix(a: TokenIds[int], b: TokenIds[int]) -> int:
    """How many tokens `a` and `b` have in common at their beginning."""
    low, high = 0, min(len(a), len(b))
    if not high or a[0] != b[0]:
        return 0
    # bisection over slices: comparing them is a single call, however long they are
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
