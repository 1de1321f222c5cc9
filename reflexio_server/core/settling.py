"""What was erased leaves disk and memory too, soon after: a word's pieces, the log, vectors of users searched last."""

import logging
import threading
import time

from reflexio.supervised import Supervised
from reflexio_server.core.merging import merge_all
from reflexio_server.core.vector_cache import VectorCache
from reflexio_server.errors import DomainError
from reflexio_server.storage import settling
from reflexio_server.storage.database import Database
from reflexio_server.storage.writer import Writer

logger = logging.getLogger(__name__)

QUIET_SECONDS = 5.0
"""Begins when nothing was erased for so long: it goes through all of the full text, and once does for many erases."""

LONGEST_SECONDS = 60.0
"""Begins so long after the first erase at the latest."""

STOP_SECONDS = 5.0
"""How long it may take at a stop; what is left then, the next start does."""

_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 1.0, 10.0


class Settler:
    """Overwrites what erases left, on a thread of its own; that it is to be done is in the database until it is.

    SQLite overwrites a row with zeros when it is deleted (secure_delete). Left are the words in the full text's older
    pieces, until those are merged, and everything in the log, until it is emptied into the file.
    """

    def __init__(self, database: Database, writer: Writer, cache: VectorCache) -> None:
        self._database = database
        self._writer = writer
        self._cache = cache
        self._changed = threading.Condition()
        self._first = self._last = 0.0  # when something was erased that is not settled (time.monotonic); 0: nothing is
        self._stop_by: float | None = None
        self.thread = Supervised("settler", self._work, logger, longest_pause=_LONGEST_RETRY_SECONDS)

    def start(self) -> None:
        """Go on with what an earlier run left."""
        with self._database.read() as conn:
            if settling.unsettled_accounts(conn):
                self.wake()
        self.thread.start()

    def wake(self) -> None:
        """Say that something was erased."""
        with self._changed:
            self._last = time.monotonic()
            self._first = self._first or self._last
            self._changed.notify_all()

    def stop(self, *, finish: bool = True) -> None:
        """Do what is to be done, as far as STOP_SECONDS allow; without `finish` the next process that leads does it."""
        with self._changed:
            self._stop_by = time.monotonic() + (STOP_SECONDS if finish else 0)
            self._first = self._first if finish else 0.0
            self._changed.notify_all()
        self.thread.end(None if finish else STOP_SECONDS)

    def _work(self) -> None:
        while self._wait():
            with self._changed:
                first, self._first = self._first, 0.0
            settled = False
            try:
                settled = self._settle()
                self.thread.well()
            except DomainError:
                pass  # writing is not possible now
            finally:
                if not settled:
                    with self._changed:
                        self._first = first
            if not settled:
                with self._changed:
                    if self._stop_by is not None:
                        return
                    self._changed.wait_for(lambda: self._stop_by is not None, _RETRY_SECONDS)

    def _wait(self) -> bool:
        """Wait until it is time to settle; False when there is nothing to do any more."""
        with self._changed:
            while self._stop_by is None:
                due = min(self._last + QUIET_SECONDS, self._first + LONGEST_SECONDS)
                if self._first and time.monotonic() >= due:
                    break
                self._changed.wait(due - time.monotonic() if self._first else None)
            return self._first > 0

    def _settle(self) -> bool:
        with self._database.read() as conn:
            erased = settling.unsettled_accounts(conn)
            self._cache.drop_erased(conn)
        if not merge_all(self._writer, self._may_go_on) or not self._database.empty_log():
            return False
        self._writer.submit(lambda conn: settling.note_settled_accounts(conn, erased), erased).result()
        return True

    def _may_go_on(self) -> bool:
        return self._stop_by is None or time.monotonic() <= self._stop_by
