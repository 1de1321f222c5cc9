"""The database file of a data directory: a store of SQLite's."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from reflexio_server.storage import own_log, sqlite
from reflexio_server.storage.own_log import OwnLog, WrongLog, log_of
from reflexio_server.storage.store import DatabaseUnusable, OwnClaims


class DatabaseFile:
    """See `store.Store`.

    `owner`: the file is made if it is not there, and closed to others.

    Raises DatabaseUnusable.
    """

    lanes = 1
    mending = "bring a backup in with `reflexio-server restore FILE`"
    is_shared = False

    def __init__(self, path: Path, *, owner: bool, readers: int) -> None:
        self.name = str(path)
        self._path = path
        self._own_log: OwnLog | None = None
        self.claims = OwnClaims()
        if owner:
            try:
                own_log.check(path)
            except WrongLog as error:
                raise DatabaseUnusable(str(error)) from None
            path.touch(mode=0o600)
            _close_to_others(path)
        self.write = sqlite.make_engine(path, begin="IMMEDIATE", connections=1)
        self.read = sqlite.make_engine(path, begin="DEFERRED", connections=readers)

    def migrating(self, conn: Connection) -> None:
        pass

    def looking(self, conn: Connection) -> None:
        pass

    def is_used_by_older(self, conn: Connection, schema: str) -> bool:
        return False

    def is_owned(self) -> None:
        return None

    def own(self, schema: str) -> None:
        pass

    def begin(self) -> None:
        with self.write.connect() as conn:
            self._own_log = OwnLog(self._path, _driver(conn))

    def candidate(self) -> None:
        return None

    def lead(self, conn: Connection) -> bool:
        return True

    def committed(self, conn: Connection) -> None:
        if self._own_log:
            self._own_log.committed(_driver(conn))

    def empty_log(self) -> bool:
        """Bring all of the log into the file and leave nothing in it; False when a reader is in the way.

        Only for the owner. The Writer waits meanwhile, as there is one connection to write with. What is deleted is
        overwritten with zeros at once (secure_delete), but for what the log has of it.
        """
        assert self._own_log
        with self.write.connect() as conn:
            self._own_log.opens_both()
            emptied = sqlite.empty_log(_driver(conn))
            if emptied:
                self._own_log.emptied(_driver(conn))
            return emptied

    def sizes(self) -> tuple[int, int]:
        return _size(self._path), _size(log_of(self._path))

    def interrupt(self, conn: Connection) -> None:
        _driver(conn).interrupt()

    def close(self) -> None:
        """Close every connection, the writer's last: closing it empties the log into the database."""
        if self._own_log:
            with suppress(OSError):
                self._own_log.opens_both()
        self.read.dispose()
        self.write.dispose()
        if self._own_log:
            self._own_log.close()
            self._own_log = None


def _close_to_others(path: Path) -> None:
    """A file that was put here may be open to all, and SQLite gives its log the same mode."""
    for file in (path, own_log.log_of(path), path.with_name(f"{path.name}-shm"), own_log.note_of(path)):
        with suppress(FileNotFoundError, PermissionError):
            file.chmod(0o600)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _driver(conn: Connection) -> Any:
    return conn.connection.driver_connection
