"""The one thread that writes. What waits together is committed together: one fsync serves many callers."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Connection

from reflexio.supervised import Supervised, say
from reflexio_server.clock import now_us
from reflexio_server.errors import Damaged, DatabaseUnavailable, Draining, TooBusy
from reflexio_server.model import NewRequest, Outcome
from reflexio_server.storage import dialect
from reflexio_server.storage.database import Database
from reflexio_server.storage.prepared import execute
from reflexio_server.storage.publishing import store_requests

logger = logging.getLogger(__name__)
T = TypeVar("T")

_PAUSE_SECONDS = 0.1  # after a failure that was nobody's; callers wait meanwhile

MAX_TRANSACTION_ROWS = 1000  # larger transactions were no faster, and everyone in one waits for all of it


@dataclass(slots=True)
class _Publish:
    account_id: int
    requests: Sequence[NewRequest]
    rows: int
    done: Future[list[Outcome]] = field(default_factory=Future)


@dataclass(slots=True)
class _Operation:
    run: Callable[[Connection], Any]
    done: Future[Any] = field(default_factory=Future)
    rows: int = 100


class Writer:
    """Runs writes in group commits, in the order they were submitted (within one commit, publishes first).

    A future is done after its COMMIT, never before. An operation that fails is rolled back alone, and raises from
    its own future. When `queue_size` writes are waiting, submitting raises TooBusy; after `close`, Draining.

    `committed` is called after each commit with the seconds it took, from BEGIN on, and how many writes were in it.
    `transaction`: by what it writes; default: the database's `write`.
    """

    def __init__(
        self,
        database: Database,
        queue_size: int,
        committed: Callable[[float, int], None] = lambda _seconds, _writes: None,
        *,
        name: str = "writer",
        transaction: Callable[[], AbstractContextManager[Connection]] | None = None,
    ) -> None:
        self._database = database
        self._transaction = transaction or database.write
        self._committed = committed
        self._queue: queue.Queue[_Publish | _Operation | None] = queue.Queue(queue_size)
        self._closing = False
        self._lock = threading.Lock()
        self.thread = Supervised(name, self._work, logger, first_pause=_PAUSE_SECONDS, longest_pause=_PAUSE_SECONDS)
        self.thread.start()

    @property
    def threads(self) -> list[Supervised]:
        return [self.thread]

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    def publish(self, account_id: int, requests: Sequence[NewRequest]) -> Future[list[Outcome]]:
        """Store requests; the result has their outcomes in the same order."""
        work = _Publish(account_id, requests, sum(len(request.interactions) for request in requests))
        self._put(work)
        return work.done

    def submit(self, operation: Callable[[Connection], T]) -> Future[T]:
        """Run any other write inside a transaction; the result is what it returns."""
        work = _Operation(operation)
        self._put(work)
        return work.done

    def close(self) -> None:
        """Finish everything that was submitted, then stop."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        self._queue.put(None)
        self.thread.end()
        while not self._queue.empty():  # it failed just then: nobody waits for ever
            left = self._queue.get()
            if left is not None:
                left.done.set_exception(Draining())

    def _put(self, work: _Publish | _Operation) -> None:
        with self._lock:
            if self._closing:
                raise Draining
            try:
                self._queue.put_nowait(work)
            except queue.Full:
                raise TooBusy("writes waiting") from None

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            try:
                self._take_more(batch)
                self._commit(batch)
            except BaseException as error:
                for work in batch:
                    if not work.done.done():
                        work.done.set_exception(error)
                raise
            self.thread.well()

    def _take_more(self, batch: list[_Publish | _Operation]) -> None:
        """Add what waits, as much as one transaction takes."""
        rows = batch[0].rows
        while rows < MAX_TRANSACTION_ROWS:
            try:
                work = self._queue.get_nowait()
            except queue.Empty:
                return
            if work is None:
                self._queue.put(None)
                return
            batch.append(work)
            rows += work.rows

    def _commit(self, batch: list[_Publish | _Operation]) -> None:
        """Store the batch; whatever becomes of it, every future is done, and what is stored is told as stored."""
        results: list[tuple[Future[Any], Any, BaseException | None]] = []
        began = time.perf_counter()
        try:
            with self._transaction() as conn:
                publishes = [work for work in batch if isinstance(work, _Publish)]
                results += self._publish_together(conn, publishes)
                for work in batch:
                    if isinstance(work, _Operation):
                        results.append((work.done, *_attempt(conn, work.run)))
        except _AllUndone as undone:
            if len(batch) > 1:
                # Each alone: the one that cannot be stored costs the others nothing.
                for work in batch:
                    self._commit([work])
                return
            results = [(batch[0].done, None, _as_domain(undone.cause))]
        except BaseException as error:  # nothing of the batch is stored; or, when a COMMIT got no answer, it may be
            failed = _as_domain(error)
            if not isinstance(failed, Damaged | DatabaseUnavailable):  # which the database told
                say(logger.exception, "a commit of %d writes failed", len(batch))
            results = [(work.done, None, failed) for work in batch]
        else:
            self._count(time.perf_counter() - began, len(batch))
        for done, result, failure in results:
            if isinstance(failure, Damaged):
                self._database.report_damage("a write found it")
            if failure is None:
                done.set_result(result)
            else:
                done.set_exception(failure)

    def _count(self, seconds: float, writes: int) -> None:
        try:
            self._committed(seconds, writes)
        except BaseException:  # it is stored all the same
            say(logger.exception, "a commit cannot be counted")

    def _publish_together(
        self, conn: Connection, publishes: list[_Publish]
    ) -> list[tuple[Future[Any], Any, BaseException | None]]:
        if not publishes:
            return []
        now = now_us()
        submitted = [(work.account_id, request) for work in publishes for request in work.requests]
        outcomes, failure = _attempt(conn, lambda conn: store_requests(conn, submitted, now))
        if failure is not None and len(publishes) > 1:
            # One of them cannot be stored: each alone, so that it costs the others nothing.
            return [result for work in publishes for result in self._publish_together(conn, [work])]
        results: list[tuple[Future[Any], Any, BaseException | None]] = []
        for work in publishes:
            mine = None if outcomes is None else outcomes[: len(work.requests)]
            outcomes = None if outcomes is None else outcomes[len(work.requests) :]
            results.append((work.done, mine, failure))
        return results


class _AllUndone(Exception):
    """A failure made the database undo the whole transaction, not just what failed."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(cause)
        self.cause = cause


def _attempt(conn: Connection, run: Callable[[Connection], T]) -> tuple[T | None, BaseException | None]:
    """Run inside a savepoint: what fails is undone alone. Raises _AllUndone when it took the transaction with it."""
    try:
        execute(conn, "SAVEPOINT attempt")
        result = run(conn)
        execute(conn, "RELEASE attempt")
    except BaseException as error:
        # A full disk or an I/O error can do this; going on would commit the rest without what came before.
        if not dialect.of(conn).is_in_transaction(conn):
            raise _AllUndone(error) from error
        execute(conn, "ROLLBACK TO attempt")
        execute(conn, "RELEASE attempt")
        return None, _as_domain(error)
    return result, None


def _as_domain(error: BaseException) -> BaseException:
    return dialect.as_domain(error) or error
