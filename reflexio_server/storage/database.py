"""Opening the database: connections, migrations, and the lock that gives a data directory one owner."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from filelock import FileLock, Timeout
from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError

from reflexio_server.storage import sqlite
from reflexio_server.storage.sqlite import is_damaged, make_engine

DATABASE_FILE = "reflexio.db"


class DataDirectoryInUse(Exception):
    """Another process owns the data directory."""


class DatabaseUnusable(Exception):
    """The database is damaged, or was made by another version and cannot be brought to this one here."""


@contextmanager
def own(data_dir: Path) -> Iterator[None]:
    """Own the data directory until the block ends; it is made, for its user alone, when it is not there.

    Raises DataDirectoryInUse when another process owns it. The operating system frees it when the owner dies.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with FileLock(data_dir / "server.lock", timeout=0):
            yield
    except Timeout:
        raise DataDirectoryInUse(
            f"another reflexio-server is using {data_dir}; stop it, or choose another --data-dir"
        ) from None


class Database:
    """The database of a data directory.

    `owner`: the process holds the directory (see `own`), so it may migrate an older schema and checkpoint. Others
    must find the schema as this version knows it. `readers` is how many threads may read at the same time.

    Raises DatabaseUnusable.
    """

    def __init__(self, data_dir: Path, *, owner: bool, readers: int = 1) -> None:
        self._path = path = data_dir / DATABASE_FILE
        self._write = make_engine(path, begin="IMMEDIATE", connections=1, checkpoints=owner)
        self._read = make_engine(path, begin="DEFERRED", connections=readers)
        try:
            if owner:
                path.touch(mode=0o600)
                self._migrate()
            else:
                self._check_schema()
        except DatabaseError as error:
            self.close()
            if not is_damaged(error):
                raise
            raise DatabaseUnusable(f"{path} is damaged ({error.orig}): put a backup in its place") from None
        except DatabaseUnusable:
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A snapshot: everything read inside the block is of one moment."""
        with self._read.connect() as conn, conn.begin():
            yield conn

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One write transaction, on disk when the block ends. In a server only the Writer may use it."""
        with self._write.connect() as conn, conn.begin():
            yield conn

    def empty_log(self) -> bool:
        """Bring all of the log into the database file and leave nothing in it; False when a reader is in the way.

        Only for the owner. The Writer waits meanwhile, as there is one connection to write with.
        """
        with self._write.connect() as conn:
            return sqlite.empty_log(conn.connection.driver_connection)  # type: ignore[arg-type]

    def close(self) -> None:
        """Close every connection, the writer's last: closing it empties the log into the database."""
        self._read.dispose()
        self._write.dispose()

    def _config(self, conn: Connection) -> Config:
        config = Config()
        folder = str(Path(__file__).parent / "migrations")
        config.set_main_option("script_location", folder.replace("%", "%%"))  # read as a .ini file is
        config.attributes["connection"] = conn
        return config

    def _migrate(self) -> None:
        with self.write() as conn:
            found, known = self._schema(conn)
            if found is not None and found not in known:
                raise DatabaseUnusable(
                    f"{self._path} has schema {found}, and this version knows none after {known[0]}: "
                    "a newer version made it, use that one"
                )
            command.upgrade(self._config(conn), "head")

    def _schema(self, conn: Connection) -> tuple[str | None, list[str]]:
        """The database's revision, and those that this version knows, newest first."""
        script = ScriptDirectory.from_config(self._config(conn))
        found = MigrationContext.configure(conn).get_current_revision()
        return found, [revision.revision for revision in script.walk_revisions()]

    def _check_schema(self) -> None:
        with self.read() as conn:
            found, (wanted, *_) = self._schema(conn)
        if found != wanted:
            raise DatabaseUnusable(
                f"the running server's database has schema {found}, this version needs {wanted}: "
                "restart the server with this version, or use the version it runs"
            )
