"""A request in a spool file, and reading it where anything may be damaged."""

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from reflexio.spool.database import PUBLISH, is_damage
from reflexio.spool.salvage import FAULTS, readable

_READ = "SELECT id, request_id, user_id, payload, method, attempts, accepted_at FROM rows"
_COLUMNS = {"request_id": str, "user_id": str, "payload": bytes, "method": str, "attempts": int, "accepted_at": int}
_KINDS = (int, *_COLUMNS.values())
_LATEST = 1 << 55  # the moments of a damaged file shall not lead this process's own out of the range of integers
READ_ALL = f"{_READ} ORDER BY id"
_READ_ONE = f"{_READ} NOT INDEXED WHERE id = ?"
_READ_DELETES = f"{_READ} WHERE method <> '{PUBLISH}' ORDER BY id"
_MOMENTS = (
    "SELECT coalesce(min(accepted_at), 0), coalesce(max(accepted_at), 0), coalesce(max(accepted_at < before), 0)"
    " FROM (SELECT accepted_at, lag(accepted_at) OVER (ORDER BY id) AS before FROM rows)"
)
T = TypeVar("T")


@dataclass(slots=True)
class Row:
    """A request that waits.

    Attributes:
        row_id: its place in its file.
        request_id: the id under which it is stored, or the delete's own.
        user_id: whose interactions these are; empty when a delete does not say.
        payload: the serialized PublishInteractionStreamRequest, or the request of the method's RPC.
        method: the client's method that took it.
        attempts: how often it failed on its own.
        accepted_at: when that was, in Unix microseconds.
        home: the file it is in.
        fault: what is wrong with it, so that it cannot be sent; empty when nothing is.
    """

    row_id: int
    request_id: str
    user_id: str
    payload: bytes = field(repr=False)
    method: str
    attempts: int
    accepted_at: int
    home: "ReadableFile" = field(repr=False)
    fault: str = ""

    @property
    def is_delete(self) -> bool:
        return self.method != PUBLISH


class Moments(NamedTuple):
    """When the requests of a file were accepted, in Unix microseconds.

    Attributes:
        oldest: the first of them.
        newest: the last of them; 0 when there is none.
        ahead: they tell nothing: some are yet to come, or the clock went back in between.
    """

    oldest: int = 0
    newest: int = 0
    ahead: bool = False


class ReadableFile:
    """The requests in a file. Reading never raises: what is wrong with the file is kept, and what can be read is given.

    Attributes:
        path: of the database; None: it is in memory only.
        damage: what is wrong with the file itself; empty when nothing is known to be. It is never removed then.
        told: the damage was told.
        trouble: why nothing can be read just now; empty after `look_again`.
        moments: when its requests were accepted, as of its adoption.
        closed: there is nothing to read any more.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path | None) -> None:
        self.path = path
        self.damage = ""
        self.told = False
        self.trouble = ""
        self.moments = Moments()
        self.closed = False
        self._connection = connection
        self._settled: set[int] = set()  # over for this process, though the disk would not let them go
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
                        if found[0] not in skip and found[0] not in self._settled:
                            yield _read_row(found, self)
                        last = found[0]
                return
            except FAULTS as error:
                self._note(error)
        for row_id, deletes in list(self._readable.items()):
            if row_id <= last or row_id in skip or row_id in self._settled or (query is _READ_DELETES and not deletes):
                continue
            if (row := self.row(row_id)) is not None:
                yield row

    def row(self, row_id: int) -> Row | None:
        if self.closed or self.trouble:
            return None
        try:
            found = self._connection.execute(_READ_ONE, (row_id,)).fetchone()
        except FAULTS as error:
            self._note(error)
            self._readable.pop(row_id, None)
            return None
        return None if found is None else _read_row(found, self)

    def users(self) -> Counter[str]:
        def read() -> Counter[str]:
            users: Counter[str] = Counter()
            for user_id, number in self._connection.execute("SELECT user_id, count(*) FROM rows GROUP BY user_id"):
                users[as_text(user_id)] += number
            users.subtract(row.user_id for row in map(self.row, self._settled) if row is not None)
            return +users

        return self._read(read, lambda: Counter(row.user_id for row in self.rows()), Counter())

    def size(self) -> int:
        def read() -> int:
            gone = sum(len(row.payload) for row in map(self.row, self._settled) if row is not None)
            return self._number("SELECT coalesce(sum(length(payload)), 0) FROM rows") - gone

        return self._read(read, lambda: sum(len(row.payload) for row in self.rows()), 0)

    def dead_count(self) -> int:
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


def _read_row(found: tuple[Any, ...], home: "ReadableFile") -> Row:
    """The row of what _READ gives; its `fault` says which columns hold what they cannot hold."""
    row_id, request_id, user_id, payload, method, attempts, accepted_at = found
    if all(map(isinstance, found, _KINDS)):
        return Row(row_id, request_id, user_id, payload, method, attempts, as_moment(accepted_at), home)
    wrong = [
        name for (name, kind), value in zip(_COLUMNS.items(), found[1:], strict=True) if not isinstance(value, kind)
    ]
    return Row(
        row_id,
        as_text(request_id),
        as_text(user_id),
        payload if isinstance(payload, bytes) else as_text(payload).encode(),
        as_text(method),
        attempts if isinstance(attempts, int) else 0,
        as_moment(accepted_at),
        home,
        f"its {' and '.join(wrong)} cannot be what was accepted",
    )


def as_text(value: object) -> str:
    """Whatever a column of text holds."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def as_moment(value: object) -> int:
    """Whatever a column of Unix microseconds holds."""
    return min(max(value, 0), _LATEST) if isinstance(value, int) else 0
