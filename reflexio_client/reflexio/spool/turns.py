"""Which rows of several spool files go next."""

import itertools
import math
import time
from collections.abc import Iterator, Sequence

from reflexio.spool.reading import Moments, ReadableFile, Row


class Turns:
    """Files take turns, postponed publishes go last, and a delete keeps its place among all of them.

    What was accepted before a delete has left before it goes; what was accepted after it waits until it has left.
    In a file that is the order of its rows, between files that of the moments of acceptance. Where the clock was set
    back these tell nothing: then what an ended process has published goes before the deletes of others.
    """

    def __init__(self) -> None:
        self._turn = 0
        self._postponed: dict[tuple[ReadableFile, int], tuple[str, float]] = {}  # whose it is, and when it may go again

    def take(self, files: Sequence[ReadableFile], limit: int, max_bytes: int) -> list[Row]:
        """The next publishes, at least one if one may go, or else a delete on its own."""
        deletes = [row for row in (file.first_delete() for file in files) if row is not None]
        barrier = min(deletes, key=lambda row: (not row.home.moments.ahead, row.accepted_at), default=None)
        self._turn += 1  # this process and each of the ended ones
        batch: list[Row] = []
        size = 0
        for step in range(len(files)):
            for row in self._of(files[(self._turn + step) % len(files)], barrier):
                size += len(row.payload)
                if len(batch) == limit or (batch and size > max_bytes):
                    return batch
                batch.append(row)
        return batch if batch or barrier is None or self._waits(barrier) else [barrier]

    def postpone(self, row: Row, seconds: float) -> None:
        """Let a publish go behind all others, and not before so many seconds; a delete stays where it is."""
        if not row.is_delete:
            self._postponed.pop((row.home, row.row_id), None)
            self._postponed[(row.home, row.row_id)] = row.user_id, time.monotonic() + seconds

    def hasten(self) -> None:
        """Whatever was postponed may go now."""
        self._postponed = {key: (user_id, 0.0) for key, (user_id, _) in self._postponed.items()}

    def next_due(self) -> float:
        """When the next of the postponed may go, by the monotonic clock; infinity when there is none."""
        return min((due for _, due in self._postponed.values()), default=math.inf)

    def left(self, row: Row) -> None:
        self._postponed.pop((row.home, row.row_id), None)

    def _of(self, file: ReadableFile, barrier: Row | None) -> Iterator[Row]:
        """The publishes of a file that may go now, the postponed ones last."""
        now = time.monotonic()
        late = {row_id: due for (home, row_id), (_, due) in self._postponed.items() if home is file}
        yield from itertools.takewhile(lambda row: _may_go(row, barrier), file.rows(skip=late))
        for row_id, due in late.items():
            if due <= now and (row := file.row(row_id)) is not None and _may_go(row, barrier):
                yield row

    def _waits(self, delete: Row) -> bool:
        """A publish of the same user that goes before it is postponed."""
        for (home, row_id), (user_id, _) in self._postponed.items():
            if not delete.user_id or delete.user_id == user_id:
                row = home.row(row_id)
                if row is not None and _may_go(row, delete):
                    return True
        return False


def goes_before(moments: Moments, delete: Row) -> bool:
    """There is something in a file of such moments that goes before a delete of another file."""
    if not moments.newest:
        return False
    return (moments.ahead and not delete.home.moments.ahead) or moments.oldest <= delete.accepted_at


def _may_go(row: Row, barrier: Row | None) -> bool:
    """It was accepted before the first of the deletes; in the file of that, these are the rows up to it."""
    if barrier is None or row.is_delete:
        return barrier is None
    if row.home is barrier.home or (row.home.moments.ahead and not barrier.home.moments.ahead):
        return True
    return row.accepted_at <= barrier.accepted_at
