"""What is stored, and what it takes on disk, looked at now and then so that asking costs nothing."""

import logging
import os
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from reflexio.supervised import Supervised
from reflexio_server.storage.accounts import Totals, totals
from reflexio_server.storage.database import DATABASE_FILE, Database

logger = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
_LARGEST_SHARE = 0.02  # of the time that may go into looking


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes: of the database's file, of its log, of the index's folder, and what is free where they lie."""

    database: int
    log: int
    index: int
    free: int


class Stored:
    """Counts on a thread of its own, every LOOK_SECONDS or, where counting takes long, less often.

    Attributes:
        totals: how many accounts, users, interactions and pictures there are; None before the first look.
        disk: what they take, likewise.
    """

    def __init__(self, database: Database, data_dir: Path, index_folder: Path) -> None:
        self.totals: Totals | None = None
        self.disk: Disk | None = None
        self._database = database
        self._file = data_dir / DATABASE_FILE
        self._index = index_folder
        self._stopping = threading.Event()
        self.thread = Supervised("stored", self._work, logger)

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
            with self._database.read() as conn:
                self.totals = totals(conn)
            log = self._file.with_name(f"{self._file.name}-wal")
            free = shutil.disk_usage(self._file.parent).free
            self.disk = Disk(_size(self._file), _size(log), _size_of_all(self._index), free)
            self.thread.well()
            spent = time.monotonic() - began
            self._stopping.wait(max(LOOK_SECONDS, spent / _LARGEST_SHARE))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _size_of_all(folder: Path) -> int:
    """Of the files in it and below; what goes away meanwhile counts nothing."""
    return sum(_size(Path(where) / name) for where, _, names in os.walk(folder) for name in names)
