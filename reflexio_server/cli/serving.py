"""`reflexio-server serve` and `worker`: what runs until it is told to stop, and why it cannot."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from sqlalchemy.exc import DatabaseError

from reflexio_server.cli.options import folder_errors
from reflexio_server.cli.settings import STORE, settings_options
from reflexio_server.config import CHROMA_SETTINGS, Settings
from reflexio_server.cores import NoSuchCore
from reflexio_server.errors import Damaged, DatabaseUnavailable, DiskFull
from reflexio_server.index.chroma_store import TokenUnusable
from reflexio_server.index.embedder import ModelMissing
from reflexio_server.storage.database import DATABASE_FILE, DataDirectoryInUse, what_is_wrong
from reflexio_server.storage.store import DatabaseUnusable


@click.command()
@settings_options()
def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    from reflexio_server import lifecycle  # imported here, as it takes a second

    with _told(settings):
        lifecycle.serve(settings)


@click.command()
@settings_options(
    *STORE,
    "leader_url",
    "database_connections",
    "model_dir",
    "embedder",
    *CHROMA_SETTINGS,
    "python_core",
    "write_queue",
    "indexing",
    "read_pictures",
    "log_level",
    "log_format",
    "metrics_port",
    "metrics_host",
)
def worker(settings: Settings) -> None:
    """Do what servers do behind the calls, without taking any, until SIGTERM or Ctrl-C.

    For all servers on the same PostgreSQL, on this machine or others, it makes the vectors of what waits for them and,
    if it is told to, reads pictures. With --chroma-url it may lead, too, and then looks after the index. It listens
    nowhere, but for metrics if it is told to, and needs a --data-dir of its own. With SQLite the server does it all.
    """
    from reflexio_server import lifecycle

    if settings.database is None:
        raise click.UsageError(
            "a worker works on PostgreSQL: give --database-url or --database-url-file as the servers have it; "
            "with SQLite in a data folder the server does all of this itself"
        )
    with _told(settings):
        lifecycle.work(settings)


@contextmanager
def _told(settings: Settings) -> Iterator[None]:
    """Why it cannot start, in a line."""
    from reflexio_server.core.embedder_choice import OtherModel
    from reflexio_server.transport import CannotListen

    try:
        with folder_errors():
            yield
    except (
        DataDirectoryInUse,
        ModelMissing,
        OtherModel,
        TokenUnusable,
        NoSuchCore,
        CannotListen,
        DatabaseUnusable,
    ) as error:
        raise click.ClickException(str(error)) from None
    except DatabaseError as error:
        raise click.ClickException(what_is_wrong(_database(settings), error)) from None
    except Damaged:
        backup = "`reflexio-server restore FILE`" if settings.database is None else "the server's own means"
        raise click.ClickException(f"{_database(settings)} is damaged: bring a backup in with {backup}") from None
    except DatabaseUnavailable:
        raise click.ClickException(f"{_database(settings)} cannot be reached: look whether it runs") from None
    except DiskFull:
        raise click.ClickException(f"cannot use {settings.data_dir}: the disk is full: make room") from None


def _database(settings: Settings) -> str:
    return str(settings.data_dir / DATABASE_FILE) if settings.database is None else "the database of --database-url"
