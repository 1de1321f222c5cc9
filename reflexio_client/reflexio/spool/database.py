"""The SQLite side of a spool file: its tables, its settings, its transactions."""

import os
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

SCHEMA_VERSION = 2
PUBLISH = "publish_interaction"
"""The method of the client that took a row: this one, or one of those that delete."""
_SYNCHRONOUS = {"process": "NORMAL", "power": "FULL"}
_METHOD = f"method TEXT NOT NULL DEFAULT '{PUBLISH}'"
_DELETES = f"CREATE INDEX deletes ON rows (id) WHERE method <> '{PUBLISH}';"  # costs a publish nothing
SCHEMA = f"""
BEGIN;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE rows (id INTEGER PRIMARY KEY, request_id TEXT NOT NULL, user_id TEXT NOT NULL, payload BLOB NOT NULL,
    accepted_at INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, {_METHOD});
CREATE TABLE dead (id INTEGER PRIMARY KEY, request_id TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL,
    payload BLOB NOT NULL, accepted_at INTEGER NOT NULL, attempts INTEGER NOT NULL, reason TEXT NOT NULL,
    field TEXT NOT NULL, message TEXT NOT NULL, refused_at INTEGER NOT NULL, {_METHOD});
{_DELETES}
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""
_FROM_VERSION_1 = f"""
BEGIN;
ALTER TABLE rows ADD COLUMN {_METHOD};
ALTER TABLE dead ADD COLUMN {_METHOD};
{_DELETES}
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""


_COLUMNS = {
    "meta": {"name", "value"},
    "rows": {"id", "request_id", "user_id", "payload", "accepted_at", "attempts"},
    "dead": {
        *("id", "request_id", "user_id", "payload", "accepted_at", "attempts"),
        *("reason", "field", "message", "refused_at"),
    },
}
_CORRUPT, _NOT_A_DATABASE = 11, 26  # SQLite's codes


class NewerVersionError(Exception):
    """The file was written by a newer version of this package."""


class DamagedError(sqlite3.DatabaseError):
    """It is a database, but not as this package makes spool files."""


def is_damage(error: BaseException) -> bool:
    """Whether it says that the file itself is wrong; else it may pass, as a full disk or a lack of descriptors."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None) or 0
        return isinstance(error, DamagedError) or code & 0xFF in (_CORRUPT, _NOT_A_DATABASE)
    return not isinstance(error, OSError)


def version_of(connection: sqlite3.Connection) -> int:
    """The version of a spool file; 0 when there is nothing in it, for the number itself may be lost."""
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found > 0:
        return found
    return SCHEMA_VERSION if connection.execute("SELECT 1 FROM sqlite_master").fetchone() else 0


def check_tables(connection: sqlite3.Connection, version: int) -> None:
    """Raise DamagedError unless the tables are what a version of this package made.

    A view in the place of a table could keep a reader busy for ever, a trigger could do anything.
    """
    connection.text_factory = _text
    found = connection.execute("SELECT type, name, rootpage FROM sqlite_master").fetchall()
    tables = {name for kind, name, page in found if kind == "table" and page}
    if any(kind not in ("table", "index") for kind, *_ in found) or not tables.issuperset(_COLUMNS):
        raise DamagedError("it does not have the tables of a spool file")
    for table, columns in _COLUMNS.items():
        there = connection.execute(f"PRAGMA table_xinfo({table})").fetchall()
        names = {column[1] for column in there}
        wanted = columns | {"method"} if version > 1 and table != "meta" else columns
        if not names.issuperset(wanted) or any(column[6] for column in there):
            raise DamagedError(f"its table {table} does not have the columns of a spool file")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")  # what is damaged shall be read all the same


def create(path: Path | None, durability: str = "process", meta: Mapping[str, str] | None = None) -> sqlite3.Connection:
    """A new database with its tables, in memory without a path."""
    if path is None:
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    else:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))  # the files beside it take over its mode
        connection = open_file(path, _SYNCHRONOUS[durability])
    try:
        connection.executescript(SCHEMA)
        connection.executemany("INSERT INTO meta VALUES (?, ?)", (meta or {}).items())
    except BaseException:
        connection.close()
        raise
    return connection


class Transaction:
    """Everything or nothing."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            try:
                self._connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
        else:
            self._roll_back()

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def open_file(path: Path, synchronous: str = "NORMAL", *, exclusive: bool = False) -> sqlite3.Connection:
    """A connection; `exclusive` for the file of a process that is gone.

    Raises NewerVersionError, or sqlite3.Error, which is a DamagedError where the tables are wrong.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
    try:
        if exclusive:  # whoever still has it open makes this fail
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        found = version_of(connection)
        if found > SCHEMA_VERSION:
            raise NewerVersionError(f"{path} has version {found}, this package reads up to {SCHEMA_VERSION}")
        if found:
            check_tables(connection, found)
        connection.text_factory = _text
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # the sender does it, see tidy()
        if exclusive and not found:  # its owner died before it had accepted anything
            connection.executescript(SCHEMA)
        elif exclusive and found == 1:
            connection.executescript(_FROM_VERSION_1)
    except BaseException:
        connection.close()
        raise
    return connection


def remove(path: Path) -> None:
    for name in (path, f"{path}-wal", f"{path}-shm"):
        with suppress(OSError):
            os.unlink(name)
