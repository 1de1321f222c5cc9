"""Which database the tests' servers keep everything in: pytest --store sqlite|postgres."""

import functools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reflexio_server.config import Settings
from reflexio_server.index.embedder import Embedder
from reflexio_server.storage import dialect, embedders
from reflexio_server.storage.database import Database
from tools import postgres_run

MARK = "sqlite"
"""Of tests that are about SQLite, or choose their database."""


class Databases:
    """On PostgreSQL a database for each data directory, so that a server started on one again finds what it had."""

    def __init__(self, server: str, folder: Path) -> None:
        self._server = server
        self._of: dict[Path, str] = {}
        self._template = postgres_run.new_database(server)
        Database(folder, owner=True, url=self._template).close()

    def of(self, data_dir: Path) -> str:
        data_dir = data_dir.resolve()
        if data_dir not in self._of:
            self._of[data_dir] = postgres_run.new_database(self._server, template=self._template)
        return self._of[data_dir]

    def copy(self, data_dir: Path, to: Path) -> None:
        """Give a data directory a copy of another's database, which nobody uses."""
        self._of[to.resolve()] = postgres_run.new_database(self._server, template=self.of(data_dir))


databases: Databases | None = None


def use(monkeypatch: pytest.MonkeyPatch, made: Databases) -> None:
    """Let everything of this process that would open SQLite's file in a data directory open its database instead."""
    global databases
    databases = made
    asked = Settings.database

    def database(settings: Settings) -> str | None:
        return asked.fget(settings) or made.of(settings.data_dir)  # type: ignore[attr-defined]

    opened = dialect.open_store

    @functools.wraps(opened)
    def open_store(file: Path, url: str | None, **named: Any) -> Any:
        return opened(file, url or made.of(file.parent), **named)

    monkeypatch.setattr(Settings, "database", property(database))
    monkeypatch.setattr(dialect, "open_store", open_store)


def let_take_over(data_dir: Path, embedder: Embedder) -> None:
    """Do what `model use` does, where no start chooses another model."""
    if databases is not None:
        database = Database(data_dir, owner=False)
        with database.write() as conn:
            embedders.choose(conn, embedders.register(conn, embedder.model_id, embedder.dimensions))
        database.close()


def environment(data_dir: Path, given: Mapping[str, str] | None = None) -> dict[str, str] | None:
    """The variables of a process that uses this data directory; None: this process's."""
    if databases is None:
        return None if given is None else dict(given)
    return {**(os.environ if given is None else given), "REFLEXIO_DATABASE_URL": databases.of(data_dir)}


@contextmanager
def in_environment(data_dir: Path) -> Iterator[None]:
    """A block in which processes that are started use this data directory."""
    with pytest.MonkeyPatch.context() as patch:
        if databases is not None:
            patch.setenv("REFLEXIO_DATABASE_URL", databases.of(data_dir))
        yield
