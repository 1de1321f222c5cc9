"""Rows that are being embedded, so that other processes on the same PostgreSQL leave them alone."""

import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

import psycopg

from reflexio_server.errors import DatabaseUnavailable

MOST = 512
"""Claims of a process that others know of: PostgreSQL keeps them in a table of fixed size, 6,400 at its defaults."""

_ABOVE = 0x5265 << 48  # "Re": a key of 64 bits is the database's, and other programs may lock some there
_TAKE = """SELECT k.id FROM unnest(%s::bigint[]) AS k(id) JOIN waiting w ON w.id = k.id
           WHERE pg_try_advisory_lock(%s + k.id)"""
_RELEASE = "SELECT count(pg_advisory_unlock(%s + id)) FROM unnest(%s::bigint[]) AS k(id)"


class Claims:
    """See `store.Claims`. They are locks of a session, which end with it: those of a killed process are free at once.

    No transaction is open meanwhile, which would keep old versions of rows from being tidied up. Two processes may
    claim a row one after the other, when the first one is through: what the second one makes is not stored then.
    """

    def __init__(self, connect: Callable[[], "psycopg.Connection[Any]"]) -> None:
        self._connect = connect
        self._session: psycopg.Connection[Any] | None = None
        self._held: set[int] = set()
        self._locked: set[int] = set()
        self._lock = threading.Lock()

    def take(self, refs: Collection[int]) -> set[int]:
        with self._lock:
            free = sorted(set(refs) - self._held)
            room = max(0, MOST - len(self._locked))
            locked = {ref for (ref,) in self._run(_TAKE, free[:room], _ABOVE)} if free[:room] else set()
            taken = locked.union(free[room:])
            self._locked |= locked
            self._held |= taken
            return taken

    def release(self, refs: Collection[int]) -> None:
        with self._lock:
            self._held.difference_update(refs)
            locked = self._locked.intersection(refs)
            self._locked -= locked
            if locked:
                with suppress(DatabaseUnavailable):  # then they ended with the session
                    self._run(_RELEASE, _ABOVE, list(locked))

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _run(self, statement: str, *values: Any) -> list[Any]:
        try:
            if self._session is None:
                self._session = self._connect()
            return self._session.execute(statement, values).fetchall()
        except psycopg.Error:
            self._drop()
            raise DatabaseUnavailable from None

    def _drop(self) -> None:
        session, self._session = self._session, None
        self._locked.clear()
        if session is not None:
            session.close()
