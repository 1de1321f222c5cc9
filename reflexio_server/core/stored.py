"""What is stored, and what it takes on disk, looked at now and then so that asking costs nothing."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from reflexio_server.core.looking import Looking
from reflexio_server.storage.accounts import Totals, totals
from reflexio_server.storage.database import Database

LOOK_SECONDS = 10.0
_LARGEST_SHARE = 0.02  # of the time that may go into looking


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes: of the database's file, of its log, of the index's folder, and what is free where they lie."""

    database: int
    log: int
    index: int
    free: int


class Stored(Looking):
    """Counts on a thread of its own, every LOOK_SECONDS or, where counting takes long, less often.

    Attributes:
        totals: how many accounts, users, interactions and pictures there are; None before the first look.
        disk: what they take, likewise.
    """

    def __init__(self, database: Database, index_folder: Path) -> None:
        self.totals: Totals | None = None
        self.disk: Disk | None = None
        self._database = database
        self._index = index_folder
        super().__init__("stored", LOOK_SECONDS, _LARGEST_SHARE)

    def _look(self) -> None:
        with self._database.read() as conn:
            self.totals = totals(conn)
        free = shutil.disk_usage(self._index.parent).free
        self.disk = Disk(*self._database.sizes(), _size_of_all(self._index), free)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _size_of_all(folder: Path) -> int:
    """Of the files in it and below; what goes away meanwhile counts nothing."""
    return sum(_size(Path(where) / name) for where, _, names in os.walk(folder) for name in names)
