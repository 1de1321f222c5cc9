"""Alembic's entry: runs the migrations on the connection that migrating.py passes in."""

from typing import Any

from alembic import context
from sqlalchemy import text

connection = context.config.attributes["connection"]


def note_oldest(*_: Any, step: Any = None, **__: Any) -> None:
    """Write down, in the migration's own transaction, the oldest schema whose code works on what it made."""
    oldest = getattr(step.up_revision.module, "oldest", None)
    if oldest is not None:
        connection.execute(text("UPDATE schema_range SET oldest = :oldest"), {"oldest": oldest})


context.configure(connection=connection, transaction_per_migration=False, on_version_apply=note_oldest)
context.run_migrations()
