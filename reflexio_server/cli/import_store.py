"""`reflexio-server import-store`: what SQLite has in a data folder, taken into PostgreSQL."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import click
from sqlalchemy.exc import DatabaseError

from reflexio_server.cli.options import bar, folder_errors, must_exist
from reflexio_server.cli.settings import STORE, settings_options
from reflexio_server.config import Settings
from reflexio_server.errors import Damaged, DatabaseUnavailable
from reflexio_server.storage.database import Database, DataDirectoryInUse, own, what_is_wrong
from reflexio_server.storage.importing import Imported, ImportRefused
from reflexio_server.storage.importing import import_store as import_all
from reflexio_server.storage.store import DatabaseUnusable

_PATIENCE_SECONDS = 5  # for the session of a run that was killed


@click.command("import-store")
@settings_options(*STORE)
def import_store(settings: Settings) -> None:
    """Copy everything that SQLite has in the data folder into a PostgreSQL database; no server may be running.

    The database must be new, or have what an import of this store left there when it was broken off: that is compared,
    and the rest is copied. Until all of it is there no server starts on it. Ids, passwords, API keys and vectors stay
    as they are, and nothing is embedded again. The folder stays as it is, but that a database of an older version is
    brought to this one's first.
    """
    if settings.database is None:
        raise click.UsageError("say into which PostgreSQL database: --database-url-file, or --database-url")
    with _opened(settings) as (source, target), bar("importing") as show:
        done = import_all(source, target, show)
        named = source.name, target.name
    if any(done.copied.values()):
        _show(done)
        click.echo(f"All of {named[0]} is in {named[1]}.")
    else:
        click.echo(f"All of {named[0]} is in {named[1]} already: nothing was changed.")


@contextmanager
def _opened(settings: Settings) -> Iterator[tuple[Database, Database]]:
    """The folder's database, and the one that its rows go to; both are this process's meanwhile."""
    with folder_errors(), ExitStack() as opened:
        must_exist(settings)
        try:
            opened.enter_context(own(settings.data_dir))
            source = Database(settings.data_dir, owner=True, create=False)
            opened.callback(source.close)
            target = Database(
                settings.data_dir, owner=True, alone=True, url=settings.database, part=True, patience=_PATIENCE_SECONDS
            )
            opened.callback(target.close)
            yield source, target
        except (DataDirectoryInUse, DatabaseUnusable, ImportRefused) as error:
            raise click.ClickException(str(error)) from None
        except Damaged:
            damaged = source if source.is_damaged else target
            raise click.ClickException(f"{damaged.name} is damaged: {damaged.mending}") from None
        except DatabaseUnavailable:
            raise click.ClickException(
                f"{target.name} cannot be reached any more: run the command again when it can, and it goes on"
            ) from None
        except DatabaseError as error:
            raise click.ClickException(what_is_wrong(target.name, error)) from None


def _show(done: Imported) -> None:
    rows = [("table", "rows", "copied now"), *((n, f"{done.rows[n]:,}", f"{done.copied[n]:,}") for n in done.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *numbers in rows:
        cells = [name.ljust(widths[0]), *(one.rjust(width) for one, width in zip(numbers, widths[1:], strict=True))]
        click.echo("  ".join(cells))
