"""Looking at something now and then on a thread of its own, so that asking for it costs nothing."""

import logging
import threading
import time
from abc import ABC, abstractmethod

from reflexio.supervised import Supervised

logger = logging.getLogger(__name__)


class Looking(ABC):
    """Looks every so many seconds or, where that takes long, less often."""

    def __init__(self, name: str, seconds: float, largest_share: float) -> None:
        """`name`: of the thread; `largest_share`: of the time that may go into looking."""
        self._seconds = seconds
        self._largest_share = largest_share
        self._stopping = threading.Event()
        self.thread = Supervised(name, self._work, logger)

    def start(self) -> None:
        """Begin to look."""
        self.thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        self.thread.end()

    def _work(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            self._look()
            self.thread.well()
            spent = time.monotonic() - began
            self._stopping.wait(max(self._seconds, spent / self._largest_share))

    @abstractmethod
    def _look(self) -> None:
        """Look once."""
