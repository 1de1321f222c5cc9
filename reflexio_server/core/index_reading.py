"""Asking an index that another process takes care of."""

import logging
import threading
import time

import numpy as np
from numpy.typing import NDArray

from reflexio.supervised import described, say
from reflexio_server.errors import Ended
from reflexio_server.index.nearest import Engine, Index, Late
from reflexio_server.storage.collections import Collection

logger = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds in which it is not asked after it failed


class IndexReader:
    """Asks the index whose collections the database names. Whatever it raises, nothing of it is set aside or dropped:
    that is for who leads to judge; it is only not asked for a while."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._index: Index | None = None
        self._pause = _FIRST_PAUSE
        self._asked_from = 0.0  # time.monotonic

    @property
    def is_open(self) -> bool:
        """Whether it was asked, and nothing failed since."""
        return self._index is not None

    def query(
        self, collection: Collection, vector: NDArray[np.float32], count: int, user: int | None, timeout: float
    ) -> tuple[list[int], NDArray[np.float32]] | None:
        """As Follower.query."""
        index = None
        try:
            index = self._of(collection.folder)
            if index is None:
                return None
            found = index.query(collection.name, vector, count, user, timeout)
            self._pause = _FIRST_PAUSE
            return found
        except Late:
            return None
        except Ended:
            raise
        except BaseException as error:
            self._leave(index, error)
            return None

    def close(self) -> None:
        with self._lock:
            index, self._index, self._asked_from = self._index, None, float("inf")
        if index is not None:
            index.close()

    def _of(self, number: int) -> Index | None:
        """The index with this number, None while there is to be a pause, or it cannot be read."""
        with self._lock:
            if time.monotonic() < self._asked_from:
                return None
            old = None
            if self._index is None or self._index.number != number:
                old, self._index = self._index, self._engine.reading(number)
            index = self._index
        if old is not None:
            old.close()
        return index

    def _leave(self, failed: Index | None, error: BaseException) -> None:
        with self._lock:
            if self._index is not failed:  # as another search found out
                return
            self._index = None
            self._asked_from = time.monotonic() + self._pause
            pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        say(logger.warning, "the Chroma index is not asked for %g s: %s", pause, described(error))
        if failed is not None:
            failed.close()
