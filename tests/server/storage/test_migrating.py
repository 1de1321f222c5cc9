"""The schema a database has is known without Alembic, which takes a while to load."""

import subprocess
import sys
from pathlib import Path

from reflexio_server.storage.database import Database
from reflexio_server.storage.migrating import known_schemas
from reflexio_server.storage.tables import NEWEST_SCHEMA

OPEN = """
import importlib, pkgutil, sys
from pathlib import Path
from reflexio_server import storage
from reflexio_server.storage.database import Database

for module in pkgutil.iter_modules(storage.__path__):
    if module.name not in ("migrating", "migrations"):
        importlib.import_module(f"reflexio_server.storage.{module.name}")
database = Database(Path(sys.argv[1]), owner=True)
Database(Path(sys.argv[1]), owner=False).close()
database.close()
print("alembic" in sys.modules)
"""


def test_the_newest_schema_is_that_of_the_newest_migration() -> None:
    assert known_schemas()[0] == NEWEST_SCHEMA


def test_alembic_is_loaded_to_migrate_alone(tmp_path: Path) -> None:
    for loaded in ("True", "False"):  # the first time the database is made
        found = subprocess.run([sys.executable, "-c", OPEN, str(tmp_path)], capture_output=True, text=True, check=True)
        assert found.stdout.split() == [loaded]
    Database(tmp_path, owner=True).close()
