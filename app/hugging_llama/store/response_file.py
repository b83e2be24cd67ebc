"""The SQLite file of the answers that are kept: its format, who may open it, what happens when it is damaged.

<home>/responses.db           the file, and SQLite's own -wal and -shm beside it
<home>/responses.db.damaged   the last one that could not be read
<home>/.responses.lock        shared by whoever uses the file, alone by who puts a damaged one aside

A connection lives for one piece of work: processes fork, threads differ, and a file that was put aside must not be used
any longer.
"""

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from typing import TypeVar

from hugging_llama.errors import StorageError
from hugging_llama.store.blocking import run_blocking
from hugging_llama.store.file_lock import locked

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_FORMAT = 2
_ADD_OWNER = "ALTER TABLE responses ADD COLUMN owner TEXT NOT NULL DEFAULT ''"
"""From format 1: what was kept then belongs to those without a name."""
_BUSY_TIMEOUT_S = 5.0
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_SCHEMA = """
CREATE TABLE responses (
    number INTEGER PRIMARY KEY,  -- in order of arrival
    id TEXT UNIQUE,              -- NULL for one that is gone and that a later one goes on from
    parent INTEGER,              -- the number of the one it goes on from
    uses INTEGER NOT NULL,       -- one for its id, one for each child
    created_s REAL NOT NULL,
    num_bytes INTEGER NOT NULL,
    body BLOB,
    input BLOB NOT NULL,
    output BLOB NOT NULL,
    owner TEXT NOT NULL          -- nobody else may find it; '' is everybody without a name
);
CREATE INDEX responses_by_age ON responses (created_s) WHERE id IS NOT NULL;
CREATE TABLE items (id TEXT NOT NULL, response INTEGER NOT NULL, PRIMARY KEY (id, response)) WITHOUT ROWID;
CREATE INDEX items_of_response ON items (response);
CREATE TABLE totals (num_responses INTEGER NOT NULL, num_bytes INTEGER NOT NULL);
INSERT INTO totals VALUES (0, 0);
CREATE TRIGGER counted_insert AFTER INSERT ON responses BEGIN
    UPDATE totals SET num_responses = num_responses + (NEW.id IS NOT NULL), num_bytes = num_bytes + NEW.num_bytes;
END;
CREATE TRIGGER counted_update AFTER UPDATE OF id, num_bytes ON responses BEGIN
    UPDATE totals SET num_responses = num_responses + (NEW.id IS NOT NULL) - (OLD.id IS NOT NULL),
        num_bytes = num_bytes + NEW.num_bytes - OLD.num_bytes;
END;
CREATE TRIGGER counted_delete AFTER DELETE ON responses BEGIN
    UPDATE totals SET num_responses = num_responses - (OLD.id IS NOT NULL), num_bytes = num_bytes - OLD.num_bytes;
    DELETE FROM items WHERE response = OLD.number;
END;
"""


class _UnusableError(Exception):
    """There is no file yet, or the one of this inode can't be read."""

    def __init__(self, cause: str, damaged_inode: int | None = None) -> None:
        super().__init__(cause)
        self.damaged_inode = damaged_inode


def in_file(home: str, work: Callable[[sqlite3.Connection], _T], *, writes: bool = True) -> _T:
    """What `work` returns, done in one transaction on the file, which is made if it is not there.

    A damaged file is put aside, once, and an empty one takes its place. Raises StorageError, and what `work` raises.
    """
    path, lock = os.path.join(home, "responses.db"), os.path.join(home, ".responses.lock")

    def attempt() -> _T:
        with locked(lock, _BUSY_TIMEOUT_S, shared=True, private=True):
            return run_blocking(_transact, path, work, writes=writes)

    try:
        try:
            return attempt()
        except _UnusableError as error:
            # alone: SQLite does not wait for another process that makes the same file
            with locked(lock, _BUSY_TIMEOUT_S, private=True):
                run_blocking(_renew, path, error)
            return attempt()
    except OSError as error:
        raise StorageError((error.strerror or "input/output error").lower()) from error
    except (sqlite3.Error, _UnusableError) as error:
        raise StorageError(str(error)) from error


def is_there(home: str) -> bool:
    """Whether anything was ever kept."""
    return os.path.exists(os.path.join(home, "responses.db"))


def _transact(path: str, work: Callable[[sqlite3.Connection], _T], *, writes: bool) -> _T:
    try:
        inode = os.stat(path).st_ino
    except FileNotFoundError:
        raise _UnusableError("there is no file") from None
    try:
        with _connected(path) as connection:
            _check_format(connection)
            connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            try:
                found = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return found
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
            raise _UnusableError(str(error), inode) from error
        raise


@contextlib.contextmanager
def _connected(path: str) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = NORMAL")
        # what a caller deletes is overwritten
        connection.execute("PRAGMA secure_delete = ON")
        yield connection


def _check_format(connection: sqlite3.Connection) -> None:
    """Raises StorageError for the file of a later version, _UnusableError for one that was never finished or is of an
    earlier version."""
    found = _format(connection)
    if found == 0:
        raise _UnusableError("there is nothing in it")
    if found < _FORMAT:
        raise _UnusableError(f"its format is {found}")
    if found != _FORMAT:
        raise StorageError(f"their file has format {found}, and this version knows {_FORMAT} at most")


def _format(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _statements() -> list[str]:
    """`executescript` would end the transaction."""
    statements, text = [], ""
    for line in _SCHEMA.splitlines(keepends=True):
        text += line
        if sqlite3.complete_statement(text):
            statements.append(text)
            text = ""
    return statements


def _renew(path: str, why: _UnusableError) -> None:
    """Put a damaged file aside and make an empty one, or make one of this version of an earlier one; under the lock,
    with nobody else in the file. Another process may have been here before."""
    if why.damaged_inode is not None and os.path.exists(path) and os.stat(path).st_ino == why.damaged_inode:
        logger.warning("%s can't be read (%s); it is put aside, and an empty one takes its place", path, why)
        os.replace(path, path + ".damaged")
        for end in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path + end)
    # conversations are for the server's user alone; SQLite gives its other files the same mode
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    with _connected(path) as connection:
        if (found := _format(connection)) == _FORMAT - 1:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_ADD_OWNER)
            connection.execute(f"PRAGMA user_version = {_FORMAT}")
            connection.execute("COMMIT")
        if found != 0:
            return
        connection.execute("PRAGMA auto_vacuum = FULL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        for statement in _statements():
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {_FORMAT}")
        connection.execute("COMMIT")
