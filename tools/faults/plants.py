"""Faults planted into a child of a run, to show that the run catches them; product code knows nothing of them."""

import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

VARIABLE = "FAULT_RUNS_PLANT"
ACKNOWLEDGE_FIRST = "acknowledge-before-commit"
UNSPOOL_FIRST = "delete-before-acknowledgement"
NO_UNIQUE_KEY = "no-unique-key"
BELIEVE_COMMITS = "commits-without-an-answer-are-believed"
AWAY_IS_UNFORESEEN = "an-absent-database-is-an-unforeseen-error"
WAIT_FOR_EVER = "calls-wait-long-for-a-connection"
DRAW_AHEAD = "sessions-draw-numbers-ahead"
LOCK_BACKWARDS = "some-processes-lock-accounts-in-another-order"
ALL_LEAD = "every-process-leads"
AGELESS = "connections-never-end"
READ_OLD_SNAPSHOTS = "reads-see-what-was-before"
LATER = "schema "  # no fault: a version to come, of this schema
_WINDOW = 0.2  # seconds between the two that are swapped or repeated, so that few kills suffice


def into_server(data_dir: Path, url: str | None) -> None:
    """Plant what the environment asks for; AttributeError when the code to patch is no longer there."""
    planted = os.environ.get(VARIABLE, "")
    if planted.startswith(LATER):
        be_of_schema(planted[len(LATER) :])
    if planted == ACKNOWLEDGE_FIRST:
        _acknowledge_first()
    elif planted == NO_UNIQUE_KEY:
        _drop_unique_key(data_dir, url)
    elif planted == BELIEVE_COMMITS:
        _believe_commits()
    elif planted == AWAY_IS_UNFORESEEN:
        _make_away_unforeseen()
    elif planted == WAIT_FOR_EVER:
        _wait_for_ever()
    elif planted == DRAW_AHEAD and url:
        _draw_ahead(url)
    elif planted == LOCK_BACKWARDS:
        _lock_backwards(data_dir)
    elif planted == ALL_LEAD:
        _let_all_lead()
    elif planted == READ_OLD_SNAPSHOTS:
        _read_old_snapshots()


def into_client() -> None:
    """As into_server, in a process that publishes."""
    if os.environ.get(VARIABLE) == UNSPOOL_FIRST:
        _unspool_first()


def _acknowledge_first() -> None:
    from reflexio_server.storage import group_commit

    together = group_commit._publish_together

    def acknowledging(conn: Any, publishes: Any) -> list[Any]:
        for done, result, failure in together(conn, publishes):
            if failure is None:
                done.set_result(result)
            else:
                done.set_exception(failure)
        time.sleep(_WINDOW)
        return []

    _replace(group_commit, "_publish_together", acknowledging)


def _drop_unique_key(data_dir: Path, url: str | None) -> None:
    """Neither the constraint nor the look-up by it: with one of them a repeated request could not be stored."""
    from reflexio_server.storage import publishing
    from reflexio_server.storage.database import Database

    if url is None:
        _drop_unique_key_of_file(data_dir)
    else:
        with psycopg.connect(url) as conn:
            conn.execute("ALTER TABLE requests DROP CONSTRAINT IF EXISTS requests_account_id_request_id_key")
    _replace(publishing, "_stored_before", lambda _conn, _submitted: {})
    write = Database.write

    @contextmanager
    def slow_write(self: Any) -> Iterator[Any]:
        with write(self) as conn:
            yield conn
        time.sleep(_WINDOW)

    _replace(Database, "write", slow_write)


def _drop_unique_key_of_file(data_dir: Path) -> None:
    from reflexio_server.storage.database import DATABASE_FILE

    conn = sqlite3.connect(data_dir / DATABASE_FILE, isolation_level=None)
    statements = [
        row[0] for row in conn.execute("SELECT sql FROM sqlite_master WHERE tbl_name = 'requests' AND sql NOT NULL")
    ]
    without = [re.sub(r",\s*(CONSTRAINT \w+ )?UNIQUE \(account_id, request_id\)", "", one) for one in statements]
    if without != statements:
        conn.execute("DROP TABLE requests")
        for statement in without:
            conn.execute(statement)
    conn.close()


def _believe_commits() -> None:
    from reflexio_server.errors import DatabaseUnavailable
    from reflexio_server.storage.database import Database

    write = Database.write

    @contextmanager
    def believing(self: Any) -> Iterator[Any]:
        is_done = False
        try:
            with write(self) as conn:
                yield conn
                is_done = True
        except DatabaseUnavailable:
            if not is_done:
                raise

    _replace(Database, "write", believing)


def _make_away_unforeseen() -> None:
    from reflexio_server.storage import postgres

    _replace(postgres, "as_domain", lambda _error: None)


def _wait_for_ever() -> None:
    from reflexio_server.storage import postgres_server

    _replace(postgres_server, "POOL_SECONDS", 60.0)


def _draw_ahead(url: str) -> None:
    with psycopg.connect(url) as conn:
        for table in ("interactions", "vectors"):
            conn.execute(f"ALTER SEQUENCE {table}_id_seq CACHE 50".encode())


def _lock_backwards(data_dir: Path) -> None:
    from reflexio_server.storage import postgres

    lock = postgres.lock_accounts
    backwards = data_dir.name.endswith(("1", "3"))

    def locking(conn: Any, account_ids: Any) -> None:
        for account_id in sorted(account_ids, reverse=backwards):
            lock(conn, [account_id])
            time.sleep(_WINDOW)

    _replace(postgres, "lock_accounts", locking)


def _let_all_lead() -> None:
    from reflexio_server.storage.postgres_server import DatabaseServer

    _replace(DatabaseServer, "lead", lambda _self, _conn: True)


def _read_old_snapshots() -> None:
    """Each read sees what the one before it could see, as by a replica that is late."""
    from reflexio_server.storage.database import Database

    read = Database.read
    begun: list[Any] = []

    @contextmanager
    def reading(self: Any) -> Iterator[Any]:
        fresh = read(self)
        conn = fresh.__enter__()
        conn.exec_driver_sql("SELECT 1")  # takes the snapshot
        begun.append((fresh, conn))
        old, conn = begun.pop(0) if len(begun) > 1 else (None, conn)
        try:
            yield conn
        finally:
            if old is not None:
                old.__exit__(None, None, None)

    _replace(Database, "read", reading)


def _unspool_first() -> None:
    from reflexio.spool.dispatch import Dispatcher

    send = Dispatcher._send

    def sending(self: Any, batch: Any, *rest: Any) -> Any:
        for row in batch:
            row.home.acknowledge([row.row_id])
        time.sleep(_WINDOW)
        try:
            return send(self, batch, *rest)
        except BaseException:
            self._spool.acknowledge(batch)  # keeps its counts right, or it would spin
            raise

    _replace(Dispatcher, "_send", sending)


def be_of_schema(schema: str, replace: Callable[[Any, str, Any], None] | None = None) -> None:
    """Be a version to come, whose newest schema this is: with the migrations in later/ up to it."""
    from reflexio_server.storage import migrating, tables

    replace = replace or _replace
    replace(migrating, "FOLDERS", [*migrating.FOLDERS, Path(__file__).parent / "later"])
    replace(tables, "NEWEST_SCHEMA", schema)
    known = migrating.migrations
    replace(migrating, "migrations", lambda: [one for one in known() if one.revision <= schema])


def _replace(owner: Any, name: str, by: Any) -> None:
    getattr(owner, name)  # a fault planted where nothing is any more would seem to be caught by none
    setattr(owner, name, by)
