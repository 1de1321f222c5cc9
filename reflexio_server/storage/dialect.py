"""Where SQL databases differ: what each one's modules give, and which are those of a connection."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, ColumnElement, Connection, Integer

from reflexio_server.errors import DomainError, Ended
from reflexio_server.storage import fts5, postgres, sqlite, tsvector
from reflexio_server.storage.matches import Matches
from reflexio_server.storage.prepared import Row
from reflexio_server.storage.sqlite_file import DatabaseFile
from reflexio_server.storage.store import DatabaseUnusable, Store


class Dialect(Protocol):
    """What a database has its own statements for, and what its driver tells. Functions of rows need `conn`.

    The statements themselves are Core, with storage/expressions.py for what Core has no words for.
    """

    def lock_accounts(self, conn: Connection, account_ids: Iterable[int]) -> None:
        """Let no other transaction write rows of these accounts before this one ends; first of all that it does."""

    def next_ids(self, conn: Connection, table: str, count: int) -> Sequence[int]:
        """Numbers for `count` new rows of a table, rising; the caller inserts them in this transaction."""

    def insert_rows(
        self, conn: Connection, table: str, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]
    ) -> None:
        """Insert rows, many at once."""

    def stored_requests(self, conn: Connection, keys: Iterable[tuple[int, str]]) -> list[Row]:
        """Of these (account_id, request_id) those that were stored, by what a replay is told from.

        Their columns: id, account_id, request_id, body_hash, erased_at, published_ids.
        """

    def published_with(self, conn: Connection, refs: Iterable[int]) -> list[Row]:
        """The interactions of stored requests in the order they came: (request_ref, interaction_id, id)."""

    def known_users(self, conn: Connection, keys: Iterable[tuple[int, str]]) -> dict[tuple[int, str], int]:
        """The refs of those of these (account_id, user_id) that are known."""

    def neighbours(self, conn: Connection, refs: Sequence[int]) -> list[tuple[int, list[int], list[int]]]:
        """Of these interactions those in a thread: (id, ids of the two before it, nearest first, of the two after)."""

    def under_way(self, conn: Connection) -> tuple[int, int] | None:
        """The number of the oldest transaction that may still write, and one above all that have begun to.

        Transactions are numbered as they begin to write, and this one is numbered here. None: one writes at a time, so
        that what is there comes before all that follows.
        """

    def database_id(self, conn: Connection) -> str:
        """What tells this database from its copies, as far as that can be told."""

    def is_in_transaction(self, conn: Connection) -> bool:
        """Whether the transaction is still there: on some errors all of it is undone."""

    def as_domain(self, error: BaseException) -> DomainError | Ended | None:
        """What an error means; None when it is none of this database's, or unforeseen."""

    def describe(self, error: BaseException) -> str:
        """What went wrong, and what to do, for whoever runs the server; "" when it is not known."""


class FullText(Protocol):
    """Whose interactions have a word. Words are cut by reflexio_server.words; an index keeps stems of them."""

    def add(self, conn: Connection, rows: Sequence[tuple[int, str, str]]) -> None:
        """Index texts: rows of (ref, owner, words), see `full_text.owner`."""

    def erase(self, conn: Connection, refs: Sequence[int]) -> None:
        """Take interactions out of the index, as long as they are there themselves."""

    def matches(
        self, conn: Connection, account_id: int, user_ref: int | None, words: Mapping[str, str], most: int
    ) -> list[Matches]:
        """The owner's interactions with a word, for each of these; of a word that more have the `most` newest."""

    def with_all(
        self, conn: Connection, account_id: int, user_ref: int | None, words: Collection[str], most: int
    ) -> NDArray[np.int64]:
        """The owner's newest interactions that have all of these words, in rising order."""

    def having(self, conn: Connection, word: str, refs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which of these interactions have the word, in rising order."""

    def pieces(self, conn: Connection) -> int:
        """How many pieces the index is in."""

    def merge(self, conn: Connection, *, first: bool) -> bool:
        """Do a step of making it one piece, of all there are when it is the `first`; False when it is one."""

    def take_up(self, conn: Connection) -> None:
        """Take what is new into the index, where it waits beside it."""

    def drop_first_version(self, conn: Connection, *, first: bool) -> bool:
        """Do a step (see `merge`) of letting go what only rows of older words needed; False when it is gone."""


_DIALECTS: dict[str, Dialect] = {"sqlite": sqlite, "postgresql": postgres}
_FULL_TEXTS: dict[str, FullText] = {"sqlite": fts5, "postgresql": tsvector}

Id = BigInteger().with_variant(Integer, "sqlite")
"""SQLite only counts up by itself on a column that is declared INTEGER."""

NEVER_AGAIN: dict[str, Any] = {"sqlite_autoincrement": True}
"""Options of a table whose numbers are never used again."""


def only_where(condition: ColumnElement[bool]) -> dict[str, Any]:
    """Options of an index that has just the rows that fulfil this."""
    return {"sqlite_where": condition, "postgresql_where": condition}


def of(conn: Connection) -> Dialect:
    return _DIALECTS[conn.dialect.name]


def full_text(conn: Connection) -> FullText:
    return _FULL_TEXTS[conn.dialect.name]


def open_store(
    file: Path, url: str | None, *, owner: bool, alone: bool, readers: int, leader_url: str | None = None
) -> Store:
    """Open the database at this URL, or without one that in the file. Raises DatabaseUnusable."""
    if url is None:
        return DatabaseFile(file, owner=owner, readers=readers)
    try:
        from reflexio_server.storage.postgres_server import DatabaseServer  # an extra installs what it needs
    except ImportError:
        raise DatabaseUnusable(
            "PostgreSQL needs the extra postgres: pip install 'reflexio-grpc[server,postgres]'"
        ) from None
    return DatabaseServer(url, owner=owner, alone=alone, readers=readers, leader_url=leader_url)


def as_domain(error: BaseException) -> DomainError | Ended | None:
    """What an error of a driver means, as Core raises it; None when it is none, or unforeseen."""
    return next((met for one in _DIALECTS.values() if (met := one.as_domain(error))), None)


def describe(error: BaseException) -> str:
    """What went wrong with a database, and what to do, for whoever runs the server; "" when it is not known."""
    return next((text for one in _DIALECTS.values() if (text := one.describe(error))), "")
