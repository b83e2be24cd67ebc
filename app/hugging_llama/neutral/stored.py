"""Answers that are kept, so that later requests can go on from them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoredItem:
    """A piece of a conversation; `body` is JSON, as the dialect that wrote it has it."""

    id: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResponse:
    """An answer. `body` is JSON with all but the items.

    `previous_id` is the answer it goes on from. `input` holds what came new when it is saved, and the whole
    conversation before `output` when it is read.
    """

    id: str
    previous_id: str | None
    body: bytes
    input: tuple[StoredItem, ...]
    output: tuple[StoredItem, ...]
