"""Which rows of several spool files go next."""

import itertools
from collections.abc import Sequence

from reflexio.spool.file import Row, SpoolFile


class Turns:
    """Files take turns, postponed publishes go last, and a delete keeps its place among all of them.

    What was accepted before a delete has left before it goes; what was accepted after it waits until it has left.
    In a file that is the order of its rows, between files that of the moments of acceptance.
    """

    def __init__(self) -> None:
        self._turn = 0
        self._postponed: dict[tuple[SpoolFile, int], None] = {}

    def take(self, files: Sequence[SpoolFile], limit: int, max_bytes: int) -> list[Row]:
        """The next publishes of one file, at least one if one may go, or else a delete on its own."""
        deletes = [row for row in (file.first_delete() for file in files) if row is not None]
        barrier = min(deletes, key=lambda row: row.accepted_at, default=None)
        self._turn += 1  # this process and each of the ended ones
        for step in range(len(files)):
            file = files[(self._turn + step) % len(files)]
            if batch := self._take_from(file, limit, max_bytes, barrier):
                return batch
        return [] if barrier is None else [barrier]

    def postpone(self, row: Row) -> None:
        """Let a publish go behind all others of its file; a delete stays where it is."""
        if not row.is_delete:
            self._postponed.pop((row.home, row.row_id), None)
            self._postponed[(row.home, row.row_id)] = None

    def forget(self, row: Row) -> None:
        """The row has left."""
        self._postponed.pop((row.home, row.row_id), None)

    def _take_from(self, file: SpoolFile, limit: int, max_bytes: int, barrier: Row | None) -> list[Row]:
        batch: list[Row] = []
        size = 0
        late = [row_id for home, row_id in self._postponed if home is file]
        first = itertools.takewhile(lambda row: _may_go(row, barrier), file.rows(skip=late))
        last = (row for row in map(file.row, late) if row is not None and _may_go(row, barrier))
        for row in itertools.chain(first, last):
            size += len(row.payload)
            if len(batch) == limit or (batch and size > max_bytes):
                break
            batch.append(row)
        return batch


def _may_go(row: Row, barrier: Row | None) -> bool:
    """It was accepted before the first of the deletes; in the file of that, these are the rows up to it."""
    if barrier is None:
        return True
    return not row.is_delete and (row.home is barrier.home or row.accepted_at <= barrier.accepted_at)
