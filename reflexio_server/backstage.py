"""Wires what works behind the calls: the database and who writes to it, the index, and the threads that serve both."""

import contextlib
import logging
from collections.abc import Callable

from reflexio.supervised import Supervised
from reflexio_server.config import OTHER_CONNECTIONS, Settings
from reflexio_server.core.embedder_choice import choose
from reflexio_server.core.embedding import VectorMaker
from reflexio_server.core.forgetting import Forgetting
from reflexio_server.core.index_access import IndexAccess
from reflexio_server.core.index_lag import IndexLag
from reflexio_server.core.leading import Leading, Sole
from reflexio_server.core.picture_reading import PictureReading
from reflexio_server.core.stored import Stored
from reflexio_server.core.vector_cache import VectorCache
from reflexio_server.core.watching import Watch
from reflexio_server.engines import engine_of
from reflexio_server.errors import NotLeader
from reflexio_server.index.chroma_folder import CHROMA_FOLDER
from reflexio_server.index.loading import load_by_id, load_embedder
from reflexio_server.index.ocr import Reader
from reflexio_server.metrics import Metrics, Parts
from reflexio_server.rpc.lines import aside
from reflexio_server.storage.accounts import counts
from reflexio_server.storage.database import Database, own, to_migrate
from reflexio_server.storage.writer import Writer
from reflexio_server.term import Shared, Term
from reflexio_server.transport import CannotListen, joined

logger = logging.getLogger(__name__)

_BACKGROUND_READERS = 7  # threads that read the database beside the workers
_PATIENCE_SECONDS = 5.0  # for the database of a server that was just killed


class Backstage:
    """It owns the data directory from construction to `stop`.

    Raises DataDirectoryInUse, ModelMissing, OtherModel, TokenUnusable or DatabaseUnusable; then nothing is left
    running.

    Attributes:
        others: threads beside its own that are watched.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics | None, tell: Callable[[bool], None], may_lead: bool = True
    ) -> None:
        """`tell` is called with whether all threads are well, once they are watched and at each change."""
        self._may_lead = may_lead
        self._settings = settings
        self._metrics = metrics
        self._more: list[Supervised] = []
        self.others: list[Supervised] = []
        with contextlib.ExitStack() as opened:
            opened.enter_context(own(settings.data_dir))
            self.embedder = load_embedder(settings.embedder, settings.model_dir)
            readers = settings.workers + _BACKGROUND_READERS
            if settings.database is not None:
                readers = min(readers, settings.database_connections - OTHER_CONNECTIONS)
                if settings.migrate:
                    _migrate(settings.database)
            self.database = Database(
                settings.data_dir,
                owner=True,
                readers=readers,
                url=settings.database,
                leader_url=settings.leader_url.get_secret_value() if settings.leader_url else None,
                patience=_PATIENCE_SECONDS,
            )
            opened.callback(self.database.close)
            told = metrics.committed if metrics else None
            self.writer = Writer(self.database, settings.write_queue, told, self.database.lanes)
            opened.callback(self.writer.close)
            self.cache = VectorCache(settings.vector_cache_mb * 1024 * 1024)
            self.embedders = choose(
                self.database, self.writer, self.embedder, lambda model_id: load_by_id(model_id, settings.model_dir)
            )
            self._engine = engine_of(settings, self.writer)
            alone = settings.database is None
            self.leading: Sole[Term] | Leading[Term] = Sole(self._term) if alone else Leading(self.database, self._term)
            opened.callback(self.leading.stop)
            self.index = IndexAccess(self._engine, self.leading)
            opened.callback(self.index.close)
            self.vector_maker = VectorMaker(
                self.database, self.writer, self.embedders, self._follow, aside, alone=alone
            )
            opened.callback(self.vector_maker.stop)
            self._forgetting = None if alone else Forgetting(self.database, self.cache)
            if self._forgetting:
                opened.callback(self._forgetting.thread.end)
            self.picture_reading = self._open_picture_reading()
            if self.picture_reading:
                opened.callback(self.picture_reading.stop)
            self.watch = Watch(settings.data_dir, lambda: self.threads, tell)
            opened.callback(self.watch.stop)
            self._opened = opened.pop_all()

    @property
    def threads(self) -> list[Supervised]:
        """All that there are now: those of who leads come and go."""
        parts = (self.vector_maker, self._forgetting, self.picture_reading)
        mine = [part.thread for part in parts if part]
        return [*self.writer.threads, *self.leading.threads, *mine, *self._more, *self.others]

    @property
    def term(self) -> Term:
        """What is done here as this process leads. Raises NotLeader when it does not."""
        term = self.leading.term
        if term is None:
            raise NotLeader
        return term

    def start(self) -> None:
        """Begin with what an earlier run left."""
        if self._may_lead:
            self.leading.start()
        if self._settings.indexing:
            self.vector_maker.start()
        if self._forgetting:
            self._forgetting.thread.start()
        if self.picture_reading:
            self.picture_reading.thread.start()
        for thread in self._more:
            thread.start()

    def open_metrics(self) -> str | None:
        """Before `start`: let the metrics, if there are to be any, be scraped until `stop`; the address.

        Raises CannotListen.
        """
        if self._metrics is None:
            return None
        lag = IndexLag(self.database, self.leading)
        stored = Stored(self.database, self._settings.data_dir / CHROMA_FOLDER)
        for part in (lag, stored):
            self._opened.callback(part.thread.end)
            self._more.append(part.thread)
        self._metrics.read(
            Parts(
                self.writer,
                self.vector_maker,
                self.index,
                self.leading,
                self.cache,
                lag,
                stored,
                lambda: [*self.threads, self.watch.thread],
                self.picture_reading,
            )
        )
        host, port = self._settings.metrics_host, self._settings.metrics_port or 0
        try:
            port = self._metrics.serve(host, port)
        except OSError as error:
            raise CannotListen(f"cannot listen on {joined(host, port)} for --metrics-port: {error.strerror}") from None
        self._opened.callback(self._metrics.close)
        return joined(host, port)

    def erased(self, account_id: int) -> None:
        """Say that something was erased; where another process leads, that one looks by itself."""
        if term := self.leading.term:
            term.follower.follow({account_id})
            term.settler.wake()

    def counts(self) -> tuple[int, int]:
        with self.database.read() as conn:
            return counts(conn)

    def stop(self) -> None:
        """End everything in order; what is left to do is taken up at the next start."""
        self._opened.close()

    def _term(self, writer: Writer | None = None, prove: Callable[[], None] = lambda: None) -> Term:
        shared = Shared(
            database=self.database,
            engine=self._engine,
            cache=self.cache,
            embedders=self.embedders,
            vector_maker=self.vector_maker,
            indexing=self._settings.indexing,
            alone=writer is None,
        )
        if writer is not None:  # it may have had another index meanwhile, or be an older copy
            self._engine.have_checked()
        return Term(shared, writer or self.writer, prove)

    def _follow(self, accounts: set[int]) -> None:
        if term := self.leading.term:
            term.follower.follow(accounts)

    def _open_picture_reading(self) -> PictureReading | None:
        if not self._settings.read_pictures:
            return None
        alone = self._settings.database is None
        return PictureReading(
            self.database, self.writer, Reader(self._settings.model_dir), self.vector_maker, alone=alone
        )


def _migrate(url: str) -> None:
    from reflexio_server.storage.migrating import migrate_in_steps  # Alembic takes a while to load

    with to_migrate(url) as store:
        migrate_in_steps(store, lambda step: logger.info("schema %s", step))
