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
from collections.abc import Callable
from typing import TypeVar

from hugging_llama.errors import StorageError
from hugging_llama.store.blocking import run_blocking
from hugging_llama.store.file_lock import locked

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_FORMAT = 1
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
    output BLOB NOT NULL
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


class _DamagedError(Exception):
    """The file of this inode can't be read."""

    def __init__(self, inode: int, cause: str) -> None:
        super().__init__(cause)
        self.inode = inode


def in_file(home: str, work: Callable[[sqlite3.Connection], _T], *, writes: bool = True) -> _T:
    """What `work` returns, done in one transaction on the file, which is made if it is not there.

    A damaged file is put aside, once, and an empty one takes its place. Raises StorageError, and what `work` raises.
    """
    path, lock = os.path.join(home, "responses.db"), os.path.join(home, ".responses.lock")
    try:
        try:
            with locked(lock, _BUSY_TIMEOUT_S, shared=True):
                return run_blocking(_transact, path, work, writes=writes)
        except _DamagedError as damaged:
            logger.warning("%s can't be read (%s); it is put aside, and an empty one takes its place", path, damaged)
            with locked(lock, _BUSY_TIMEOUT_S):
                _put_aside(path, damaged.inode)
            with locked(lock, _BUSY_TIMEOUT_S, shared=True):
                return run_blocking(_transact, path, work, writes=writes)
    except OSError as error:
        raise StorageError((error.strerror or "input/output error").lower()) from error
    except (sqlite3.Error, _DamagedError) as error:
        raise StorageError(str(error)) from error


def is_there(home: str) -> bool:
    """Whether anything was ever kept."""
    return os.path.exists(os.path.join(home, "responses.db"))


def _transact(path: str, work: Callable[[sqlite3.Connection], _T], *, writes: bool) -> _T:
    # conversations are for the server's user alone; SQLite gives its other files the same mode
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        inode = os.fstat(fd).st_ino
    finally:
        os.close(fd)
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)) as connection:
            _prepare(connection)
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
            raise _DamagedError(inode, str(error)) from error
        raise


def _prepare(connection: sqlite3.Connection) -> None:
    """Raises StorageError for the file of a later version."""
    connection.execute("PRAGMA synchronous = NORMAL")
    # what a caller deletes is overwritten
    connection.execute("PRAGMA secure_delete = ON")
    if (found := _format(connection)) == 0:
        connection.execute("PRAGMA auto_vacuum = FULL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        if (found := _format(connection)) == 0:  # nobody was faster
            for statement in _statements():
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_FORMAT}")
            found = _FORMAT
        connection.execute("COMMIT")
    if found != _FORMAT:
        raise StorageError(f"their file has format {found}, and this version knows {_FORMAT} at most")


def _format(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _statements() -> list[str]:
    """`executescript` would end the transaction in which another process must not interfere."""
    statements, text = [], ""
    for line in _SCHEMA.splitlines(keepends=True):
        text += line
        if sqlite3.complete_statement(text):
            statements.append(text)
            text = ""
    return statements


def _put_aside(path: str, inode: int) -> None:
    """Under the lock, with nobody else in the file; another process may have been here before."""
    if not os.path.exists(path) or os.stat(path).st_ino != inode:
        return
    os.replace(path, path + ".damaged")
    for end in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + end)
