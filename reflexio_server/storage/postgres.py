"""What only PostgreSQL does: what dialect.Dialect describes. Its connections are made in postgres_server.py."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from reflexio_server import ending
from reflexio_server.errors import (
    Damaged,
    DatabaseUnavailable,
    DiskFull,
    DomainError,
    Ended,
    StorageUnavailable,
    TooBusy,
)
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

_COPIED_FROM = 50  # rows; copying fewer takes longer than inserting them
_IN_TRANSACTION = (1, 2, 3)  # psycopg.pq.TransactionStatus: ACTIVE, INTRANS, INERROR


@compiles(Numbers, "postgresql")
def _numbers(element: Numbers, compiler: SQLCompiler, **named: Any) -> str:
    given = compiler.process(element.clauses, **named)
    return f"(SELECT unnest(CAST(translate({given}, '[]', '{{}}') AS bigint[])) AS value)"


@compiles(Texts, "postgresql")
def _texts(element: Texts, compiler: SQLCompiler, **named: Any) -> str:
    return f"jsonb_array_elements_text(CAST({compiler.process(element.clauses, **named)} AS jsonb))"


@compiles(JsonRow, "postgresql")
def _json_row(element: JsonRow, compiler: SQLCompiler, **named: Any) -> str:
    return f"json_build_array({compiler.process(element.clauses, **named)})"


@compiles(JsonList, "postgresql")
def _json_list(element: JsonList, compiler: SQLCompiler, **named: Any) -> str:
    return f"CAST(coalesce(json_agg({compiler.process(element.clauses, **named)}), '[]') AS text)"


@compiles(LastCharacter, "postgresql")
def _last_character(element: LastCharacter, compiler: SQLCompiler, **named: Any) -> str:
    return f"right(rtrim({compiler.process(element.clauses, **named)}), 1)"


@compiles(LowerAscii, "postgresql")
def _lower_ascii(element: LowerAscii, compiler: SQLCompiler, **named: Any) -> str:
    return f'lower({compiler.process(element.clauses, **named)} COLLATE "C")'


@compiles(CasefoldOther, "postgresql")
def _casefold_other(element: CasefoldOther, compiler: SQLCompiler, **named: Any) -> str:
    given = compiler.process(element.clauses, **named)
    return f"CASE WHEN octet_length({given}) != char_length({given}) THEN reflexio_casefold({given}) END"


def lock_accounts(conn: Connection, account_ids: Iterable[int]) -> None:
    """In the order of their numbers, so that no two transactions wait for each other.

    Sequences, numbers of rows and stamps are drawn after it: within an account they rise in the order of the commits.
    """
    _LOCK_ACCOUNTS.rows(conn, ids=list(account_ids))


def next_ids(conn: Connection, table: str, count: int) -> list[int]:
    """Numbers for `count` new rows of a table, rising, and never given to anybody else."""
    return [number for (number,) in _NEXT_IDS.rows(conn, sequence=f"{table}_id_seq", count=count)]


_LOCK_ACCOUNTS = Prepared(
    text(
        """SELECT account_id FROM account_counters WHERE account_id = ANY(CAST(:ids AS bigint[]))
           ORDER BY account_id FOR NO KEY UPDATE"""
    )
)
_NEXT_IDS = Prepared(
    text("SELECT nextval(CAST(CAST(:sequence AS text) AS regclass)) FROM generate_series(1, CAST(:count AS integer))")
)
_UNDER_WAY = Prepared(
    text("SELECT CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text), CAST(pg_current_xact_id() AS text)")
)
_KEYS = "unnest(CAST(:accounts AS bigint[]), CAST(:names AS text[])) AS k(account_id, name)"
_STORED_REQUESTS = Prepared(
    text(
        f"""SELECT r.id, r.account_id, r.request_id, r.body_hash, r.erased_at, r.published_ids
            FROM {_KEYS} JOIN requests r ON r.account_id = k.account_id AND r.request_id = k.name"""
    )
)
_KNOWN_USERS = Prepared(
    text(
        f"""SELECT u.account_id, u.user_id, u.id
            FROM {_KEYS} JOIN users u ON u.account_id = k.account_id AND u.user_id = k.name"""
    )
)
_PUBLISHED_WITH = Prepared(
    text(
        """SELECT i.request_ref, i.interaction_id, i.id FROM interactions i
           WHERE i.request_ref = ANY(CAST(:refs AS bigint[])) ORDER BY i.id"""
    )
)


def _beside(than: str, way: str) -> str:
    return f"(SELECT coalesce(json_agg(found.id), '[]') FROM ({expressions.beside(than, way)}) found)"


_NEIGHBOURS = Prepared(
    text(
        f"""SELECT CAST(coalesce(json_agg(json_build_array(i.id, {_beside("<", "DESC")}, {_beside(">", "ASC")})), '[]')
                        AS text)
            FROM unnest(CAST(:refs AS bigint[])) AS k(id) JOIN interactions i ON i.id = k.id
            JOIN requests r ON r.id = i.request_ref WHERE r.request_group != ''"""
    )
)


def stored_requests(conn: Connection, keys: Iterable[tuple[int, str]]) -> list[Row]:
    """Of these (account_id, request_id) those that were stored, by what a replay is told from.

    Their columns: id, account_id, request_id, body_hash, erased_at, published_ids.
    """
    return _STORED_REQUESTS.rows(conn, **_apart(keys))


def known_users(conn: Connection, keys: Iterable[tuple[int, str]]) -> dict[tuple[int, str], int]:
    """The refs of those of these (account_id, user_id) that are known."""
    return {(account_id, user_id): ref for account_id, user_id, ref in _KNOWN_USERS.rows(conn, **_apart(keys))}


def _apart(keys: Iterable[tuple[int, str]]) -> dict[str, list[Any]]:
    pairs = list(keys)
    return {"accounts": [account_id for account_id, _ in pairs], "names": [name for _, name in pairs]}


def neighbours(conn: Connection, refs: Sequence[int]) -> list[tuple[int, list[int], list[int]]]:
    """Of these interactions those in a thread: (id, the ids of the two before it, nearest first, of the two after)."""
    return json.loads(_NEIGHBOURS.scalar(conn, refs=list(refs)))  # type: ignore[no-any-return]


def published_with(conn: Connection, refs: Iterable[int]) -> list[Row]:
    """The interactions of stored requests in the order they came: (request_ref, interaction_id, id)."""
    return _PUBLISHED_WITH.rows(conn, refs=list(refs))


def insert_rows(conn: Connection, table: str, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows: few by statements that are sent together, more by COPY."""
    if not rows:
        return
    if len(rows) < _COPIED_FROM:
        size = len(rows)
        one = f"({', '.join(['%s'] * len(columns))})"
        values = [value for row in rows for value in row]
        execute(conn, f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([one] * size)}", values)
        return
    driver: Any = conn.connection.driver_connection
    driver.copy_rows(conn, f"COPY {table} ({', '.join(columns)}) FROM STDIN", rows)


