"""`reflexio-server backup` and `restore`: a copy of everything, made while a server runs, and put back."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from reflexio_server.cli.options import bar, folder_errors, must_be_file, must_exist
from reflexio_server.cli.settings import STORE, settings_options
from reflexio_server.config import Settings
from reflexio_server.storage import backup as copies
from reflexio_server.storage.database import DATABASE_FILE, DataDirectoryInUse, is_owned, own

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("file", type=_FILE)
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@settings_options(*STORE)
def backup(settings: Settings, file: Path, force: bool) -> None:
    """Copy the database, as it is at this moment, into FILE; a server may be running.

    FILE has everything: accounts, what was said, vectors. Only its owner may read it. It is there when it is whole and
    was looked through, and not before.
    """
    must_be_file(settings, "copy the database with pg_dump, or what else PostgreSQL offers")
    with _told(), bar("copying") as show:
        database = must_exist(settings)
        copies.back_up(database, file.absolute(), in_use=is_owned(settings.data_dir), force=force, show=show)
    click.echo(f"Copied {database} to {file}.")


@click.command()
@click.argument("file", type=_FILE)
@click.option("--without-log", is_flag=True, help="Take a file whose log is lost; what was in that is missing.")
@settings_options(*STORE)
def restore(settings: Settings, file: Path, without_log: bool) -> None:
    """Put a copy of FILE, a backup, in the place of the database; no server may be running.

    It is looked through first, and nothing changes if it is damaged. The database before is kept under another name,
    which is told. The search index is held against what is there now at the next start, and built anew if need be.
    """
    must_be_file(settings, "restore the database with pg_restore, or what else PostgreSQL offers")
    try:
        with _told(), own(settings.data_dir), bar("restoring") as show:
            database = settings.data_dir / DATABASE_FILE
            aside = copies.restore(file.absolute(), database, without_log=without_log, show=show)
            from reflexio_server.index.chroma_folder import ChromaFolders  # here, as numpy takes a while

            ChromaFolders(settings.data_dir).have_checked()
    except DataDirectoryInUse as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"Restored {database} from {file}.")
    if aside:
        click.echo(f"What was there before is {aside}; delete it when it is not needed.")


@contextmanager
def _told() -> Iterator[None]:
    with folder_errors():
        try:
            yield
        except copies.CopyRefused as error:
            raise click.ClickException(str(error)) from None
