"""Faults planted into a child of a run, to show that the run catches them; product code knows nothing of them."""

import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

VARIABLE = "FAULT_RUNS_PLANT"
ACKNOWLEDGE_FIRST = "acknowledge-before-commit"
UNSPOOL_FIRST = "delete-before-acknowledgement"
NO_UNIQUE_KEY = "no-unique-key"
_WINDOW = 0.2  # seconds between the two that are swapped or repeated, so that few kills suffice


def into_server(data_dir: Path) -> None:
    """Plant what the environment asks for; AttributeError when the code to patch is no longer there."""
    planted = os.environ.get(VARIABLE)
    if planted == ACKNOWLEDGE_FIRST:
        _acknowledge_first()
    elif planted == NO_UNIQUE_KEY:
        _drop_unique_key(data_dir)


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


def _drop_unique_key(data_dir: Path) -> None:
    """Neither the constraint nor the look-up by it: with one of them a repeated request could not be stored."""
    from reflexio_server.storage import publishing
    from reflexio_server.storage.database import DATABASE_FILE, Database

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
    _replace(publishing, "_stored_before", lambda _conn, _submitted: {})
    write = Database.write

    @contextmanager
    def slow_write(self: Any) -> Iterator[Any]:
        with write(self) as conn:
            yield conn
        time.sleep(_WINDOW)

    _replace(Database, "write", slow_write)


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


def _replace(owner: Any, name: str, by: Any) -> None:
    getattr(owner, name)  # a fault planted where nothing is any more would seem to be caught by none
    setattr(owner, name, by)
