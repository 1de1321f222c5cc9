"""What only SQLite does: what dialect.Dialect describes, and connections."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from reflexio_server import ending, shortage
from reflexio_server.errors import Damaged, DiskFull, DomainError, Ended, TooBusy
from reflexio_server.storage import expressions
from reflexio_server.storage.expressions import (
    CasefoldOther,
    JsonList,
    JsonRow,
    LastCharacter,
    LowerAscii,
    Numbers,
    Texts,
)
from reflexio_server.storage.prepared import Prepared, Row, execute

BUSY_TIMEOUT_MS = 10_000
_SHORT_WAIT_MS = 100  # the writer waits meanwhile
# What each of 68 readers keeps in the end. By default it is 2,000 KiB of pages and 128 prepared statements, which were
# some 30 MiB for 17 readers of a mixed load; preparing more often costs a call 2 % of its time.
READER_CACHE_KIB = 512
READER_STATEMENTS = 16
WRITER_CACHE_KIB = 64 * 1024  # as it is needed: the pages that a row goes to lie all over a large store's indexes


def make_engine(path: Path, *, begin: str, connections: int) -> Engine:
    """An engine for the database file, whose every commit is on disk when it returns (synchronous=FULL).

    `begin` is "IMMEDIATE" for writing, as a transaction that reads and then writes fails at once when another
    writer came between, and "DEFERRED" for reading. None does checkpoints by itself: SQLite up to 3.51.2 can damage
    its log when two do, so the owner's one connection to write with does them (see OwnLog).
    """
    engine = create_engine(
        URL.create("sqlite", database=str(path)),  # a path in a URL's text would be cut at `?`, and `%20` decoded
        connect_args={
            "check_same_thread": False,
            "timeout": BUSY_TIMEOUT_MS / 1000,
            "cached_statements": READER_STATEMENTS if begin == "DEFERRED" else 128,
        },
        pool_size=connections,
        max_overflow=0,
        pool_use_lifo=True,  # the one used last has the pages and statements at hand
        hide_parameters=True,  # an error's text goes to the log, and the parameters are what people said
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # BEGIN is ours, below
        connection.create_function("casefold", 1, str.casefold, deterministic=True)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")  # what is deleted, by whatever way, becomes zeros
        connection.execute("PRAGMA temp_store = MEMORY")  # what a savepoint remembers was half of all that was written
        cache_kib = READER_CACHE_KIB if begin == "DEFERRED" else WRITER_CACHE_KIB  # the system's cache is behind it
        connection.execute(f"PRAGMA cache_size = -{cache_kib}")
        connection.execute("PRAGMA wal_autocheckpoint = 0")

    @event.listens_for(engine, "before_cursor_execute")
    def _check(*_: Any) -> None:
        ending.check()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        execute(connection, f"BEGIN {begin}")

    return engine


@compiles(Numbers, "sqlite")
@compiles(Texts, "sqlite")
def _elements(element: Numbers | Texts, compiler: SQLCompiler, **named: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **named)})"


@compiles(JsonRow, "sqlite")
def _json_row(element: JsonRow, compiler: SQLCompiler, **named: Any) -> str:
    return f"json_array({compiler.process(element.clauses, **named)})"


@compiles(JsonList, "sqlite")
def _json_list(element: JsonList, compiler: SQLCompiler, **named: Any) -> str:
    return f"json_group_array({compiler.process(element.clauses, **named)})"


@compiles(LastCharacter, "sqlite")
def _last_character(element: LastCharacter, compiler: SQLCompiler, **named: Any) -> str:
    return f"substr(rtrim({compiler.process(element.clauses, **named)}), -1)"


@compiles(LowerAscii, "sqlite")
def _lower_ascii(element: LowerAscii, compiler: SQLCompiler, **named: Any) -> str:
    return f"lower({compiler.process(element.clauses, **named)})"


@compiles(CasefoldOther, "sqlite")
def _casefold_other(element: CasefoldOther, compiler: SQLCompiler, **named: Any) -> str:
    given = compiler.process(element.clauses, **named)
    return f"CASE WHEN {given} GLOB '*[^ -~]*' THEN casefold({given}) END"  # which calls Python


def under_way(_conn: Connection) -> None:
    """One writes at a time, and numbers rise with the commits."""
    return


def database_id(_conn: Connection) -> str:
    """Nothing does: files are told apart by where they are."""
    return ""


def is_in_transaction(conn: Connection) -> bool:
    """Whether the transaction is still there: on some errors, such as a full disk, SQLite undoes all of it."""
    return bool(conn.connection.driver_connection.in_transaction)  # type: ignore[union-attr]


def as_domain(error: BaseException) -> DomainError | Ended | None:
    """What an error means; None when it is none of SQLite's, or unforeseen."""
    match _code(error):
        case sqlite3.SQLITE_INTERRUPT:
            return Ended()
        case sqlite3.SQLITE_FULL:
            return DiskFull()
        case sqlite3.SQLITE_BUSY:  # another process kept it locked for longer than the timeout
            return TooBusy("writes waiting")
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:  # no database, or not a whole one
            return Damaged()
    return None


