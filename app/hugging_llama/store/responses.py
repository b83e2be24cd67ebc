"""Answers that are kept in one file, within bounds: the oldest leave first.

Each has an owner, and is there for nobody else. It knows the one it goes on from, so a long conversation is stored
once. One that leaves while a later one still goes on from it can't be found any more, but what was said stays until the
last of those leaves.
"""

import logging
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import msgspec

from hugging_llama.errors import StorageError
from hugging_llama.neutral.stored import StoredItem, StoredResponse
from hugging_llama.store.response_file import in_file, is_there
from hugging_llama_config.settings import Settings

logger = logging.getLogger(__name__)

_MAX_RESPONSES = 100_000
_ID_COPIES = 2
"""Of an item's id: in the table of items and in its index."""
_OLDEST = "SELECT number FROM responses WHERE id IS NOT NULL AND number != ? ORDER BY created_s, number LIMIT 1"
_LAST_WITH_ITEM = "SELECT max(number) FROM items JOIN responses ON number = response WHERE items.id = ? AND owner = ?"
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[tuple[str, bytes], ...]).decode


@dataclass(frozen=True, slots=True)
class ResponseStore:
    """The answers of one home; without one nothing is kept. Safe for threads, greenlets and processes."""

    home: str = ""
    max_bytes: int = 0
    max_age_s: float = 0.0
    max_responses: int = _MAX_RESPONSES

    @classmethod
    def of(cls, settings: Settings) -> "ResponseStore":
        """As the settings want it."""
        home = settings.home if settings.store_responses else ""
        return cls(home, settings.stored_responses_bytes, settings.stored_responses_s)

    @property
    def is_on(self) -> bool:
        """Whether anything is ever kept."""
        return bool(self.home)

    def save(self, response: StoredResponse, owner: str = "") -> None:
        """Keep it. Raises StorageError, and then nothing has changed."""
        if not self.is_on:
            raise StorageError("this server keeps no responses")
        in_file(self.home, partial(self._save, response=response, owner=owner))

    def find(self, id: str, owner: str = "") -> StoredResponse | None:
        """The answer with everything said before it. Raises StorageError."""
        return in_file(self.home, partial(self._find, id=id, owner=owner), writes=False) if self._has_any else None

    def items(self, ids: Iterable[str], owner: str = "") -> dict[str, bytes]:
        """The bodies of those items that are part of a kept conversation. Raises StorageError."""
        wanted = set(ids)
        if not wanted or not self._has_any:
            return {}
        return in_file(self.home, partial(_items, ids=wanted, owner=owner), writes=False)

    def delete(self, id: str, owner: str = "") -> bool:
        """Forget it; whether it was there. Raises StorageError."""
        return self._has_any and in_file(self.home, partial(self._delete, id=id, owner=owner))

    def tidy(self) -> None:
        """Forget what is too old: what a server does once when it starts, in a thread of its own."""
        if not self._has_any:
            return
        try:
            in_file(self.home, self._forget_old)
        except StorageError as error:
            logger.warning("old responses stay: %s", error.message)

    @property
    def _has_any(self) -> bool:
        return self.is_on and is_there(self.home)

    @property
    def _oldest_s(self) -> float:
        return time.time() - self.max_age_s

    def _save(self, connection: sqlite3.Connection, response: StoredResponse, owner: str) -> None:
        parent = self._number(connection, response.previous_id, owner) if response.previous_id else None
        if response.previous_id and parent is None:
            raise StorageError("the response before has gone meanwhile")
        kept = [_encode([(item.id, item.body) for item in items]) for items in (response.input, response.output)]
        ids = {item.id for item in (*response.input, *response.output)}
        num_bytes = len(response.body) + sum(map(len, kept)) + _ID_COPIES * sum(len(id.encode()) for id in ids)
        row = (response.id, owner, parent, time.time(), num_bytes, response.body, *kept)
        number = connection.execute(
            "INSERT INTO responses (id, owner, parent, uses, created_s, num_bytes, body, input, output)"
            " VALUES (?, ?, ?, 1, ?, ?, ?, ?, ?)",
            row,
        ).lastrowid
        connection.execute("UPDATE responses SET uses = uses + 1 WHERE number = ?", (parent,))
        connection.executemany("INSERT INTO items VALUES (?, ?)", [(id, number) for id in ids])
        self._forget_old(connection)
        while self._is_over(connection):
            (oldest,) = connection.execute(_OLDEST, (number,)).fetchone() or (None,)
            if oldest is None:
                raise StorageError(f"a conversation has more than {self.max_bytes} bytes")
            _remove(connection, oldest)

    def _find(self, connection: sqlite3.Connection, id: str, owner: str) -> StoredResponse | None:
        number = self._number(connection, id, owner)
        if number is None:
            return None
        turns = connection.execute(
            "WITH RECURSIVE turns (number, parent, input, output) AS ("
            " SELECT number, parent, input, output FROM responses WHERE number = ? UNION ALL"
            " SELECT r.number, r.parent, r.input, r.output FROM responses r JOIN turns t ON r.number = t.parent)"
            " SELECT input, output FROM turns ORDER BY number",
            (number,),
        ).fetchall()
        body, parent = connection.execute("SELECT body, parent FROM responses WHERE number = ?", (number,)).fetchone()
        before = [part for turn in turns for part in turn][:-1]
        previous = connection.execute("SELECT id FROM responses WHERE number = ?", (parent,)).fetchone()
        return StoredResponse(
            id=id,
            previous_id=previous[0] if previous else None,
            body=body,
            input=tuple(item for part in before for item in _unpacked(part)),
            output=_unpacked(turns[-1][1]),
        )

    def _number(self, connection: sqlite3.Connection, id: str, owner: str) -> int | None:
        query = "SELECT number FROM responses WHERE id = ? AND owner = ? AND created_s >= ?"
        row = connection.execute(query, (id, owner, self._oldest_s)).fetchone()
        return row[0] if row else None

    def _delete(self, connection: sqlite3.Connection, id: str, owner: str) -> bool:
        number = self._number(connection, id, owner)
        if number is not None:
            _remove(connection, number)
        return number is not None

    def _forget_old(self, connection: sqlite3.Connection) -> None:
        query = "SELECT number FROM responses WHERE id IS NOT NULL AND created_s < ?"
        for (number,) in connection.execute(query, (self._oldest_s,)).fetchall():
            _remove(connection, number)

    def _is_over(self, connection: sqlite3.Connection) -> bool:
        num_responses, num_bytes = connection.execute("SELECT num_responses, num_bytes FROM totals").fetchone()
        return bool(num_responses > self.max_responses or num_bytes > self.max_bytes)


