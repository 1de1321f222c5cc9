"""`reflexio-server migrate`: brings PostgreSQL's database to this version's schema, while servers use it."""

import click

from reflexio_server.cli.settings import STORE, settings_options
from reflexio_server.config import Settings
from reflexio_server.storage.database import to_migrate
from reflexio_server.storage.store import DatabaseUnusable

TO_DO = 3
"""The exit code of `--check` when there is something to do."""


@click.command()
@settings_options(*STORE)
@click.option("--check", is_flag=True, help="Only say what is to be done; the exit code is 3 if anything is.")
def migrate(settings: Settings, check: bool) -> None:
    """Bring PostgreSQL's database to this version's schema; servers may be running.

    Servers of older versions go on with it; a step after which one that runs could not is refused, and `--check` names
    these. Each step is a transaction of its own, and what was done stays done: if it is broken off, run it again. Of
    two at once, one waits for the other. With SQLite there is nothing to do: a server does it at its start.
    """
    if settings.database is None:
        raise click.UsageError("this is for PostgreSQL, --database-url-file: a server migrates SQLite at its start")
    from reflexio_server.storage.migrating import migrate_in_steps, pending  # Alembic takes a while to load

    try:
        with to_migrate(settings.database) as store:
            found, to_do = pending(store)
            if not to_do:
                click.echo(f"{store.name} is of schema {found.revision}: nothing is to be done.")
                return
            if not check:
                done = migrate_in_steps(store, click.echo)
                others = " (of some, another did it)" if len(done) < len(to_do) else ""
                click.echo(f"{store.name} is of schema {to_do[-1].revision} now{others}.")
                return
    except DatabaseUnusable as error:
        raise click.ClickException(str(error)) from None
    for step in to_do:
        ends = found.revision is not None and step.oldest is not None and step.oldest > found.revision
        without = f" (servers of versions before schema {step.oldest} cannot go on)" if ends else ""
        click.echo(f"{step.revision}: {step.purpose}{without}")
    raise click.exceptions.Exit(TO_DO)
