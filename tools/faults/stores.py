"""Where the servers of a run keep everything: SQLite's file in the data folder, or a database of a real PostgreSQL."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import psycopg

from reflexio_server.storage.database import DATABASE_FILE
from tools.postgres_run import Cluster

COMMAND_SECONDS = 120.0


class Store(Protocol):
    """A data folder and its database, as a run looks at them from beside."""

    data_dir: Path

    @property
    def url(self) -> str | None:
        """Of the database; None when it is the file in the folder."""

    def beside(self, name: str) -> "Store":
        """The same database, for another server with a data folder of this name beside the first one."""

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query finds that both databases understand."""

    def wait_until_written(self, seconds: float, over: threading.Event) -> None:
        """Wait until something is written, at most so long, or until it is over."""

    def stalled(self) -> AbstractContextManager[None]:
        """Until the block ends nothing can be stored, as behind a slow disk; for less than 10 seconds."""

    def keep(self, file: Path) -> None:
        """Copy the database into a file, beside a server that runs."""

    def put_back(self, file: Path) -> None:
        """Put what was kept in the database's place; no server runs."""


class FileStore:
    """A store in SQLite's file."""

    url: str | None = None

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    def beside(self, name: str) -> Store:
        raise NotImplementedError("SQLite's file is one server's")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.data_dir / DATABASE_FILE)) as conn:
            return conn.execute(query).fetchall()

    def wait_until_written(self, seconds: float, over: threading.Event) -> None:
        log = self.data_dir / f"{DATABASE_FILE}-wal"
        _wait_for_change(lambda: log.stat().st_mtime_ns, seconds, over)

    @contextmanager
    def stalled(self) -> Iterator[None]:
        with closing(sqlite3.connect(self.data_dir / DATABASE_FILE, isolation_level=None)) as conn:
            conn.execute("BEGIN IMMEDIATE")
            yield
            conn.execute("ROLLBACK")

    def keep(self, file: Path) -> None:
        command(self, "backup", str(file))

    def put_back(self, file: Path) -> None:
        command(self, "restore", str(file))


class DatabaseStore:
    """A store in a new database of a PostgreSQL server."""

    def __init__(self, data_dir: Path, cluster: Cluster, url: str | None = None) -> None:
        """`url`: of a database that is there, perhaps by another way."""
        self.data_dir = data_dir
        self.url: str = url or cluster.new()
        self._cluster = cluster

    def beside(self, name: str) -> "DatabaseStore":
        return DatabaseStore(self.data_dir.with_name(name), self._cluster, self.url)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as conn:
            return conn.execute(query.encode()).fetchall()

    def wait_until_written(self, seconds: float, over: threading.Event) -> None:
        with suppress(psycopg.OperationalError), psycopg.connect(self.url, autocommit=True) as conn:
            _wait_for_change(lambda: conn.execute("SELECT pg_current_wal_lsn()").fetchone(), seconds, over)

    @contextmanager
    def stalled(self) -> Iterator[None]:
        with psycopg.connect(self.url) as conn:
            conn.execute("LOCK TABLE interactions IN EXCLUSIVE MODE")
            yield
            conn.rollback()

    def keep(self, file: Path) -> None:
        self._cluster.dump(self.url, file)

    def put_back(self, file: Path) -> None:
        self._cluster.restore(self.url, file)


def environment(store: Store) -> dict[str, str]:
    """The variables by which a process finds its database."""
    return {} if store.url is None else {"REFLEXIO_DATABASE_URL": store.url}


def command(store: Store, *arguments: str) -> None:
    """Run a command of the server on this store."""
    whole: Mapping[str, str] = {**os.environ, **environment(store)}
    line = [sys.executable, "-m", "reflexio_server", *arguments, "--data-dir", str(store.data_dir)]
    subprocess.run(line, check=True, capture_output=True, timeout=COMMAND_SECONDS, env=whole)


def _wait_for_change(look: Callable[[], object], seconds: float, over: threading.Event) -> None:
    deadline = time.monotonic() + seconds
    before = look()
    while look() == before and time.monotonic() < deadline and not over.wait(0.005):
        pass