def _items(connection: sqlite3.Connection, ids: set[str], owner: str) -> dict[str, bytes]:
    """Each from the last response that has it. A response may have all of them, and is unpacked once."""
    named: dict[int, set[str]] = {}
    for id in ids:
        (number,) = connection.execute(_LAST_WITH_ITEM, (id, owner)).fetchone()
        if number is not None:
            named.setdefault(number, set()).add(id)
    found: dict[str, bytes] = {}
    for number, wanted in named.items():
        row = connection.execute("SELECT input, output FROM responses WHERE number = ?", (number,)).fetchone()
        for part in row:
            found |= {item.id: item.body for item in _unpacked(part) if item.id in wanted}
    return found


def _remove(connection: sqlite3.Connection, number: int) -> None:
    """Take its id away, and the row with it unless a later one goes on from it; so on with the one before."""
    connection.execute(
        "UPDATE responses SET id = NULL, num_bytes = num_bytes - length(body), body = NULL WHERE number = ?", (number,)
    )
    at: int | None = number
    while at is not None:
        connection.execute("UPDATE responses SET uses = uses - 1 WHERE number = ?", (at,))
        uses, parent = connection.execute("SELECT uses, parent FROM responses WHERE number = ?", (at,)).fetchone()
        if uses > 0:
            return
        connection.execute("DELETE FROM responses WHERE number = ?", (at,))
        at = parent


def _unpacked(part: bytes) -> tuple[StoredItem, ...]:
    return tuple(StoredItem(id, body) for id, body in _decode(part))
