"""A server that the conformance programs may ask for trouble, so that they meet the errors no client can cause."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reflexio_server.storage.database import DATABASE_FILE
from tests.support import LocalServer

_BLOCKED_SECONDS = 2.0


class _BrokenSearcher:
    def __init__(self, *_: Any) -> None: ...

    def search(self, *_: Any) -> None:
        raise RuntimeError("what nobody foresaw")


class TroubledServer(LocalServer):
    """One stream at a time, two writes waiting, a broken search, and trouble on demand."""

    def __init__(self, data_dir: Path, model_dir: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("reflexio_server.app.Searcher", _BrokenSearcher)
            super().__init__(data_dir, model_dir, max_streams=1, write_queue=2)
        self._blocker: threading.Timer | None = None
        self._stopped = False
        self.causes: dict[str, Callable[[], None]] = {
            "block_writes": self._block_writes,
            "fill_disk": lambda: self._limit_pages(1),  # SQLite takes at least as many as there are
            "free_disk": lambda: self._limit_pages(1_000_000),
            "close_writer": self._close_writer,
            "stop": self.stop,
        }

    def stop(self) -> None:
        """Stop, unless a program asked for it before."""
        if self._blocker:
            self._blocker.join()
        if not self._stopped:
            self._stopped = True
            super().stop()

    def _block_writes(self) -> None:
        """Another program holds the database's write lock for a while."""
        other = sqlite3.connect(self.data_dir / DATABASE_FILE, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        self._blocker = threading.Timer(_BLOCKED_SECONDS, other.close)
        self._blocker.start()

    def _limit_pages(self, count: int) -> None:
        with self.app.database.write() as conn:
            conn.exec_driver_sql(f"PRAGMA max_page_count = {count}")

    def _close_writer(self) -> None:
        """As at the end of a shutdown, when a call still comes in."""
        self.app.vector_maker._writer.close()
