"""The threads that write. What waits together is committed together: one fsync serves many callers."""

import logging
import queue
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import TypeVar

from sqlalchemy import Connection

from reflexio.supervised import Supervised
from reflexio_server.errors import Draining, TooBusy
from reflexio_server.model import NewRequest, Outcome
from reflexio_server.storage.database import Database
from reflexio_server.storage.group_commit import GroupCommit, Operation, Publish, Write

logger = logging.getLogger(__name__)
T = TypeVar("T")

_PAUSE_SECONDS = 0.1  # after a failure that was nobody's; callers wait meanwhile

MAX_TRANSACTION_ROWS = 1000  # larger transactions were no faster, and everyone in one waits for all of it


class Writer:
    """Runs writes in group commits, those of an account in the order they were submitted (publishes of a commit first).

    A future is done after its COMMIT, never before. An operation that fails is rolled back alone, and raises from
    its own future. When `queue_size` writes are waiting in a lane, submitting to it raises TooBusy; after `close`,
    Draining.

    Args:
        database: where to.
        queue_size: writes that may wait in a lane.
        committed: called after each commit with the seconds it took, from BEGIN on, and how many writes were in it.
        lanes: how many transactions there are at a time; each account keeps to one of them. More than one needs a
            database that takes them, and `transaction` a connection for each.
        transaction: default: the database's `write`.
        name: of its thread.
    """

    def __init__(
        self,
        database: Database,
        queue_size: int,
        committed: Callable[[float, int], None] | None = None,
        lanes: int = 1,
        transaction: Callable[[], AbstractContextManager[Connection]] | None = None,
        name: str = "writer",
    ) -> None:
        self._lanes = [
            _Lane(
                f"{name} {number}" if lanes > 1 else name,
                queue_size,
                GroupCommit(transaction or database.write, database.report_damage, committed),
            )
            for number in range(lanes)
        ]

    @property
    def threads(self) -> list[Supervised]:
        return [lane.thread for lane in self._lanes]

    @property
    def waiting(self) -> int:
        return sum(lane.waiting for lane in self._lanes)

    def publish(self, account_id: int, requests: Sequence[NewRequest]) -> Future[list[Outcome]]:
        """Store requests; the result has their outcomes in the same order."""
        work = Publish(account_id, requests, sum(len(request.interactions) for request in requests))
        self._lane(account_id).put(work)
        return work.done

    def submit(self, operation: Callable[[Connection], T], accounts: Collection[int] = ()) -> Future[T]:
        """Run any other write inside a transaction; the result is what it returns.

        `accounts`: whose rows it writes; nobody else writes rows of these meanwhile. Without one it has a transaction
        of its own. It may be run twice, the second time upon what the first one did or did not leave: when a connection
        is lost it is not known whether it was committed.
        """
        work = Operation(operation, accounts)
        self._lane(min(accounts, default=0)).put(work)
        return work.done

    def close(self) -> None:
        """Finish everything that was submitted, then stop."""
        for lane in self._lanes:
            lane.close()

    def _lane(self, account_id: int) -> "_Lane":
        return self._lanes[account_id % len(self._lanes)]


class _Lane:
    """A thread that commits what comes, one transaction after the other."""

    def __init__(self, name: str, queue_size: int, commits: GroupCommit) -> None:
        self._commits = commits
        self._queue: queue.Queue[Write | None] = queue.Queue(queue_size)
        self._next: Write | None = None  # what was taken and goes into a later transaction
        self._closing = False
        self._lock = threading.Lock()
        self.thread = Supervised(name, self._work, logger, first_pause=_PAUSE_SECONDS, longest_pause=_PAUSE_SECONDS)
        self.thread.start()

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    def put(self, work: Write) -> None:
        with self._lock:
            if self._closing:
                raise Draining
            try:
                self._queue.put_nowait(work)
            except queue.Full:
                raise TooBusy("writes waiting") from None

    def close(self) -> None:
        with self._lock:
            if self._closing:
                return
            self._closing = True
        self._queue.put(None)
        self.thread.end()
        while self._next or not self._queue.empty():  # it failed just then: nobody waits for ever
            left, self._next = self._next or self._queue.get(), None
            if left is not None:
                left.done.set_exception(Draining())

    def _work(self) -> None:
        while (first := self._next or self._queue.get()) is not None:
            self._next = None
            batch = [first]
            try:
                self._take_more(batch)
                self._commits.commit(batch)
            except BaseException as error:
                for work in batch:
                    if not work.done.done():
                        work.done.set_exception(error)
                raise
            self.thread.well()

    def _take_more(self, batch: list[Write]) -> None:
        """Add what waits, as much as one transaction takes."""
        rows = batch[0].rows
        while batch[0].accounts and rows < MAX_TRANSACTION_ROWS:
            try:
                work = self._queue.get_nowait()
            except queue.Empty:
                return
            if work is None:
                self._queue.put(None)
                return
            if not work.accounts:
                self._next = work
                return
            batch.append(work)
            rows += work.rows
