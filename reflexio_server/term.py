"""Wires what only one process of a store may do: the parts of whoever leads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reflexio.supervised import Supervised
from reflexio_server.core.embedder_change import EmbedderChange
from reflexio_server.core.embedders import Embedders
from reflexio_server.core.embedding import VectorMaker
from reflexio_server.core.following import Follower
from reflexio_server.core.merging import Merging
from reflexio_server.core.noticing import Noticing
from reflexio_server.core.renewal import Renewal
from reflexio_server.core.settling import Settler
from reflexio_server.core.vector_cache import VectorCache
from reflexio_server.index.nearest import Engine
from reflexio_server.storage.database import Database
from reflexio_server.storage.writer import Writer


@dataclass(frozen=True, eq=False)
class Shared:
    """What the parts of every term of a process use; see `Term`.

    `alone`: no other process uses the store.
    """

    database: Database
    engine: Engine
    cache: VectorCache
    embedders: Embedders
    vector_maker: VectorMaker
    indexing: bool
    alone: bool


class Term:
    """See `leading.Term`. All that it writes goes by `writer`; `prove` raises NotLeader once another one leads."""

    def __init__(self, shared: Shared, writer: Writer, prove: Callable[[], None]) -> None:
        database, vector_maker = shared.database, shared.vector_maker
        self.settler = Settler(database, writer, shared.cache)
        self.follower = Follower(database, writer, shared.engine, prove)
        self._change = EmbedderChange(database, writer, shared.embedders, vector_maker, self.follower)
        self.renewal = Renewal(database, writer, shared.embedders, vector_maker)
        self._merging = Merging(database, writer)
        self._noticing = None if shared.alone else Noticing(database, writer, self.follower, self.settler)
        self._indexing = shared.indexing

    @property
    def threads(self) -> Sequence[Supervised]:
        parts = (self.settler, self.follower, self._change, self.renewal, self._merging, self._noticing)
        return [part.thread for part in parts if part]

    def start(self) -> None:
        """Go on with what an earlier term left."""
        if self._noticing:
            self._noticing.start()
        self.follower.start()
        self.settler.start()
        if self._indexing:
            self._change.thread.start()
        self.renewal.thread.start()
        self._merging.thread.start()

    def stop(self, *, finish: bool) -> None:
        if self._noticing:
            self._noticing.thread.end()
        self._merging.thread.end()
        self.renewal.thread.end()
        self._change.thread.end()
        self.follower.stop()
        self.settler.stop(finish=finish)
