"""One spool file: a SQLite database with the publishes and deletes that wait and those that were refused."""

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reflexio.errors import SpoolError
from reflexio.outcomes import Rejection
from reflexio.spool.database import PUBLISH, Transaction, create, open_file, remove
from reflexio.spool.folder import FileLock, SpoolSettings, make_folder

KEPT_DEAD = 10_000
KEPT_DEAD_BYTES = 64 * 1024 * 1024
_CHECKPOINT_BYTES = 16 * 1024 * 1024
_SHRINK_BYTES = 16 * 1024 * 1024
_IDLE_CHECKPOINT_BYTES = 256 * 1024
_INSERT = "INSERT INTO rows (id, request_id, user_id, payload, method, accepted_at) VALUES (?, ?, ?, ?, ?, ?)"
_READ = "SELECT id, request_id, user_id, payload, method, attempts, accepted_at FROM rows"
_READ_ALL = f"{_READ} ORDER BY id"
_READ_ONE = f"{_READ} WHERE id = ?"
_READ_DELETES = f"{_READ} WHERE method <> '{PUBLISH}' ORDER BY id"
_DEAD = "request_id, user_id, payload, method, accepted_at, attempts, reason, field, message, refused_at"
_BURY = f"INSERT OR REPLACE INTO dead ({_DEAD}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_READ_DEAD = f"SELECT {_DEAD} FROM dead ORDER BY id"


@dataclass(slots=True)
class Row:
    """A request that waits.

    Attributes:
        row_id: its place in its file.
        request_id: the id under which it is stored, or the delete's own.
        user_id: whose interactions these are; empty when a delete does not say.
        payload: the serialized PublishInteractionStreamRequest, or the request of the method's RPC.
        method: the client's method that took it.
        attempts: how often it failed on its own.
        accepted_at: when that was, in Unix microseconds.
        home: the file it is in.
    """

    row_id: int
    request_id: str
    user_id: str
    payload: bytes = field(repr=False)
    method: str
    attempts: int
    accepted_at: int
    home: "SpoolFile" = field(repr=False)

    @property
    def is_delete(self) -> bool:
        """It deletes; else it publishes."""
        return self.method != PUBLISH


