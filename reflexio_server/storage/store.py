"""What an open database is to the rest, whatever keeps it."""

import threading
from collections.abc import Collection
from typing import Protocol

from sqlalchemy import Connection, Engine


class DatabaseUnusable(Exception):
    """The database is damaged, cannot be opened, is not whole, or was made by a version that it cannot be used with.

    The text says which, and what to do.
    """


class DatabaseInUse(DatabaseUnusable):
    """Another process owns it."""


class Claims(Protocol):
    """Rows that are being embedded: by which threads is told apart, and by which processes on the same database."""

    def take(self, refs: Collection[int]) -> set[int]:
        """Claim those of these interactions that nobody has claimed; some that wait no longer may be left out.

        Raises DatabaseUnavailable.
        """

    def release(self, refs: Collection[int]) -> None:
        """Let go of what was taken; it never raises."""


class OwnClaims:
    """Where one process alone writes."""

    def __init__(self) -> None:
        self._held: set[int] = set()
        self._lock = threading.Lock()

    def take(self, refs: Collection[int]) -> set[int]:
        with self._lock:
            taken = set(refs) - self._held
            self._held |= taken
            return taken

    def release(self, refs: Collection[int]) -> None:
        with self._lock:
            self._held.difference_update(refs)


class Store(Protocol):
    """An open database.

    Attributes:
        name: what people know it by; without secrets.
        mending: what is to be done when it is damaged.
        lanes: how many transactions may write at a time.
        read: connections whose every transaction sees one moment.
        write: connections, as many as `lanes`, each of whose commits is on disk when it returns.
        is_shared: others may use it at the same time, of other versions too.
    """

    name: str
    lanes: int
    mending: str
    read: Engine
    write: Engine
    is_shared: bool

    @property
    def claims(self) -> Claims:
        """What is being embedded."""

    def migrating(self, conn: Connection) -> None:
        """Prepare the transaction that makes or changes the schema: nobody else does that before it ends.

        It may take long, but waits only for some seconds where others use a table.
        """

    def looking(self, conn: Connection) -> None:
        """Wait until nobody changes the schema; nobody does until this transaction ends."""

    def is_used_by_older(self, conn: Connection, schema: str) -> bool:
        """Whether servers use it whose newest schema comes before this one."""

    def own(self, schema: str) -> None:
        """Become its owner, before the schema is looked at, as a version whose newest one is this.

        Raises DatabaseUnusable.
        """

    def begin(self) -> None:
        """Begin to write, once its schema is this version's."""

    def is_owned(self) -> bool | None:
        """Whether some process owns it; None: whoever owns the data directory does."""

    def candidate(self) -> Engine | None:
        """One connection that may come to `lead`: when it is lost no other takes its place, but NotLeader is raised.

        None: whoever owns the data directory leads.
        """

    def lead(self, conn: Connection) -> bool:
        """Let this connection lead until it ends; False while another one does."""

    def committed(self, conn: Connection) -> None:
        """Do what is due after a commit of `write`; it never raises."""

    def interrupt(self, conn: Connection) -> None:
        """From any thread: end the statement that this connection runs."""

    def empty_log(self) -> bool:
        """Let no bytes of what was deleted stay, as far as that can be done; False when it must be tried again."""

    def sizes(self) -> tuple[int, int]:
        """Bytes of the database, and of its log."""

    def close(self) -> None:
        """Close every connection."""
