"""Which schema a database has, and whether this version can use it."""

import re
from dataclasses import dataclass

from sqlalchemy import Connection, inspect, select, text

from reflexio_server.storage import tables
from reflexio_server.storage.store import DatabaseUnusable
from reflexio_server.storage.tables import schema_range

# Stands for the schema while a store is imported: no version takes it for its own.
_PART = "importing "
_REVISION = re.compile(r"\d{4}")  # so that they can be compared as texts


@dataclass(frozen=True, slots=True)
class Schema:
    """A database's revision, None when it is new, and the oldest whose code works on it, None when that is not said."""

    revision: str | None
    oldest: str | None

    @property
    def is_part_of_this(self) -> bool:
        """Whether a store is imported into it by this version."""
        return self.revision == _PART + tables.NEWEST_SCHEMA

    @property
    def is_of_this(self) -> bool:
        return self.revision == tables.NEWEST_SCHEMA

    @property
    def is_older(self) -> bool:
        return self._is_ours and str(self.revision) < tables.NEWEST_SCHEMA

    @property
    def is_newer(self) -> bool:
        return self._is_ours and str(self.revision) > tables.NEWEST_SCHEMA

    @property
    def fits(self) -> bool:
        """Whether this version's code works on it."""
        return self.is_of_this or (self.is_newer and self.oldest is not None and self.oldest <= tables.NEWEST_SCHEMA)

    @property
    def _is_ours(self) -> bool:
        return self.revision is not None and _REVISION.fullmatch(self.revision) is not None


def look(conn: Connection) -> Schema:
    """Which schema the database has."""
    there = inspect(conn)
    if not there.has_table("alembic_version"):
        return Schema(None, None)
    revision = conn.execute(text("SELECT version_num FROM alembic_version")).scalar()
    has_range = there.has_table(schema_range.name)
    return Schema(revision, conn.execute(select(schema_range.c.oldest)).scalar() if has_range else None)


def mark_part(conn: Connection, is_part: bool) -> None:
    """Mark a database of this version's schema as one that a store is imported into, or as whole."""
    revision = (_PART if is_part else "") + tables.NEWEST_SCHEMA
    conn.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


def must_be_whole(found: Schema, name: str) -> None:
    """Raises DatabaseUnusable when only a part of a store was imported into the database of this name."""
    if found.revision is not None and found.revision.startswith(_PART):
        by = found.revision[len(_PART) :]
        with_ = "" if found.is_part_of_this else f" with the version that began it (schema {by})"
        raise DatabaseUnusable(
            f"{name} has only a part of a store: run `reflexio-server import-store`{with_} to its end"
        )


def must_fit(found: Schema, name: str) -> None:
    """Raises DatabaseUnusable when this version's code does not work on a schema that is not new."""
    if found.fits:
        return
    if found.is_older:
        raise DatabaseUnusable(
            f"{name} has schema {found.revision}, this version needs {tables.NEWEST_SCHEMA}: run "
            "`reflexio-server migrate`, or start one server with --migrate"
        )
    if found.is_newer and found.oldest is not None:
        raise DatabaseUnusable(
            f"{name} has schema {found.revision}, which only versions from schema {found.oldest} on can use, and this "
            f"one is of {tables.NEWEST_SCHEMA}: use a newer version"
        )
    if found.revision is None:
        raise DatabaseUnusable(f"{name} has nothing of Reflexio's: check --database-url")
    raise unknown(found, name)


def unknown(found: Schema, name: str) -> DatabaseUnusable:
    """What is said of a schema that this version does not know."""
    return DatabaseUnusable(
        f"{name} has schema {found.revision}, and this version knows none after {tables.NEWEST_SCHEMA}: "
        "a newer version made it, use that one"
    )
