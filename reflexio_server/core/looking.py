"""Looking at something now and then on a thread of its own, so that asking for it costs nothing."""

import logging
import time
from abc import ABC, abstractmethod
from contextlib import suppress

from reflexio.supervised import Supervised
from reflexio_server.errors import DatabaseUnavailable, TooBusy

logger = logging.getLogger(__name__)


class Looking(ABC):
    """Looks every so many seconds or, where that takes long, less often."""

    def __init__(self, name: str, seconds: float, largest_share: float = 1.0) -> None:
        """`name`: of the thread; `largest_share`: of the time that may go into looking."""
        self._seconds = seconds
        self._largest_share = largest_share
        self.thread = Supervised(name, self._work, logger)

    def _work(self) -> None:
        while not self.thread.over.is_set():
            began = time.monotonic()
            with suppress(DatabaseUnavailable, TooBusy):  # which is told; there is something to see later
                self._look()
            self.thread.well()
            spent = time.monotonic() - began
            self.thread.over.wait(max(self._seconds, spent / self._largest_share))

    @abstractmethod
    def _look(self) -> None:
        """Look once."""
