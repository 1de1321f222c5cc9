"""Makes the vectors of a model that is to take over, while searches go on with those of the live one."""

import logging
import time

from sqlalchemy import Connection

from reflexio.supervised import Supervised, say
from reflexio_server.core.embedders import Embedders, NumberedEmbedder
from reflexio_server.core.embedding import BATCH, VectorMaker
from reflexio_server.core.following import Follower
from reflexio_server.errors import DomainError, ModelNotHere
from reflexio_server.storage import accounts, collections, embedders, vectors, waiting
from reflexio_server.storage.database import Database
from reflexio_server.storage.horizon import Horizon
from reflexio_server.storage.vectors import Matrix
from reflexio_server.storage.waiting import Waiting
from reflexio_server.storage.writer import Writer

logger = logging.getLogger(__name__)

STALE_AT_ONCE = 500  # vectors of a model that is gone are deleted in transactions of so many
MOST_BEHIND = 1_000  # so many vectors may be missing in Chroma when the model takes over: searches compare them too
_PAUSE_SECONDS = 0.5
_LOOK_SECONDS = 5.0  # how often it is looked whether another model was chosen
_PATIENT_TRIES = 20
_TELL_SECONDS = 10.0


class EmbedderChange:
    """Embeds every interaction again with the model that is to take over, oldest first, on a thread of its own.

    How far it got is in the database, so that it goes on after a restart. When all have their vectors and Chroma has
    followed, that model is made live by one row; then what is left of models that are gone is deleted. Where servers
    share a store, another model may be chosen at any time: then this looks for it, and never ends.
    """

    def __init__(
        self, database: Database, writer: Writer, embedders: Embedders, vector_maker: VectorMaker, follower: Follower
    ) -> None:
        self._database = database
        self._writer = writer
        self._embedders = embedders
        self._vector_maker = vector_maker
        self._follower = follower
        self._horizon = Horizon()
        self.thread = Supervised("model", self._work, logger, first_pause=_PAUSE_SECONDS, longest_pause=_TELL_SECONDS)
        self._told = time.monotonic()
        self._tries = 0

    def _work(self) -> None:
        while not self.thread.over.is_set():
            try:
                coming = self._coming()
                if coming is not None:
                    self._go_on(coming)
                elif not self._drop_stale():
                    if not self._database.is_shared:
                        break
                    self.thread.well()
                    self.thread.over.wait(_LOOK_SECONDS)
                self.thread.well()
            except ModelNotHere:  # which was said
                self.thread.well()
                self.thread.over.wait(_LOOK_SECONDS)
            except DomainError:
                say(logger.warning, "the change of model waits: writing is not possible now")
                self.thread.over.wait(_PAUSE_SECONDS)
        self.thread.well()

    def _coming(self) -> NumberedEmbedder | None:
        with self._database.read() as conn:
            state = embedders.state(conn)
            if state is None or state.next is None:
                return None
            return self._embedders.numbered(conn, state.next)

    def _go_on(self, coming: NumberedEmbedder) -> None:
        with self._database.read() as conn:
            state = embedders.state(conn)
            if state is None or state.next != coming.number:
                return
            upto = self._horizon.look(conn)
            rows = [row for row in waiting.of_every_row(conn, state.done, BATCH) if row.ref <= upto]
        embedded: list[tuple[Waiting, Matrix]] = []
        for row in rows:
            if self.thread.over.is_set():
                return
            made = coming.vectors_of(row)
            embedded.append((row, coming.no_vectors() if made is None else made))
        if embedded:
            self._store(coming, embedded)
            self._tell(coming, embedded[-1][0].ref)
        if len(rows) < BATCH:
            if self._has_followed(coming) and self._take_over(coming):
                say(logger.info, "%s took over", coming.embedder.model_id)
                self._tries = 0
                self._vector_maker.wake()
            elif not rows:
                self.thread.over.wait(_PAUSE_SECONDS)

    def _take_over(self, coming: NumberedEmbedder) -> bool:
        """Let the next model be live when nothing is left to do; where publishes never pause, when little is."""
        self._tries += 1
        most_waiting = 0 if self._tries <= _PATIENT_TRIES else BATCH
        with self._database.read() as conn:
            every = accounts.numbers(conn)
        return self._writer.submit(lambda conn: embedders.take_over(conn, coming.number, most_waiting), every).result()

    def _drop_stale(self) -> bool:
        """Delete some of what is left of models that are gone; False when nothing is."""
        with self._database.read() as conn:
            stale = embedders.stale_vectors(conn)
        if stale is not None:
            self._writer.submit(lambda conn: embedders.drop_vectors(conn, *stale, STALE_AT_ONCE), stale[:1]).result()
        return stale is not None

    def _store(self, coming: NumberedEmbedder, embedded: list[tuple[Waiting, Matrix]]) -> None:
        def write(conn: Connection) -> None:
            vectors.store_beside(conn, coming.number, embedded)
            embedders.note_done(conn, coming.number, embedded[-1][0].ref)

        self._writer.submit(write, {row.account_id for row, _ in embedded}).result()
        self._follower.follow({row.account_id for row, _ in embedded})

    def _has_followed(self, coming: NumberedEmbedder) -> bool:
        with self._database.read() as conn:
            for account_id in collections.lagging_accounts(conn, coming.number):
                live = collections.live_collection(conn, account_id, coming.number)
                applied = live.applied if live else 0
                if vectors.count_after(conn, account_id, coming.number, applied) > MOST_BEHIND:
                    return False
        return True

    def _tell(self, coming: NumberedEmbedder, done: int) -> None:
        if time.monotonic() - self._told < _TELL_SECONDS:
            return
        with self._database.read() as conn:
            so_far, total = embedders.progress(conn, done)
        say(
            logger.info,
            "%s is to take over: %d of %d interactions have its vectors",
            coming.embedder.model_id,
            so_far,
            total,
        )
        self._told = time.monotonic()
