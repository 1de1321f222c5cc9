"""The index as searches ask it."""

import numpy as np
from numpy.typing import NDArray

from reflexio_server.core.index_reading import IndexReader
from reflexio_server.core.leading import Leads
from reflexio_server.index.nearest import Engine
from reflexio_server.storage.collections import Collection


class IndexAccess:
    """Asks the index that this process takes care of while it leads, else that of another one which does.

    `query_seconds`: how long a search waits for it at most.
    """

    def __init__(self, engine: Engine, leading: Leads) -> None:
        self.query_seconds = engine.query_seconds
        self._leading = leading
        self._reader = IndexReader(engine)

    @property
    def is_open(self) -> bool:
        term = self._leading.term
        return self._reader.is_open if term is None else term.follower.is_open

    def query(
        self, collection: Collection, vector: NDArray[np.float32], count: int, user: int | None, timeout: float
    ) -> tuple[list[int], NDArray[np.float32]] | None:
        """The nearest vectors' stamps and cosines; None while the index cannot be asked, or after `timeout` seconds.

        Raises Ended when the call does that asks.
        """
        term = self._leading.term
        asked = self._reader if term is None else term.follower
        return asked.query(collection, vector, count, user, timeout)

    def close(self) -> None:
        self._reader.close()
