"""What the commands share: the database of a data directory, errors in a line, and a bar."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import click
from sqlalchemy.exc import DatabaseError

from reflexio_server.config import Settings
from reflexio_server.errors import Damaged, DatabaseUnavailable
from reflexio_server.storage.database import DATABASE_FILE, Database, DataDirectoryInUse, own, what_is_wrong
from reflexio_server.storage.store import DatabaseInUse, DatabaseUnusable


@contextmanager
def folder_errors() -> Iterator[None]:
    """Tells of a folder or file that cannot be used, in a line."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        reason = "it is not a folder" if isinstance(error, FileExistsError | NotADirectoryError) else error.strerror
        text = f"cannot use {error.filename}: {reason}; check --data-dir and --model-dir"
        raise click.ClickException(text) from None


@contextmanager
def open_database(settings: Settings, *, create: bool = False, owning: bool = True) -> Iterator[tuple[Database, bool]]:
    """The database, and whether this process owns it and the data directory: else a server is running on it.

    With `owning` False they are left to a server that starts meanwhile, unless the schema is to be brought up
    to this version, which only an owner may do. With `create` it is made when it is not there.
    """
    with ExitStack() as opened:
        opened.enter_context(folder_errors())
        if not create and settings.database is None:
            must_exist(settings)
        database, owner = (None if owning else _beside(settings)), False
        if database is None:
            with suppress(DataDirectoryInUse):
                opened.enter_context(own(settings.data_dir))
                owner = True
            try:
                database, owner = _opened(settings, owner, create)
            except DatabaseUnusable as error:
                raise click.ClickException(str(error)) from None
        opened.callback(database.close)
        try:
            yield database, owner
        except Damaged:
            raise click.ClickException(f"{database.name} is damaged: {database.mending}") from None
        except DatabaseUnavailable:
            raise click.ClickException(f"{database.name} cannot be reached: try again when it can") from None
        except DatabaseError as error:
            raise click.ClickException(what_is_wrong(database.name, error)) from None


@contextmanager
def bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Shows on a terminal how far it is, of how much, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    with click.progressbar(length=1, label=label, show_pos=True, file=sys.stderr) as shown:

        def show(done: int, total: int) -> None:
            shown.length = max(total, 1)
            shown.update(min(done, shown.length) - shown.pos)

        yield show


def must_be_file(settings: Settings, instead: str) -> None:
    """Refuse what is about SQLite's file when everything is in PostgreSQL; `instead`: what to do there."""
    if settings.database is not None:
        raise click.ClickException(f"this is for the database file of SQLite: {instead}")


def must_exist(settings: Settings) -> Path:
    """The database's file, before anything is made in a folder that was given by mistake."""
    database = settings.data_dir / DATABASE_FILE
    if not database.exists():
        raise click.ClickException(f"there is no database in {settings.data_dir}: check --data-dir")
    return database


def _opened(settings: Settings, owner: bool, create: bool) -> tuple[Database, bool]:
    """The database, and whether this process owns it: a server with another data directory may."""
    try:
        return Database(settings.data_dir, owner=owner, alone=True, url=settings.database, create=create), owner
    except DatabaseInUse:
        return Database(settings.data_dir, owner=False, url=settings.database), False


def _beside(settings: Settings) -> Database | None:
    """The database without owning it; None when its schema is not this version's, or it is damaged."""
    try:
        return Database(settings.data_dir, owner=False, url=settings.database)
    except DatabaseUnusable:
        return None
