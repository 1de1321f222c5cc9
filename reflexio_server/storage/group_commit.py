"""One transaction for many writes: each of them is stored whole or not at all, and costs its neighbours nothing."""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from sqlalchemy import Connection

from reflexio.supervised import say
from reflexio_server.clock import now_us
from reflexio_server.errors import Damaged, DatabaseUnavailable, NotLeader
from reflexio_server.model import NewRequest, Outcome, StoredRequest
from reflexio_server.storage import dialect
from reflexio_server.storage.prepared import execute
from reflexio_server.storage.publishing import store_requests

logger = logging.getLogger(__name__)
T = TypeVar("T")

RESOLVE_SECONDS = 5.0
"""How long it is tried to find out whether a commit without an answer is stored."""

_PAUSE_SECONDS = 0.1


@dataclass(slots=True)
class Publish:
    """Requests of an account to be stored. `replayed`: which of them were stored before it was first tried."""

    account_id: int
    requests: Sequence[NewRequest]
    rows: int
    done: Future[list[Outcome]] = field(default_factory=Future)
    replayed: list[bool] | None = None

    @property
    def accounts(self) -> Collection[int]:
        return (self.account_id,)


@dataclass(slots=True)
class Operation:
    """Any other write of rows of these accounts; what is no account's has a transaction of its own."""

    run: Callable[[Connection], Any]
    accounts: Collection[int]
    done: Future[Any] = field(default_factory=Future)
    rows: int = 100


Write = Publish | Operation
_Result = tuple[Future[Any], Any, BaseException | None]


class GroupCommit:
    """Commits batches: publishes first, then operations in their order.

    A transaction locks the rows of all its accounts first of all, in one order. So no two wait for each other, and
    within an account numbers, sequences and stamps rise in the order of the commits.

    A connection that is lost on the way leaves open whether the transaction was committed: it is done once more, and
    the requests' ids tell what was stored. Operations can be done twice.
    """

    def __init__(
        self,
        transaction: Callable[[], AbstractContextManager[Connection]],
        report_damage: Callable[[str], None],
        committed: Callable[[float, int], None] | None,
    ) -> None:
        """`transaction`: one that is on disk when it ends; `committed`: is told the seconds and how many writes."""
        self._transaction = transaction
        self._report_damage = report_damage
        self._committed = committed
        self._has_begun = False

    def commit(self, batch: Sequence[Write]) -> None:
        """Store the batch; whatever becomes of it, every future is done, and what is stored is told as stored."""
        began = time.perf_counter()
        try:
            results = self._until_known(batch)
        except _AllUndone as undone:
            if len(batch) > 1:
                # Each alone: the one that cannot be stored costs the others nothing.
                for work in batch:
                    self.commit([work])
                return
            results = [(batch[0].done, None, _as_domain(undone.cause))]
        except BaseException as error:  # nothing of the batch is stored; or, when a COMMIT got no answer, it may be
            failed = _as_domain(error)
            if not isinstance(failed, Damaged | DatabaseUnavailable | NotLeader):  # which the database told
                say(logger.exception, "a commit of %d writes failed", len(batch))
            results = [(work.done, None, failed) for work in batch]
        else:
            self._count(time.perf_counter() - began, len(batch))
        for done, result, failure in results:
            if isinstance(failure, Damaged):
                self._report_damage("a write found it")
            if failure is None:
                done.set_result(result)
            else:
                done.set_exception(failure)

    def _until_known(self, batch: Sequence[Write]) -> list[_Result]:
        """Store the batch; when the connection was lost meanwhile, again: the new transaction waits for the old one."""
        end: float | None = None
        while True:
            self._has_begun = False
            try:
                return self._store(batch)
            except DatabaseUnavailable:
                now = time.monotonic()
                if end is None and self._has_begun:
                    end = now + RESOLVE_SECONDS
                if end is None or now >= end:
                    raise
                time.sleep(_PAUSE_SECONDS)

    def _store(self, batch: Sequence[Write]) -> list[_Result]:
        results: list[_Result] = []
        accounts = {account_id for work in batch for account_id in work.accounts}
        with self._transaction() as conn:
            self._has_begun = True
            if accounts:
                dialect.of(conn).lock_accounts(conn, sorted(accounts))
            results += _publish_together(conn, [work for work in batch if isinstance(work, Publish)])
            for work in batch:
                if isinstance(work, Operation):
                    results.append((work.done, *_attempt(conn, work.run)))
        return results

    def _count(self, seconds: float, writes: int) -> None:
        try:
            if self._committed:
                self._committed(seconds, writes)
        except BaseException:  # it is stored all the same
            say(logger.exception, "a commit cannot be counted")


def _publish_together(conn: Connection, publishes: Sequence[Publish]) -> list[_Result]:
    if not publishes:
        return []
    now = now_us()
    submitted = [(work.account_id, request) for work in publishes for request in work.requests]
    outcomes, failure = _attempt(conn, lambda conn: store_requests(conn, submitted, now))
    if outcomes is None and len(publishes) > 1:
        # One of them cannot be stored: each alone, so that it costs the others nothing.
        return [result for work in publishes for result in _publish_together(conn, [work])]
    results: list[_Result] = []
    for work in publishes:
        mine = None
        if outcomes is not None:
            mine, outcomes = _as_first_tried(work, outcomes[: len(work.requests)]), outcomes[len(work.requests) :]
        results.append((work.done, mine, failure))
    return results


def _as_first_tried(work: Publish, outcomes: list[Outcome]) -> list[Outcome]:
    """What was stored by a commit without an answer is no replay."""
    if work.replayed is None:
        work.replayed = [isinstance(outcome, StoredRequest) and outcome.replayed for outcome in outcomes]
        return outcomes
    return [
        replace(outcome, replayed=False) if isinstance(outcome, StoredRequest) and not replayed else outcome
        for outcome, replayed in zip(outcomes, work.replayed, strict=True)
    ]


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
        if isinstance(_as_domain(error), DatabaseUnavailable):
            raise
        # A full disk or an I/O error can do this; going on would commit the rest without what came before.
        if not dialect.of(conn).is_in_transaction(conn):
            raise _AllUndone(error) from error
        execute(conn, "ROLLBACK TO attempt")
        execute(conn, "RELEASE attempt")
        return None, _as_domain(error)
    return result, None


def _as_domain(error: BaseException) -> BaseException:
    return dialect.as_domain(error) or error
