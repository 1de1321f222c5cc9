"""The spool of one account at one server: a file of this process, and the files adopted from ended ones."""

import itertools
import time
from collections import Counter, deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import cast

from reflexio.errors import QueueFullError, SpoolError
from reflexio.outcomes import Rejection
from reflexio.spool.adoption import ADVICE, MAX_ADOPTED, News, adopt, leave_alone, orphans, own_file
from reflexio.spool.database import PUBLISH
from reflexio.spool.file import SpoolFile
from reflexio.spool.folder import SpoolSettings
from reflexio.spool.reading import Moments, Row
from reflexio.spool.salvage import FAULTS
from reflexio.spool.turns import Turns, goes_before
from reflexio.spool.watch import ANYBODY, Watch, Watched

_MEMORY_ITEMS = 10_000
_MEMORY_BYTES = 64 * 1024 * 1024
_KEPT_REJECTIONS = 1_000
_ERASED = "REQUEST_ERASED"


class Spool(Watched):
    """Rows leave by `acknowledge`, `complete` or `bury` only; a full spool refuses, it never drops.

    The file of this process comes into being with the first request. Payloads are on disk only; here are numbers.
    A file that cannot be read costs itself alone: what is wrong is said by `say`, once nobody holds the lock.
    """

    def __init__(self, settings: SpoolSettings | None = None) -> None:
        super().__init__()
        self.wakes = False
        """The sender sleeps, so an append must wake it; else it comes by itself, and appending stays cheap."""
        self.resting_until = 0.0
        """Nothing can leave before this moment of the monotonic clock, unless something comes."""
        self.unread = False
        """There may be files of ended processes that were not looked into: so many are adopted already."""
        self.lost = 0
        """How many requests of this process were in its file and cannot be read any more."""
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
        self._closed = False
        self._early: list[tuple[int, str, str, bytes, str, int]] = []
        self._news: deque[News] = deque()
        self._behind: dict[Path, Moments] = {}  # files that were looked into before a delete, and go after it
        self._newest = 0  # the last moment of acceptance, of what was adopted too: none comes before it any more
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
        with self.changed:
            return sum(file.dead_count() for file in self._files())

    def owns(self, row: Row) -> bool:
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
                # Whatever the clock does: after all that came before it, in this process and in those that ended.
                self._newest = max(time.time_ns() // 1000, self._newest + 1)
                request = row_id, request_id, user_id, payload, method, self._newest
                if self._opening:  # a signal handler while the file is being made: it goes in as soon as it is there
                    self._early.append(request)
                else:
                    self._here(request_id).append(*request)
            except SpoolError:  # after what a signal handler raises it may be there: that is counted anew later
                self._count(user_id, -1, -size)
                raise
            self.resting_until = 0.0
            if self.wakes:
                self.changed.notify_all()
                self.wakes = False  # last: should a signal end this half-way, the next request wakes it
            return row_id

    def take(self, limit: int, max_bytes: int) -> list[Row]:
        """The next publishes, or one delete; they stay until they leave."""
        with self.changed:
            batch = self._turns.take(self._files(), limit, max_bytes)
            self._note_damage()
            if not batch:
                self.recount()
                self.resting_until = self._turns.next_due()
            return batch

    def read_before(self, delete: Row) -> bool:
        """Take over what ended processes left that goes before a delete; false: all of it was read, and nothing does.

        Not under the lock.
        """
        came = 0
        for path in orphans(self._settings, self._news) if self._settings else ():
            if path in self._behind and not goes_before(self._behind[path], delete):
                continue
            with self.changed:
                if self._closed or came == MAX_ADOPTED:
                    break
                if (file := adopt(path, self._news)) is None:
                    continue
                if goes_before(file.moments, delete):
                    self._attach(file)
                    came += 1
                else:
                    self._behind[path] = file.moments
                    file.close()
        self.say()
        return came > 0

    def acknowledge(self, rows: Iterable[Row]) -> None:
        """Let go the publishes that the server has stored."""
        with self.changed:
            for file, group in itertools.groupby(rows, key=_home):
                gone = list(group)
                file.acknowledge([row.row_id for row in gone])
                for row in gone:
                    self._left(row)
            self._note_damage()
            self._end_watches()

    def complete(self, row: Row) -> None:
        """Let go a delete that was carried out; raises SpoolError: then it stays, and nothing may go before it."""
        with self.changed:
            _home(row).complete(row)
            self._left(row)
            self._end_watches()

    def bury(self, row: Row, rejection: Rejection) -> None:
        """Move a row that the server will not take to the dead, with the reason; nothing is kept of what is erased.

        Raises SpoolError as `complete`.
        """
        with self.changed:
            if rejection.reason == _ERASED:
                _home(row).acknowledge([row.row_id])
            else:
                _home(row).bury(row, rejection)
            self._left(row)
            self.rejected += 1
            self.rejections.append(rejection)
            self._end_watches()

    def postpone(self, row: Row, seconds: float = 0.0) -> int:
        """Let a publish go behind all others that may go, and not before so many seconds.

        Returns how often the row failed on its own.
        """
        with self.changed:
            self._turns.postpone(row, seconds)
            _home(row).add_attempt(row)
            return row.attempts

    def hasten(self) -> None:
        """Let what is postponed go now."""
        with self.changed:
            self._turns.hasten()
            self.resting_until = 0.0

    def can_complete(self, row: Row) -> bool:
        """A delete could leave its damaged file, once it is carried out."""
        with self.changed:
            return _home(row).can_complete(row)

    def skip(self, row: Row) -> None:
        """Pass over a delete that could not leave its damaged file: the next start would send it again."""
        with self.changed:
            _home(row).skip(row)
            self._left(row)
            self._end_watches()

    def has(self, row_id: int) -> bool:
        """The request of this process can be read."""
        with self.changed:
            return self._own is not None and self._own.row(row_id) is not None

    @property
    def complaint(self) -> str:
        """What is wrong with the files of what is under way; empty when nothing is."""
        with self.changed:
            for file in self._files():
                if file.held_up:
                    return f"what was delivered cannot be removed from the spool file {file.path}: {file.held_up}"
            if self._own and self._own.damage:
                lost = f", and {self.lost:,} requests in it cannot be read any more" if self.lost else ""
                return f"the spool file {self._own.path} is damaged: {self._own.damage}{lost}"
            return next(
                (f"the spool file {f.path} cannot be read: {f.trouble}" for f in self._files() if f.trouble), ""
            )

    def pending(self, user_id: str | None = None) -> int:
        with self.changed:
            return self._pending if user_id is None else self._users[user_id] + self._users[ANYBODY]

    @property
    def has_deletes(self) -> bool:
        with self.changed:
            return any(file.first_delete() for file in self._files())

    def left_by_ended(self, user_id: str | None = None) -> int:
        """How many requests of ended processes are on their way, of one user or of all; at least 1 where files of
        theirs were not read yet, or cannot be just now."""
        with self.changed:
            users = sum((file.users() for file in self._orphans), Counter[str]())
            number = users.total() if user_id is None else users[user_id] + users[ANYBODY]
            return number or int(self.unread or any(file.trouble for file in self._orphans))

    def adopt(self) -> int:
        """Take over what ended processes left, and let go of adopted files that are empty by now.

        Not under the lock. Returns how many requests came in.
        """
        if self._settings is None:
            return 0
        with self.changed:
            for file in self._files():
                file.look_again()
            if not self._pending:
                self.recount()
            self.let_go()
            self.resting_until = 0.0
        came, unread = 0, False
        for path in orphans(self._settings, self._news):
            with self.changed:  # for each anew: whoever publishes meanwhile shall not wait for all of them
                if self._closed:
                    break
                if len(self._orphans) >= MAX_ADOPTED:
                    unread = True
                    break
                if (orphan := adopt(path, self._news)) is not None:
                    came += self._attach(orphan)
        with self.changed:
            self.unread = unread  # last: who asks meanwhile shall not take for read what is about to be
            self.changed.notify_all()
        self.say()
        return came

    def let_go(self) -> None:
        """Let go of adopted files that are empty."""
        with self.changed:
            for file in list(self._orphans):
                if next(file.rows(), None) is None and not file.trouble:
                    self._finish(file)

    def say(self) -> None:
        """Tell what is new; while this thread holds the lock nothing, for then it will say it afterwards."""
        if self._news and not self._holds():
            with suppress(IndexError):  # another thread may be at it
                while True:
                    self._news.popleft().tell()

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
            files, before = self._files(), self._pending
            self._users = sum((file.users() for file in files), Counter())
            self._pending = self._users.total()
            self.bytes = sum(file.size() for file in files)
            if self._own and self._own.damage:
                self.lost += max(0, before - self._pending)
            for watch in self._watches:
                watch.waiting_for = min(watch.waiting_for, self.pending(watch.user_id))
            self._end_watches()

    def abandon(self) -> None:
        """In a forked child: leave all of it to the parent."""
        for file in self._files():
            file.abandon()

    def close(self) -> int:
        """Give the files up for others to adopt, the empty ones removed; returns how many rows are left in them."""
        with self.changed:
            left = sum(file.close() for file in self._files())
            self._own, self._orphans, self._closed = None, [], True
            return left

    def _open(self) -> SpoolFile:
        self._opening = True
        try:
            if self._own:  # of a signal handler that came just before
                return self._own
            self._own = SpoolFile.in_memory() if self._settings is None else own_file(self._settings, self._news)
        finally:
            self._opening = False
        if self._own.path is None:
            self._max_items = min(self._max_items, _MEMORY_ITEMS)
            self._max_bytes = min(self._max_bytes, _MEMORY_BYTES)
        while self._early:
            self._own.append(*self._early.pop(0))
        return self._own

    def _here(self, request_id: str) -> SpoolFile:
        """The file of this process; made anew when somebody removed it, for then it would end with the process."""
        own = self._own or self._open()
        if self._settings is not None and own.is_gone():
            was = own.path
            try:
                own.move(self._settings)
            except (OSError, *FAULTS) as error:
                raise SpoolError(f"{request_id} was not accepted: the spool file {was} is gone: {error}") from error
            self._news.append(News(f"the spool file {was} was removed in use; what waited in it is in {own.path} now"))
        return own

    def _attach(self, file: SpoolFile) -> int:
        users = file.users()
        self._orphans.append(file)
        self._behind.pop(file.path or Path(), None)
        self._newest = max(self._newest, file.moments.newest)
        self.adopted += users.total()
        self._users += users
        self._pending += users.total()
        self.bytes += file.size()
        self.resting_until = 0.0
        self._note_damage()
        return users.total()

    def _finish(self, file: SpoolFile) -> None:
        """An adopted file is empty: keep its dead, and let it go."""
        dead = file.dead_count()
        self._note_damage()
        if file.damage:
            file.close()
            self._orphans.remove(file)
            leave_alone(file.path)
            return
        if dead:
            try:
                (self._own or self._open()).inherit_dead(file)
                file.drop_dead()
            except (*FAULTS, SpoolError):
                return  # another time
        self._orphans.remove(file)
        file.close()

    def _note_damage(self) -> None:
        """Count anew where a file turns out to be damaged, and have it said."""
        found = [file for file in self._files() if file.damage and not file.told]
        for file in found:
            file.told = True
            text = f"the spool file {file.path} is damaged ({file.damage}): what can be read of it is delivered, and "
            self._news.append(News(f"{text}it is left where it is. {ADVICE}"))
        if found:
            self.recount()

    def _holds(self) -> bool:
        try:
            self.changed.notify(0)
        except RuntimeError:  # it is not this thread's
            return False
        return True

    def _files(self) -> list[SpoolFile]:
        return [self._own, *self._orphans] if self._own else list(self._orphans)

    def _count(self, user_id: str, rows: int, size: int) -> None:
        self._pending += rows
        self.bytes += size
        self._users[user_id] += rows
        if not self._users[user_id]:
            del self._users[user_id]

    def _left(self, row: Row) -> None:
        self._turns.left(row)
        self._count(row.user_id, -1, -len(row.payload))
        for watch in self._watches:
            if watch.covers(row):
                watch.waiting_for -= 1


def _home(row: Row) -> SpoolFile:
    return cast(SpoolFile, row.home)
