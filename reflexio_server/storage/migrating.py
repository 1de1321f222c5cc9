"""Bringing an older schema to this version's. Imported only where that is to be done: Alembic takes a while to load."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def known_schemas() -> list[str]:
    """The schemas that this version brings to its own, newest first: its own is the first."""
    return [revision.revision for revision in ScriptDirectory.from_config(_config()).walk_revisions()]


def migrate(conn: Connection) -> None:
    """Bring the database to this version's schema, from a known one or from nothing. Needs a write transaction."""
    config = _config()
    config.attributes["connection"] = conn
    command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    folder = str(Path(__file__).parent / "migrations")
    config.set_main_option("script_location", folder.replace("%", "%%"))  # read as a .ini file is
    return config
