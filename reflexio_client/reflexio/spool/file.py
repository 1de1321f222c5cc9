"""One spool file: a SQLite database with the publishes and deletes that wait and those that were refused."""

import os
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from reflexio.errors import SpoolError
from reflexio.outcomes import Rejection
from reflexio.spool.database import DamagedError, Transaction, create, is_damage, open_file, remove
from reflexio.spool.folder import FileLock, SpoolSettings, check_own, make_folder
from reflexio.spool.reading import READ_ALL, ReadableFile, Row
from reflexio.spool.salvage import FAULTS

KEPT_DEAD = 10_000
KEPT_DEAD_BYTES = 64 * 1024 * 1024
_CHECKPOINT_BYTES = 16 * 1024 * 1024
_SHRINK_BYTES = 16 * 1024 * 1024
_IDLE_CHECKPOINT_BYTES = 256 * 1024
_INSERT = "INSERT INTO rows (id, request_id, user_id, payload, method, accepted_at) VALUES (?, ?, ?, ?, ?, ?)"
_MOVE = (
    "INSERT INTO rows (id, request_id, user_id, payload, method, attempts, accepted_at) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_DEAD = "request_id, user_id, payload, method, accepted_at, attempts, reason, field, message, refused_at"
_BURY = f"INSERT OR REPLACE INTO dead ({_DEAD}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_READ_DEAD = f"SELECT {_DEAD} FROM dead ORDER BY id"
_RETRY_SECONDS = 1.0  # between two tries to remove what the disk did not let go


class SpoolFile(ReadableFile):
    """A file and the right to it. Not for several threads at once: callers hold a lock.

    Attributes:
        held_up: why the disk does not let acknowledged requests go; empty when it does.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path | None, lock: FileLock | None) -> None:
        super().__init__(connection, path)
        self.held_up = ""
        self._lock = lock
        self._retry_at = 0.0

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
            ForeignError: others have made it, or can write it.
            OSError, sqlite3.Error, ValueError: it cannot be read.
        """
        check_own(path)
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
        file = cls(connection, path, lock)
        file._examine()
        return file

    def is_gone(self) -> bool:
        """Somebody removed it, so that what is written to it would end with the process."""
        return self.path is not None and not os.path.exists(self.path)

    def move(self, settings: SpoolSettings) -> None:
        """Write all of it to a new file, and be that; raises OSError or sqlite3.Error."""
        other = SpoolFile.create(settings)
        try:
            with other._transaction():
                other._connection.executemany(_MOVE, self._connection.execute(READ_ALL))
                other._add_dead(list(self._connection.execute(_READ_DEAD)))
        except BaseException:
            other.close()
            raise
        old, lock = self._connection, self._lock
        self.path, self._connection, self._lock = other.path, other._connection, other._lock
        old.close()
        if lock is not None:
            lock.release(remove=True)

    def append(self, row_id: int, request_id: str, user_id: str, payload: bytes, method: str, accepted_at: int) -> None:
        """Add a request; when this returns, it is as durable as the file. Raises SpoolError."""
        try:
            self._connection.execute(_INSERT, (row_id, request_id, user_id, payload, method, accepted_at))
        except sqlite3.Error as error:
            if is_damage(error):
                self._note(error)
            raise SpoolError(
                f"{request_id} was not accepted: the spool {self.path or 'in memory'} cannot be written: {error}"
            ) from error

    def acknowledge(self, row_ids: Iterable[int]) -> None:
        """Let go what the server has settled. What the disk does not let go is kept in mind and tried again later."""
        self._settled.update(row_ids)
        self._remove_settled()

    def _remove_settled(self, *, at_last: bool = False) -> None:
        if not self._settled or self.closed or (time.monotonic() < self._retry_at and not at_last):
            return
        whole = list(self._settled)
        for some in (whole, *([i] for i in whole)):  # together, or in a damaged file one by one
            try:
                with self._transaction():
                    gone = self._connection.executemany("DELETE FROM rows WHERE id = ?", [(i,) for i in some])
                if gone.rowcount != len(some):
                    self._check_gone(some)
            except FAULTS as error:
                self._retry_at = time.monotonic() + _RETRY_SECONDS
                if not is_damage(error):
                    self.held_up = str(error)
                    return
                self._note(error)
                continue
            self._settled.difference_update(some)
            if not self._settled:
                self.held_up, self._retry_at = "", 0.0
                return

    def _check_gone(self, row_ids: Collection[int]) -> None:
        """In a damaged file a row may be listed that is not found under its id: it would come again and again."""
        try:
            if any(row_id in row_ids for (row_id,) in self._connection.execute("SELECT id FROM rows NOT INDEXED")):
                self._note(DamagedError("a request in it is not in its place"))
        except FAULTS as error:
            self._note(error)

    def can_complete(self, row: Row) -> bool:
        """Whether a delete could leave the disk; asked before it is sent where that is in doubt."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.execute("DELETE FROM rows WHERE id = ?", (row.row_id,))
            finally:
                self._connection.execute("ROLLBACK")
        except FAULTS:
            return False
        return True

    def skip(self, row: Row) -> None:
        """Pass over a request that can neither be sent nor leave."""
        self._settled.add(row.row_id)

    def complete(self, row: Row) -> None:
        """Let go a delete that was carried out, at once and for good: sent again, it would take what came after it.

        Raises:
            SpoolError: the disk does not let it go.
        """
        with self._for_good(row), self._transaction():
            gone = self._connection.execute("DELETE FROM rows WHERE id = ?", (row.row_id,))
        if not gone.rowcount:
            self._check_gone([row.row_id])

    def add_attempt(self, row: Row) -> None:
        """Remember that a request failed on its own."""
        row.attempts += 1
        if not self.closed:
            with suppress(*FAULTS):  # it only counts once more, then
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
                gone = self._connection.execute("DELETE FROM rows WHERE id = ?", (row.row_id,))
            if not gone.rowcount:
                self._check_gone([row.row_id])
        except FAULTS:
            self.acknowledge([row.row_id])  # without room for the dead there is still the log

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

    def tidy(self, *, idle: bool) -> None:
        """Fold the write-ahead log back into the database when it has grown."""
        self._remove_settled()
        if self.path is None or self.closed:
            return
        try:
            size = os.stat(f"{self.path}-wal").st_size
        except OSError:
            return
        with suppress(*FAULTS, OSError):
            if size >= (_IDLE_CHECKPOINT_BYTES if idle else _CHECKPOINT_BYTES):
                self._connection.execute(f"PRAGMA wal_checkpoint({'TRUNCATE' if idle else 'PASSIVE'})")
            if idle and os.stat(self.path).st_size > _SHRINK_BYTES and self._is_empty():
                self._connection.execute("VACUUM")  # after an outage: it is all free pages

    def abandon(self) -> None:
        """In a forked child: never touch it again; the parent goes on."""
        self.closed = True

    def close(self) -> int:
        """Give the file up, and remove it when it is empty; returns how many requests it still holds."""
        if self.closed:
            return 0
        self.look_again()
        self._remove_settled(at_last=True)
        left = self.users().total()
        keep = not self._is_empty()
        self.closed = True
        with suppress(*FAULTS):
            if not keep:
                self._connection.execute("PRAGMA synchronous = OFF")  # closing writes what is then removed
            self._connection.close()
        if self.path is not None and not keep:
            remove(self.path)
        if self._lock is not None:
            self._lock.release(remove=not keep)
        return left

    def _is_empty(self) -> bool:
        with suppress(*FAULTS):
            rows, dead = self._number("SELECT count(*) FROM rows"), self._number("SELECT count(*) FROM dead")
            return not (rows or dead or self.damage)
        return False

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
        except FAULTS as error:
            if is_damage(error):
                self._note(error)
            raise SpoolError(f"{row.request_id} stays in the spool, which cannot be written: {error}") from error

    def _transaction(self) -> Transaction:
        return Transaction(self._connection)
