"""Reading a spool file, of which anything may be damaged."""

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar, cast

from reflexio.spool.database import PUBLISH, is_damage
from reflexio.spool.row import READ, Moments, Row, as_moment, as_text, read_row
from reflexio.spool.salvage import FAULTS, readable

READ_ALL = f"{READ} ORDER BY id"
_READ_ONE = f"{READ} NOT INDEXED WHERE id = ?"
_READ_DELETES = f"{READ} WHERE method <> '{PUBLISH}' ORDER BY id"
_MOMENTS = (
    "SELECT coalesce(min(accepted_at), 0), coalesce(max(accepted_at), 0), coalesce(max(accepted_at < before), 0)"
    " FROM (SELECT accepted_at, lag(accepted_at) OVER (ORDER BY id) AS before FROM rows)"
)
T = TypeVar("T")

if TYPE_CHECKING:
    from reflexio.spool.file import SpoolFile


class ReadableFile:
    """The requests in a file. Reading never raises: what is wrong with the file is kept, and what can be read is given.

    Attributes:
        damage: what is wrong with the file itself; empty when nothing is known to be. It is never removed then.
        told: the damage was told.
        trouble: why nothing can be read just now; empty after `look_again`.
        moments: when its requests were accepted, as of its adoption.
        closed: there is nothing to read any more.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.damage = ""
        self.told = False
        self.trouble = ""
        self.moments = Moments()
        self.closed = False
        self._connection = connection
        self._undeleted: set[int] = set()  # acknowledged, but the disk would not let them go
        self._readable: dict[int, bool] = {}  # of a damaged file: the rows that can be found, and whether they delete

    def rows(self, skip: Collection[int] = ()) -> Iterator[Row]:
        """The requests in their order, but for those to skip."""
        return self._select(READ_ALL, skip)

    def first_delete(self) -> Row | None:
        """The delete that was accepted first."""
        with closing(self._select(_READ_DELETES)) as deletes:
            return next(deletes, None)

    def _select(self, query: str, skip: Collection[int] = ()) -> Generator[Row]:
        if self.closed or self.trouble:
            return
        last = 0
        if not self.damage:
            try:
                with closing(self._connection.execute(query)) as cursor:
                    for found in cursor:
                        if found[0] not in skip and found[0] not in self._undeleted:
                            yield read_row(found, cast("SpoolFile", self))
                        last = found[0]
                return
            except FAULTS as error:
                self._note(error)
        for row_id, deletes in list(self._readable.items()):
            if (
                row_id <= last
                or row_id in skip
                or row_id in self._undeleted
                or (query is _READ_DELETES and not deletes)
            ):
                continue
            if (row := self.row(row_id)) is not None:
                yield row

    def row(self, row_id: int) -> Row | None:
        """One request."""
        if self.closed or self.trouble:
            return None
        try:
            found = self._connection.execute(_READ_ONE, (row_id,)).fetchone()
        except FAULTS as error:
            self._note(error)
            self._readable.pop(row_id, None)
            return None
        return None if found is None else read_row(found, cast("SpoolFile", self))

    def users(self) -> Counter[str]:
        """How many requests of whom there are."""

        def read() -> Counter[str]:
            users: Counter[str] = Counter()
            for user_id, number in self._connection.execute("SELECT user_id, count(*) FROM rows GROUP BY user_id"):
                users[as_text(user_id)] += number
            users.subtract(row.user_id for row in map(self.row, self._undeleted) if row is not None)
            return +users

        return self._read(read, lambda: Counter(row.user_id for row in self.rows()), Counter())

    def size(self) -> int:
        """Bytes of the requests that wait."""

        def read() -> int:
            gone = sum(len(row.payload) for row in map(self.row, self._undeleted) if row is not None)
            return self._number("SELECT coalesce(sum(length(payload)), 0) FROM rows") - gone

        return self._read(read, lambda: sum(len(row.payload) for row in self.rows()), 0)

    def dead_count(self) -> int:
        """How many refused requests are kept."""
        return self._read(lambda: self._number("SELECT count(*) FROM dead"), lambda: 0, 0)

    def look_again(self) -> None:
        """What could not be read may be readable by now."""
        self.trouble = ""

    def _examine(self) -> None:
        def read() -> tuple[int, int, bool]:
            oldest, newest, went_back = self._connection.execute(_MOMENTS).fetchone()
            return as_moment(oldest), as_moment(newest), bool(went_back)

        def read_singly() -> tuple[int, int, bool]:
            moments = [row.accepted_at for row in self.rows()]
            return min(moments, default=0), max(moments, default=0), moments != sorted(moments)

        oldest, newest, went_back = self._read(read, read_singly, (0, 0, False))
        self.moments = Moments(oldest, newest, went_back or newest > time.time_ns() // 1000)

    def _read(self, read: Callable[[], T], read_singly: Callable[[], T], nothing: T) -> T:
        """What a query gives, or of a damaged file what its single rows give."""
        if not (self.closed or self.trouble or self.damage):
            try:
                return read()
            except FAULTS as error:
                self._note(error)
        return read_singly() if self.damage and not self.closed else nothing

    def _note(self, error: BaseException) -> None:
        """Remember what reading ran into, and in a damaged file find out what there is to read."""
        if not is_damage(error):
            self.trouble = str(error)
        elif not self.damage:
            self.damage = str(error)
            self._readable = {row_id: self._deletes(row_id) for row_id in readable(self._connection)}

    def _deletes(self, row_id: int) -> bool:
        row = self.row(row_id)
        return row is not None and row.is_delete

    def _number(self, query: str) -> int:
        return int(self._connection.execute(query).fetchone()[0])
