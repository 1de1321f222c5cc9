"""What only SQLite does: connections, numbers for rows, full text. The other dialects get a module like this."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, create_engine, event, text

BUSY_TIMEOUT_MS = 10_000


def make_engine(path: Path, *, begin: str, connections: int, checkpoints: bool = False) -> Engine:
    """An engine for the database file, whose every commit is on disk when it returns (synchronous=FULL).

    `begin` is "IMMEDIATE" for writing, as a transaction that reads and then writes fails at once when another
    writer came between, and "DEFERRED" for reading. Exactly one connection in all may checkpoint: SQLite up to
    3.51.2 can damage its log when two do.
    """
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000},
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,  # an error's text goes to the log, and the parameters are what people said
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # BEGIN is ours, below
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA wal_autocheckpoint = {1000 if checkpoints else 0}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"BEGIN {begin}")

    return engine


def is_in_transaction(conn: Connection) -> bool:
    """Whether the transaction is still there: on some errors, such as a full disk, SQLite undoes all of it."""
    return bool(conn.connection.driver_connection.in_transaction)  # type: ignore[union-attr]


def is_disk_full(error: BaseException) -> bool:
    """Whether a statement or commit failed because the disk has no room."""
    return _code(error) == sqlite3.SQLITE_FULL


def is_locked(error: BaseException) -> bool:
    """Whether another process kept the database locked for longer than the timeout."""
    return _code(error) == sqlite3.SQLITE_BUSY


def is_damaged(error: BaseException) -> bool:
    """Whether a statement failed because the file is no database, or not a whole one."""
    return _code(error) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def _code(error: BaseException) -> int:
    """SQLite's code for what went wrong, without its extended part; 0 when it is not an error of SQLite's."""
    return getattr(getattr(error, "orig", None), "sqlite_errorcode", 0) & 0xFF


def next_ids(conn: Connection, table: str, count: int) -> range:
    """Numbers for `count` new rows of a table; the caller inserts them in this transaction."""
    last = conn.execute(text("SELECT seq FROM sqlite_sequence WHERE name = :table"), {"table": table}).scalar() or 0
    return range(last + 1, last + 1 + count)


_INSERT_TEXT = "INSERT INTO interactions_fts (rowid, owner, text) VALUES (?, ?, ?)"


def add_full_text(conn: Connection, rows: Sequence[tuple[int, int, int, str]]) -> None:
    """Index texts: rows of (ref, account_id, user_ref, text)."""
    entries = [(ref, f"a{account_id} u{user_ref}", text) for ref, account_id, user_ref, text in rows]
    conn.exec_driver_sql(_INSERT_TEXT, entries)


def quote_term(word: str) -> str:
    """A word as an FTS5 string, whatever is in it."""
    return '"' + word.replace('"', '""') + '"'


def _owner(account_id: int, user_ref: int | None) -> str:
    return f"owner : a{account_id}" if user_ref is None else f"owner : u{user_ref}"


_WITH_WORD = "SELECT rowid FROM interactions_fts WHERE interactions_fts MATCH ?"


def refs_with_word(conn: Connection, account_id: int, user_ref: int | None, word: str) -> NDArray[np.int64]:
    """The owner's interactions that have the word, in rising order.

    One word at a time: bm25() would walk everybody's rows with the word to weigh it, and took three times as long.
    """
    match = f"{_owner(account_id, user_ref)} AND text : {quote_term(word)}"
    return np.array(conn.exec_driver_sql(_WITH_WORD, (match,)).scalars().all(), dtype=np.int64)