_PASSING = {
    sqlite3.SQLITE_CANTOPEN: shortage.FILES,  # of one that was opened before: connections are opened as they are needed
    sqlite3.SQLITE_NOMEM: shortage.MEMORY,
    sqlite3.SQLITE_FULL: shortage.DISK,
    sqlite3.SQLITE_IOERR: shortage.FAILING,
    sqlite3.SQLITE_READONLY: shortage.FAILING,
    sqlite3.SQLITE_PERM: shortage.FAILING,
    sqlite3.SQLITE_PROTOCOL: shortage.FAILING,
}
shortage.judge_by(lambda error: _PASSING.get(getattr(error, "sqlite_errorcode", 0) & 0xFF))


def describe(error: BaseException) -> str:
    """What went wrong with the file, and what to do, for whoever runs the server; "" when it is not known."""
    return _DESCRIBED.get(_code(error), "")


_RESTORE = "bring a backup in with `reflexio-server restore FILE`"
_DESCRIBED = {
    sqlite3.SQLITE_FULL: "the disk is full: make room",
    sqlite3.SQLITE_CANTOPEN: "it, or a file beside it, cannot be opened: check who may read and write there",
    sqlite3.SQLITE_READONLY: "it, or its folder, can only be read: check who may write there",
    sqlite3.SQLITE_PERM: "it may not be used: check who may read and write there",
    sqlite3.SQLITE_AUTH: "it may not be used: check who may read and write there",
    sqlite3.SQLITE_BUSY: "another program keeps it locked: end that, then try again",
    sqlite3.SQLITE_LOCKED: "another program keeps it locked: end that, then try again",
    sqlite3.SQLITE_PROTOCOL: "another program keeps it locked: end that, then try again",
    sqlite3.SQLITE_IOERR: "the disk does not read or write as it should: look at it, and whether it is full",
    sqlite3.SQLITE_NOTADB: _RESTORE,
    sqlite3.SQLITE_CORRUPT: _RESTORE,
    sqlite3.SQLITE_NOLFS: "the file system has no files of this size",
}


def _code(error: BaseException) -> int:
    """SQLite's code for what went wrong, without its extended part; 0 when it is not an error of SQLite's."""
    return getattr(getattr(error, "orig", None), "sqlite_errorcode", 0) & 0xFF


def lock_accounts(conn: Connection, account_ids: Iterable[int]) -> None:
    """Nothing is to be done: BEGIN IMMEDIATE lets nobody else write."""


def next_ids(conn: Connection, table: str, count: int) -> range:
    """Numbers for `count` new rows of a table; the caller inserts them in this transaction."""
    last = _LAST_ID.scalar(conn, table=table) or 0
    return range(last + 1, last + 1 + count)


