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


class NewerVersionError(Exception):
    """The file was written by a newer version of this package."""


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
    """A connection; `exclusive` for the file of a process that is gone. Raises NewerVersionError or sqlite3.Error."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
    try:
        if exclusive:  # whoever still has it open makes this fail
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        found = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if found > SCHEMA_VERSION:
            raise NewerVersionError(f"{path} has version {found}, this package reads up to {SCHEMA_VERSION}")
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
    """Remove a database and what SQLite keeps beside it."""
    for name in (path, f"{path}-wal", f"{path}-shm"):
        with suppress(OSError):
            os.unlink(name)
