"""Bringing an older schema to this version's. Imported only where that is to be done: Alembic takes a while to load."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from reflexio_server.errors import TooBusy
from reflexio_server.storage import dialect, schema
from reflexio_server.storage.schema import Schema
from reflexio_server.storage.store import DatabaseUnusable, Store

FOLDERS = [Path(__file__).parent / "migrations" / "versions"]
"""Where the migrations are."""

TRIES = 30  # of a migration whose tables others use
_PAUSE_SECONDS = 2.0

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Migration:
    """What leads to a schema: its revision, what it is for, and the oldest schema whose code works on it.

    `oldest` is None before there were such ranges: just the code of this schema does.
    """

    revision: str
    purpose: str
    oldest: str | None


def known_schemas() -> list[str]:
    """The schemas that this version brings to its own, newest first: its own is the first."""
    return [migration.revision for migration in reversed(migrations())]


def migrations() -> list[Migration]:
    """All of them, oldest first."""
    found = [
        Migration(script.revision, (script.doc or "").strip(), getattr(script.module, "oldest", None))
        for script in ScriptDirectory.from_config(_config()).walk_revisions()
    ]
    return found[::-1]


def migrate(conn: Connection, to: str = "head") -> None:
    """Bring the database to this schema, from a known one or from nothing. Needs a write transaction."""
    config = _config()
    config.attributes["connection"] = conn
    command.upgrade(config, to)


def pending(store: Store) -> tuple[Schema, list[Migration]]:
    """The database's schema, and what leads to this version's. Raises DatabaseUnusable."""
    with store.read.connect() as conn, conn.begin():
        found = schema.look(conn)
    return found, _after(found, store.name)


def migrate_in_steps(store: Store, tell: Tell) -> list[Migration]:
    """Bring a database to this version's schema while others use it: what was done, none if nothing was to be.

    Each migration has a transaction of its own and does not wait for long where others use a table, as everybody else
    would wait behind it; it is tried again instead. Nobody else migrates meanwhile. A new database is made as a whole.

    Raises DatabaseUnusable and the database's errors; what was done until then stays done.
    """
    done: list[Migration] = []
    tries = 0
    while pending(store)[1]:
        try:
            step = _step(store)
        except DBAPIError as error:
            tries += 1
            if not isinstance(dialect.as_domain(error), TooBusy) or tries == TRIES:
                raise
            tell("others use the tables that are to be changed: it is tried again")
            time.sleep(_PAUSE_SECONDS)
            continue
        tries = 0
        done += step
        for migration in step:
            tell(f"{migration.revision}: {migration.purpose}")
    return done


def _step(store: Store) -> list[Migration]:
    """Do what comes next, if somebody else has not done it meanwhile."""
    with store.write.connect() as conn, conn.begin():
        store.migrating(conn)
        found = schema.look(conn)
        to_do = _after(found, store.name)
        if found.revision is not None:
            to_do = to_do[:1]
            for migration in to_do:
                _must_be_usable_after(store, conn, migration)
        if to_do:
            migrate(conn, to_do[-1].revision)
    return to_do


def _must_be_usable_after(store: Store, conn: Connection, migration: Migration) -> None:
    """A server notes its version before it looks at the schema, and looks at none that is being changed."""
    if migration.oldest is not None and store.is_used_by_older(conn, migration.oldest):
        raise DatabaseUnusable(
            f"{store.name} is used by servers of versions before schema {migration.oldest}, which could not go on "
            f"after {migration.revision} ({migration.purpose}): upgrade or stop them first; what came before it is done"
        )


def _after(found: Schema, name: str) -> list[Migration]:
    """The migrations that lead from this schema to this version's. Raises DatabaseUnusable."""
    schema.must_be_whole(found, name)
    every = migrations()
    revisions = [migration.revision for migration in every]
    if found.revision is None:
        return every
    if found.revision in revisions:
        return every[revisions.index(found.revision) + 1 :]
    schema.must_fit(found, name)
    return []


def _config() -> Config:
    config = Config()
    folder = str(Path(__file__).parent / "migrations")
    config.set_main_option("script_location", _as_in_a_file(folder))
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", _as_in_a_file(os.pathsep.join(map(str, FOLDERS))))
    return config


def _as_in_a_file(text: str) -> str:
    return text.replace("%", "%%")  # read as a .ini file is
