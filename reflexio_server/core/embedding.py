"""Makes the vectors of what was published: behind publishing in row order, and at once for whoever waits."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from reflexio.supervised import Supervised, say
from reflexio_server.core.embedders import Embedders, NumberedEmbedder
from reflexio_server.errors import DomainError
from reflexio_server.storage import vectors, waiting
from reflexio_server.storage.database import Database
from reflexio_server.storage.interactions import user_ref
from reflexio_server.storage.vectors import Matrix
from reflexio_server.storage.waiting import Waiting
from reflexio_server.storage.writer import Writer

logger = logging.getLogger(__name__)

BATCH = 64  # rows whose vectors are committed together
_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 1.0, 10.0
_LOOK_SECONDS = 5.0  # how often it is looked for rows that wait for other reasons than a publish
_OTHERS_SECONDS = 0.01  # how often it is looked whether another process is through with a row
_SHARED_LOOK_SECONDS = 0.5  # the same where other processes publish
_MOST_KEPT = 4096  # vectors that could not be written and are kept for the next try: 6 MB


class VectorMaker:
    """Embeds rows that wait and stores their vectors beside them; the rows themselves are the list of work.

    `stored` is called with the accounts that got new vectors. A text that cannot be embedded in three tries is logged,
    counted in `failed`, marked in its row and left to the search by words; another model will try it again. Vectors
    that cannot be written now, as the writer is busy or the disk full, are kept and written at the next try.

    `aside` is around what a call does here, which takes long: other calls need not wait for it.
    """

    def __init__(
        self,
        database: Database,
        writer: Writer,
        embedders: Embedders,
        stored: Callable[[set[int]], None],
        aside: Callable[[], AbstractContextManager[None]] = nullcontext,
        *,
        alone: bool = True,
    ) -> None:
        """`alone`: no other process publishes, so it need not be looked often whether one did."""
        self._look_seconds = _LOOK_SECONDS if alone else _SHARED_LOOK_SECONDS
        self._database = database
        self._writer = writer
        self._embedders = embedders
        self._stored = stored
        self._aside = aside
        self.failed = 0
        self._unwritten: dict[tuple[int, int], Matrix] = {}  # by model and row
        self._changed = threading.Condition()
        self._wake = threading.Event()
        self._stopping = False
        self.thread = Supervised(
            "indexer", self._work, logger, first_pause=_RETRY_SECONDS, longest_pause=_LONGEST_RETRY_SECONDS
        )

    def start(self) -> None:
        """Begin with what was left by an earlier run."""
        self.thread.start()

    def wake(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        """Stop after the row at hand; what is left is taken up at the next start."""
        self._stopping = True
        self._wake.set()
        with self._changed:
            self._changed.notify_all()
        self.thread.end()

    def embed_rows(self, refs: Sequence[int], deadline: float) -> bool:
        """Make the vectors of these rows now; whether all have theirs by the deadline (time.monotonic)."""
        for start in range(0, len(refs), BATCH):
            with self._database.read() as conn:
                rows = waiting.among(conn, refs[start : start + BATCH])
            if rows and not self._embed_if_possible(rows, deadline):
                return False
        return True

    def embed_user(self, account_id: int, user_id: str, deadline: float) -> None:
        """Make the vectors that a user's rows wait for, newest first, until the deadline (time.monotonic)."""
        while time.monotonic() < deadline:
            with self._database.read() as conn:
                user = user_ref(conn, account_id, user_id)
                rows = waiting.of_user(conn, account_id, user, BATCH) if user is not None else []
            if not rows or not self._embed_if_possible(rows, deadline):
                return

    def _embed_if_possible(self, rows: Sequence[Waiting], deadline: float) -> bool:
        """As _embed, for a call; not done while writing is not possible: who waits for vectors can do without."""
        try:
            with self._aside():
                return self._embed(rows, deadline)
        except DomainError:
            return False

    def _work(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                self._work_off()
                pause = _RETRY_SECONDS
                if not self._more_waits():
                    pause = self._look_seconds
                    with self._changed:
                        self._unwritten.clear()  # what is left is of rows that were erased
            except DomainError:
                say(logger.warning, "indexing waits: writing is not possible now")
                with self._changed:
                    self._changed.wait_for(lambda: self._stopping, _RETRY_SECONDS)
                continue
            self.thread.well()
            if not self._stopping:  # `stop` says so before it wakes
                self._wake.wait(pause)

    def _more_waits(self) -> bool:
        with self._database.read() as conn:
            return waiting.first(conn) is not None

    def _work_off(self) -> None:
        with self._database.read() as conn:
            first = waiting.first(conn)
        after = (first or 1) - 1
        while not self._stopping:
            with self._database.read() as conn:
                rows = waiting.oldest(conn, after, BATCH)
            if not rows:
                return
            self._embed(rows, deadline=None)
            after = rows[-1].ref

    def _embed(self, rows: Sequence[Waiting], deadline: float | None) -> bool:
        """Embed rows and store their vectors, leaving those to others that others have begun; whether all are done."""
        while True:
            taken = self._database.claims.take([row.ref for row in rows])
            mine = [row for row in rows if row.ref in taken]
            try:
                done = self._make_vectors(mine, deadline)
            finally:
                self._database.claims.release(taken)
                with self._changed:
                    self._changed.notify_all()
            if done < len(mine):
                self._wake.set()
                return False
            theirs = [row.ref for row in rows if row.ref not in taken]
            if deadline is None or not theirs:
                return True
            rows = self._left(theirs, deadline)
            if not rows:
                return True
            if self._stopping or time.monotonic() >= deadline:
                return False

    def _left(self, refs: list[int], deadline: float) -> list[Waiting]:
        """Which of these still wait, after some time in which others, of this process or another, may be through."""
        with self._changed:
            self._changed.wait(max(0.0, min(_OTHERS_SECONDS, deadline - time.monotonic())))
        with self._database.read() as conn:
            return waiting.among(conn, refs)

    def _make_vectors(self, rows: Sequence[Waiting], deadline: float | None) -> int:
        """Embed rows with the live model and store their vectors; how many, when the deadline comes before the end."""
        while True:
            with self._database.read() as conn:
                model = self._embedders.live(conn)
            embedded: list[tuple[Waiting, Matrix]] = []
            for row in rows:
                if self._stopping or (deadline is not None and time.monotonic() >= deadline):
                    break
                embedded.append((row, self._vectors_of(row, model)))
            if not embedded:
                return 0
            try:
                stored = self._writer.submit(
                    lambda conn: vectors.store(conn, model.number, embedded),  # noqa: B023
                    {row.account_id for row, _ in embedded},
                ).result()
            except BaseException:
                self._keep(model, embedded)
                raise
            self._let_go(model, embedded)
            if stored:  # else anew with the other model, which took over meanwhile
                self._stored({row.account_id for row, _ in embedded})
                return len(embedded)

    def _vectors_of(self, row: Waiting, model: NumberedEmbedder) -> Matrix:
        kept = self._unwritten.get((model.number, row.ref))
        if kept is not None:
            return kept
        made = model.vectors_of(row)
        if made is None:
            with self._changed:
                self.failed += 1
            return model.no_vectors()
        return made

    def _keep(self, model: NumberedEmbedder, embedded: Sequence[tuple[Waiting, Matrix]]) -> None:
        with self._changed:
            for row, matrix in embedded[: max(0, _MOST_KEPT - len(self._unwritten))]:
                self._unwritten[model.number, row.ref] = matrix

    def _let_go(self, model: NumberedEmbedder, embedded: Sequence[tuple[Waiting, Matrix]]) -> None:
        with self._changed:
            for row, _ in embedded:
                self._unwritten.pop((model.number, row.ref), None)