class SpoolFile:
    """A file and the right to it. Not for several threads at once: callers hold a lock.

    Attributes:
        path: of the database; None: it is in memory only.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path | None, lock: FileLock | None) -> None:
        self.path = path
        self.closed = False
        self._connection = connection
        self._lock = lock
        self._insert = connection.execute
        self._undeleted: set[int] = set()  # acknowledged, but the disk would not let them go

    @classmethod
    def create(cls, settings: SpoolSettings) -> "SpoolFile":
        """A new file of this process; raises OSError or sqlite3.Error when it cannot be."""
        make_folder(settings.folder)
        path = settings.new_path()
        lock = FileLock.take(path)  # before there is a file, so that nobody can take it for an orphan
        if lock is None:
            raise OSError(f"{path} is owned by another process")
        try:
            meta = {"address": settings.address, "tag": settings.tag, "pid": str(os.getpid())}
            connection = create(path, settings.durability, meta)
        except BaseException:
            remove(path)
            lock.release(remove=True)
            raise
        return cls(connection, path, lock)

    @classmethod
    def in_memory(cls) -> "SpoolFile":
        """The same without a disk."""
        return cls(create(None), None, None)

    @classmethod
    def adopt(cls, path: Path) -> "SpoolFile | None":
        """The file of a process that is gone; None when it is not to be had now.

        Raises:
            NewerVersionError: it is not ours to read.
            OSError, sqlite3.Error: it cannot be read.
        """
        lock = FileLock.take(path)
        if lock is None:
            return None
        if not path.exists():  # its last owner finished it in between
            lock.release(remove=True)
            return None
        try:
            connection = open_file(path, exclusive=True)
        except sqlite3.OperationalError as error:
            lock.release(remove=False)
            if "locked" in str(error):  # somebody is looking at it
                return None
            raise
        except BaseException:
            lock.release(remove=False)
            raise
        return cls(connection, path, lock)

    def insert(self, row_id: int, request_id: str, user_id: str, payload: bytes, method: str) -> None:
        """Add a request; when this returns, it is as durable as the file. Raises SpoolError."""
        try:
            self._insert(_INSERT, (row_id, request_id, user_id, payload, method, time.time_ns() // 1000))
        except sqlite3.Error as error:
            raise SpoolError(
                f"{request_id} was not accepted: the spool {self.path or 'in memory'} cannot be written: {error}"
            ) from error

    def rows(self, skip: Collection[int] = ()) -> Iterator[Row]:
        """The requests in their order, but for those to skip."""
        return self._select(_READ_ALL, skip)

    def first_delete(self) -> Row | None:
        """The delete that was accepted first."""
        with closing(self._select(_READ_DELETES)) as deletes:
            return next(deletes, None)

    def _select(self, query: str, skip: Collection[int] = ()) -> Generator[Row]:
        if self.closed:
            return
        with closing(self._connection.execute(query)) as cursor:
            for found in cursor:
                if found[0] not in skip and found[0] not in self._undeleted:
                    yield self._row(found)

    def _row(self, found: tuple[Any, ...]) -> Row:
        row_id, request_id, user_id, payload, method, attempts, accepted_at = found
        return Row(row_id, request_id, user_id, payload, method, attempts, accepted_at, self)

    def row(self, row_id: int) -> Row | None:
        """One request."""
        if self.closed:
            return None
        found = self._connection.execute(_READ_ONE, (row_id,)).fetchone()
        return None if found is None else self._row(found)

    def delete(self, row_ids: Sequence[int]) -> None:
        """Forget acknowledged requests. What the disk does not let go is kept in mind and tried again later."""
        self._undeleted.update(row_ids)
        if not self._undeleted or self.closed:
            return
        with suppress(sqlite3.Error):
            with self._transaction():
                self._connection.executemany("DELETE FROM rows WHERE id = ?", [(i,) for i in self._undeleted])
            self._undeleted.clear()

    def remove(self, row: Row) -> None:
        """Forget a delete that was carried out, at once and for good: sent again, it would take what came after it.

        Raises:
            SpoolError: the disk does not let it go.
        """
        with self._for_good(row), self._transaction():
            self._connection.execute("DELETE FROM rows WHERE id = ?", (row.row_id,))

    def add_attempt(self, row: Row) -> None:
        """Remember that a request failed on its own."""
        row.attempts += 1
        if not self.closed:
            with suppress(sqlite3.Error):  # it only counts once more, then
                self._connection.execute("UPDATE rows SET attempts = ? WHERE id = ?", (row.attempts, row.row_id))

    def bury(self, row: Row, rejection: Rejection) -> None:
        """Move a request to the dead, with the reason; raises SpoolError when a delete cannot be moved."""
        if self.closed:
            return
        said = (rejection.reason, rejection.field, rejection.message, time.time_ns() // 1000)
        try:
            with self._for_good(row) if row.is_delete else nullcontext(), self._transaction():
                was = (row.request_id, row.user_id, row.payload, row.method, row.accepted_at, row.attempts)
                self._add_dead([(*was, *said)])
                self._connection.execute("DELETE FROM rows WHERE id = ?", (row.row_id,))
        except sqlite3.Error:
            self.delete([row.row_id])  # without room for the dead there is still the log

    def inherit_dead(self, other: "SpoolFile") -> None:
        """Take over the dead of a file that is about to go."""
        with self._transaction():
            self._add_dead(list(other._connection.execute(_READ_DEAD)))

    def drop_dead(self) -> None:
        """Forget the dead, after another file has inherited them."""
        self._connection.execute("DELETE FROM dead")

    def _add_dead(self, dead: list[tuple[object, ...]]) -> None:
        self._connection.executemany(_BURY, dead)
        self._connection.execute(
            "DELETE FROM dead WHERE id <= (SELECT max(id) FROM dead) - ?"
            " OR id IN (SELECT id FROM (SELECT id, sum(length(payload)) OVER (ORDER BY id DESC) AS size FROM dead)"
            " WHERE size > ?)",
            (KEPT_DEAD, KEPT_DEAD_BYTES),
        )

    def users(self) -> Counter[str]:
        """How many requests of whom there are."""
        if self.closed:
            return Counter()
        return Counter(dict(self._connection.execute("SELECT user_id, count(*) FROM rows GROUP BY user_id")))

    def size(self) -> int:
        """Bytes of the requests that wait."""
        return 0 if self.closed else self._number("SELECT coalesce(sum(length(payload)), 0) FROM rows")

    def dead_count(self) -> int:
        """How many refused requests are kept."""
        return 0 if self.closed else self._number("SELECT count(*) FROM dead")

    def tidy(self, *, idle: bool) -> None:
        """Fold the write-ahead log back into the database when it has grown."""
        if self.path is None or self.closed:
            return
        try:
            size = os.stat(f"{self.path}-wal").st_size
        except OSError:
            return
        with suppress(sqlite3.Error):
            if size >= (_IDLE_CHECKPOINT_BYTES if idle else _CHECKPOINT_BYTES):
                self._connection.execute(f"PRAGMA wal_checkpoint({'TRUNCATE' if idle else 'PASSIVE'})")
            if idle and os.stat(self.path).st_size > _SHRINK_BYTES and not self.users() and not self.dead_count():
                self._connection.execute("VACUUM")  # after an outage: it is all free pages

    def forget(self) -> None:
        """In a forked child: never touch it again; the parent goes on."""
        self.closed = True

    def close(self) -> int:
        """Give the file up, and remove it when it is empty; returns how many requests it still holds."""
        if self.closed:
            return 0
        left, keep = -1, True
        with suppress(sqlite3.Error):
            self.delete([])
            left = self._number("SELECT count(*) FROM rows")
            keep = left > 0 or self.dead_count() > 0
        self.closed = True
        with suppress(sqlite3.Error):
            self._connection.close()
        if self.path is not None and not keep:
            remove(self.path)
        if self._lock is not None:
            self._lock.release(remove=not keep)
        return left

    @contextmanager
    def _for_good(self, row: Row) -> Iterator[None]:
        """Around a transaction that survives the end of the power too; raises SpoolError."""
        if self.closed:
            raise SpoolError(f"{row.request_id} stays in the spool, which is closed")
        try:
            (level,) = self._connection.execute("PRAGMA synchronous").fetchone()
            self._connection.execute("PRAGMA synchronous = FULL")
            try:
                yield
            finally:
                self._connection.execute(f"PRAGMA synchronous = {level}")
        except sqlite3.Error as error:
            raise SpoolError(f"{row.request_id} stays in the spool, which cannot be written: {error}") from error

    def _number(self, query: str) -> int:
        return int(self._connection.execute(query).fetchone()[0])

    def _transaction(self) -> Transaction:
        return Transaction(self._connection)