def go_on_after(conn: Connection, table: str, column: str, number: int) -> None:
    """Give new rows numbers above this one and above all that are there, however these came."""
    highest = conn.execute(text(f"SELECT max({column}) FROM {table}")).scalar() or 0
    if (last := max(number, highest)) > 0:
        sequence = text("SELECT setval(pg_get_serial_sequence(:table, :column), :last)")
        conn.execute(sequence, {"table": table, "column": column, "last": last})


def under_way(conn: Connection) -> tuple[int, int]:
    """The number of the oldest transaction that may still write, and that of this one, given to it now.

    A snapshot's own upper bound will not do: it is one above the last that ended, and others may write beyond it.
    """
    (row,) = _UNDER_WAY.rows(conn)
    return int(row[0]), int(row[1])


def database_id(conn: Connection) -> str:
    """Its number on the server, and the server's own where that may be read; a copy of all its files has the same."""
    number = conn.execute(text("SELECT oid FROM pg_database WHERE datname = current_database()")).scalar_one()
    if not conn.execute(text("SELECT has_function_privilege('pg_control_system()', 'EXECUTE')")).scalar():
        return str(number)
    return f"{conn.execute(text('SELECT system_identifier FROM pg_control_system()')).scalar_one()}/{number}"


def is_in_transaction(conn: Connection) -> bool:
    """Whether the transaction is still there: it ends with its connection."""
    if conn.invalidated:
        return False
    driver: Any = conn.connection.driver_connection
    return driver.info.transaction_status in _IN_TRANSACTION


# https://www.postgresql.org/docs/current/errcodes-appendix.html
_AWAY = {
    "25006",  # read_only_sql_transaction: a standby answers
    "25P03",  # idle_in_transaction_session_timeout
    "28000",  # invalid_authorization_specification
    "28P01",  # invalid_password
    "3D000",  # invalid_catalog_name
    "53200",  # out_of_memory
    "53300",  # too_many_connections
    "53400",  # configuration_limit_exceeded
    "57P01",  # admin_shutdown
    "57P02",  # crash_shutdown
    "57P03",  # cannot_connect_now
    "57P04",  # database_dropped
    "57P05",  # idle_session_timeout
}
_BUSY = {"40001", "40P01", "55P03"}  # serialization_failure, deadlock_detected, lock_not_available
_NONE = ""
_DAMAGED = {"XX001", "XX002"}  # data_corrupted, index_corrupted


def as_domain(error: BaseException) -> DomainError | Ended | None:
    """What an error means; None when it is none of PostgreSQL's, or unforeseen."""
    if isinstance(error, PoolTimeout):
        return TooBusy("reads waiting")
    state = _state(error)
    if state is _NONE:
        return None
    if state is None:  # none came from the server
        return DatabaseUnavailable() if isinstance(error, OperationalError | InterfaceError) else None
    if state == "57014":  # query_canceled
        return Ended() if ending.is_over() else DatabaseUnavailable()
    if state in _AWAY or state.startswith("08"):  # connection_exception
        return DatabaseUnavailable()
    if state in _BUSY:
        return TooBusy("writes waiting")
    if state in _DAMAGED:
        return Damaged()
    if state == "53100":  # disk_full
        return DiskFull()
    return StorageUnavailable() if state.startswith("58") else None  # system_error


_DESCRIBED = {
    "28000": "it lets this user not in: look at its pg_hba.conf",
    "28P01": "the password is wrong",
    "3D000": "it has no database of this name: make one with `createdb`",
    "42501": "the user may not do this there: it must own the database, or have all rights in its schema",
    "53300": "it has no connection left: raise its max_connections, or lower --database-connections",
    "XX001": "restore a backup of the database",
    "XX002": "the index of a table: REINDEX it, or restore a backup",
    "25006": "it can only be read: a standby answers",
}


def describe(error: BaseException) -> str:
    """What went wrong, and what to do, for whoever runs the server; "" when it is not known."""
    state = _state(error)
    if state is None:
        return "it cannot be reached: look whether it runs, and at the URL"
    return _DESCRIBED.get(state, "")


def _state(error: BaseException) -> str | None:
    """PostgreSQL's code for what went wrong: None when the server did not say, _NONE when it is no error of its."""
    orig = error.orig if isinstance(error, DBAPIError) else None
    found: str | None = getattr(orig, "sqlstate", _NONE)
    return found
