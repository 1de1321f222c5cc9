"""The spool of one account at one server: a file of this process, and the files adopted from ended ones."""

import itertools
import sqlite3
from collections import Counter, deque
from collections.abc import Iterable

from reflexio.errors import QueueFullError, SpoolError
from reflexio.outcomes import Rejection
from reflexio.spool.adoption import adopt_orphans, own_file
from reflexio.spool.database import PUBLISH
from reflexio.spool.file import Row, SpoolFile
from reflexio.spool.folder import SpoolSettings
from reflexio.spool.turns import Turns
from reflexio.spool.watch import ANYBODY, Watch, Watched

MAX_ITEMS = 1_000_000
MAX_BYTES = 1024 * 1024 * 1024
_MEMORY_ITEMS = 10_000
_MEMORY_BYTES = 64 * 1024 * 1024
_KEPT_REJECTIONS = 1_000
_ERASED = "REQUEST_ERASED"


class Spool(Watched):
    """Rows leave by `delete`, `remove` or `park` only; a full spool refuses, it never drops.

    The file of this process comes into being with the first request. Payloads are on disk only; here are numbers.
    """

    def __init__(self, settings: SpoolSettings | None = None) -> None:
        super().__init__()
        self.wakes = False
        """The sender sleeps, so an append must wake it; else it comes by itself, and appending stays cheap."""
        self.bytes = 0
        self.rejected = 0
        self.adopted = 0
        self.rejections: deque[Rejection] = deque(maxlen=_KEPT_REJECTIONS)
        self._settings = settings
        self._max_items = settings.max_items if settings else _MEMORY_ITEMS
        self._max_bytes = settings.max_bytes if settings else _MEMORY_BYTES
        self._own: SpoolFile | None = None
        self._orphans: list[SpoolFile] = []
        self._opening = False
        self._early: list[tuple[int, str, str, bytes, str]] = []
        self._turns = Turns()
        self._ids = itertools.count(1)
        self._users: Counter[str] = Counter()
        self._pending = 0

    @property
    def path(self) -> str:
        """The file of this process; empty when there is none."""
        return str(self._own.path or "") if self._own else ""

    @property
    def durable(self) -> bool:
        """What is pending outlives the process."""
        return self._settings is not None and (self._own is None or self._own.path is not None)

    @property
    def dead(self) -> int:
        """How many refused requests are kept."""
        with self.changed:
            return sum(file.dead_count() for file in self._files())

    def owns(self, row: Row) -> bool:
        """The row was published by this process."""
        return row.home is self._own

    def append(self, request_id: str, user_id: str, payload: bytes, method: str = PUBLISH) -> int:
        """Add a request and return its row id; raises QueueFullError or SpoolError."""
        size = len(payload)
        with self.changed:
            if self._pending >= self._max_items or self.bytes + size > self._max_bytes:
                raise QueueFullError(
                    f"the spool is full: {self._pending:,} requests and {self.bytes:,} bytes of at most "
                    f"{self._max_items:,} and {self._max_bytes:,}; wait with flush() or use publish_many()"
                )
            # Counted first: should a signal end this half-way, a count without a row does less harm.
            row_id = next(self._ids)
            self._count(user_id, 1, size)
            try:
                if self._opening:  # a signal handler while the file is being made: it goes in as soon as it is there
                    self._early.append((row_id, request_id, user_id, payload, method))
                else:
                    (self._own or self._open()).insert(row_id, request_id, user_id, payload, method)
            except BaseException:
                self._count(user_id, -1, -size)
                raise
            if self.wakes:
                self.wakes = False
                self.changed.notify_all()
            return row_id

    def take(self, limit: int, max_bytes: int) -> list[Row]:
        """The next rows, publishes of one file or one delete; they stay until they are deleted or parked."""
        with self.changed:
            batch = self._turns.take(self._files(), limit, max_bytes)
            if not batch:
                self.recount()
            return batch

    def delete(self, rows: Iterable[Row]) -> None:
        """Remove acknowledged rows."""
        with self.changed:
            for file, group in itertools.groupby(rows, key=lambda row: row.home):
                gone = list(group)
                file.delete([row.row_id for row in gone])
                for row in gone:
                    self._left(row)
            self._end_watches()

    def remove(self, row: Row) -> None:
        """Remove a delete that was carried out; raises SpoolError: then it stays, and nothing may go before it."""
        with self.changed:
            row.home.remove(row)
            self._left(row)
            self._end_watches()

    def park(self, row: Row, rejection: Rejection) -> None:
        """Move a row that the server will not take to the dead, with the reason; nothing is kept of what is erased.

        Raises SpoolError as `remove`.
        """
        with self.changed:
            if rejection.reason == _ERASED:
                row.home.delete([row.row_id])
            else:
                row.home.bury(row, rejection)
            self._left(row)
            self.rejected += 1
            self.rejections.append(rejection)
            self._end_watches()

    def postpone(self, row: Row) -> int:
        """Let a publish go behind all others of its file that may go; returns how often the row failed on its own."""
        with self.changed:
            self._turns.postpone(row)
            row.home.add_attempt(row)
            return row.attempts

    def pending(self, user_id: str | None = None) -> int:
        """How many rows there are, of one user or of all."""
        with self.changed:
            return self._pending if user_id is None else self._users[user_id] + self._users[ANYBODY]

    @property
    def has_deletes(self) -> bool:
        """There are deletes among what is pending."""
        with self.changed:
            return any(file.first_delete() for file in self._files())

    @property
    def adopting(self) -> bool:
        """Requests of ended processes are on their way."""
        with self.changed:
            return any(file.users() for file in self._orphans)

    def adopt(self) -> int:
        """Take over what ended processes left, and let go of adopted files that are empty by now.

        Returns:
            How many requests came in.
        """
        if self._settings is None:
            return 0
        with self.changed:
            before = self.adopted
            if not self._pending:
                self.recount()
            for file in [f for f in self._orphans if next(f.rows(), None) is None]:
                self._finish(file)
            for file in adopt_orphans(self._settings, len(self._orphans)):
                users, size = file.users(), file.size()
                self._orphans.append(file)
                self.adopted += users.total()
                self._users += users
                self._pending += users.total()
                self.bytes += size
            self.changed.notify_all()
            return self.adopted - before

    def tidy(self, *, idle: bool) -> None:
        """Keep the files small; `idle` when there is nothing else to do."""
        with self.changed:
            for file in self._files():
                file.tidy(idle=idle)

    def _new_watch(self, user_id: str | None) -> Watch:
        return Watch(user_id, self._own, next(self._ids), set(self._orphans))

    def recount(self) -> None:
        """Count anew what there is, for a signal may have ended an append half-way."""
        with self.changed:
            files = self._files()
            self._users = sum((file.users() for file in files), Counter())
            self._pending = self._users.total()
            self.bytes = sum(file.size() for file in files)
            for watch in self._watches:
                watch.waiting_for = min(watch.waiting_for, self.pending(watch.user_id))
            self._end_watches()

    def forget(self) -> None:
        """In a forked child: leave all of it to the parent."""
        for file in self._files():
            file.forget()

    def close(self) -> int:
        """Give the files up for others to adopt, the empty ones removed; returns how many rows are left in them."""
        with self.changed:
            left = sum(file.close() for file in self._files())
            self._own, self._orphans = None, []
            return left

    def _open(self) -> SpoolFile:
        self._opening = True
        try:
            self._own = SpoolFile.in_memory() if self._settings is None else own_file(self._settings)
        finally:
            self._opening = False
        if self._own.path is None:
            self._max_items = min(self._max_items, _MEMORY_ITEMS)
            self._max_bytes = min(self._max_bytes, _MEMORY_BYTES)
        while self._early:
            self._own.insert(*self._early.pop(0))
        return self._own

    def _finish(self, file: SpoolFile) -> None:
        """An adopted file is empty: keep its dead, and let it go."""
        if file.dead_count():
            try:
                (self._own or self._open()).inherit_dead(file)
                file.drop_dead()
            except (sqlite3.Error, SpoolError):
                return  # another time
        self._orphans.remove(file)
        file.close()

    def _files(self) -> list[SpoolFile]:
        return [self._own, *self._orphans] if self._own else list(self._orphans)

    def _count(self, user_id: str, rows: int, size: int) -> None:
        self._pending += rows
        self.bytes += size
        self._users[user_id] += rows
        if not self._users[user_id]:
            del self._users[user_id]

    def _left(self, row: Row) -> None:
        self._turns.forget(row)
        self._count(row.user_id, -1, -len(row.payload))
        for watch in self._watches:
            if watch.covers(row):
                watch.waiting_for -= 1