_LAST_ID = Prepared(text("SELECT seq FROM sqlite_sequence WHERE name = :table"))
# The keys come as one JSON text: an IN list of them would be another statement for each number of keys.
_STORED_REQUESTS = Prepared(
    text(
        """SELECT r.id, r.account_id, r.request_id, r.body_hash, r.erased_at, r.published_ids
           FROM json_each(:keys) k CROSS JOIN requests r
           ON r.account_id = json_extract(k.value, '$[0]') AND r.request_id = json_extract(k.value, '$[1]')"""
    )
)
# They come as one row, as the driver gives up the interpreter's lock for each: see `insert_rows`.
_KNOWN_USERS = Prepared(
    text(
        """SELECT json_group_array(json_array(u.account_id, u.user_id, u.id)) FROM json_each(:keys) k CROSS JOIN users u
           ON u.account_id = json_extract(k.value, '$[0]') AND u.user_id = json_extract(k.value, '$[1]')"""
    )
)
_PUBLISHED_WITH = Prepared(
    text(
        """SELECT i.request_ref, i.interaction_id, i.id FROM json_each(:refs) k CROSS JOIN interactions i
           ON i.request_ref = k.value ORDER BY i.id"""
    )
)


def _beside(than: str, way: str) -> str:
    return f"SELECT json_group_array(found.id) FROM ({expressions.beside(than, way)}) found"


_NEIGHBOURS = Prepared(
    text(
        f"""SELECT json_group_array(json_array(i.id, json(({_beside("<", "DESC")})), json(({_beside(">", "ASC")}))))
            FROM json_each(:refs) k CROSS JOIN interactions i ON i.id = k.value
            CROSS JOIN requests r ON r.id = i.request_ref WHERE r.request_group != ''"""
    )
)


def stored_requests(conn: Connection, keys: Iterable[tuple[int, str]]) -> list[Row]:
    """Of these (account_id, request_id) those that were stored, by what a replay is told from.

    Their columns: id, account_id, request_id, body_hash, erased_at, published_ids.
    """
    return _STORED_REQUESTS.rows(conn, keys=json.dumps(list(keys)))


def known_users(conn: Connection, keys: Iterable[tuple[int, str]]) -> dict[tuple[int, str], int]:
    """The refs of those of these (account_id, user_id) that are known."""
    found = json.loads(_KNOWN_USERS.scalar(conn, keys=json.dumps(list(keys))))
    return {(account_id, user_id): ref for account_id, user_id, ref in found}


def neighbours(conn: Connection, refs: Sequence[int]) -> list[tuple[int, list[int], list[int]]]:
    """Of these interactions those in a thread: (id, the ids of the two before it, nearest first, of the two after)."""
    return json.loads(_NEIGHBOURS.scalar(conn, refs=json.dumps(list(refs))))  # type: ignore[no-any-return]


def published_with(conn: Connection, refs: Iterable[int]) -> list[Row]:
    """The interactions of stored requests in the order they came: (request_ref, interaction_id, id)."""
    return _PUBLISHED_WITH.rows(conn, refs=json.dumps(list(refs)))


_ROWS_AT_ONCE = (1000, 250, 50, 10, 3, 1)


def insert_rows(conn: Connection, table: str, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows, many by one statement.

    The driver gives up the interpreter's lock for each execution of a statement; when other threads are busy, getting
    it back for every row took five times as long as the insert itself. The statements have few sizes, so that they
    stay prepared.
    """
    start = 0
    for size in _ROWS_AT_ONCE:
        while len(rows) - start >= size:
            values = tuple(chain.from_iterable(rows[start : start + size]))
            execute(conn, _insert_sql(table, columns, size), values)
            start += size


@cache
def _insert_sql(table: str, columns: tuple[str, ...], rows: int) -> str:
    row = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([row] * rows)}"


def empty_log(conn: sqlite3.Connection) -> bool:
    """Copy the log into the database file and make it empty; False when a reader or writer is in the way.

    Only for the one connection that checkpoints.
    """
    conn.execute(f"PRAGMA busy_timeout = {_SHORT_WAIT_MS}")
    try:
        (busy, *_) = conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy
    finally:
        conn.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
