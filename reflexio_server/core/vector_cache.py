"""Vectors of users and of small accounts in memory, for searches that compare all of them."""

import threading
from dataclasses import dataclass, field

import numpy as np
from cachetools import LRUCache
from sqlalchemy import Connection

from reflexio_server.storage import vectors
from reflexio_server.storage.facts import ROW
from reflexio_server.storage.standing import Standing
from reflexio_server.storage.vectors import Matrix, Vectors

_ENTRY_BYTES = 1000  # what an entry takes beside its arrays, about
_ROW_BYTES = 2 * ROW.itemsize + 64  # what a vector takes beside itself: its row, and what `Texts` makes of it, about
_Key = tuple[int, int | None, int]
"""The account, the user, None for all of the account, and the model."""


@dataclass(eq=False)
class _Entry:
    """Vectors in the order of their stamps; `buffer` holds them, and has room for some more.

    `erasures`: how often vectors of the user had been deleted.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    held: Vectors | None = None
    buffer: Matrix | None = None
    erasures: int = 0

    def size(self) -> int:
        if self.held is None or self.buffer is None:
            return _ENTRY_BYTES
        return _ENTRY_BYTES + self.buffer.nbytes + _ROW_BYTES * len(self.held)

    def keep(self, held: Vectors, erasures: int) -> None:
        self.held, self.buffer, self.erasures = held, held.matrix, erasures

    def append(self, new: Vectors) -> Vectors:
        """Those held and newer ones. What earlier searches still look at is not touched."""
        held, buffer = self.held, self.buffer
        assert held is not None
        assert buffer is not None
        if not len(held):
            self.keep(new, self.erasures)
            return new
        count, total = len(held), len(held) + len(new)
        if total > len(buffer):
            self.buffer = np.empty((total + total // 8 + 8, held.matrix.shape[1]), dtype=np.float32)
            self.buffer[:count] = held.matrix
            buffer = self.buffer
        buffer[count:total] = new.matrix
        self.held = Vectors(np.append(held.rows, new.rows), buffer[:total])
        return self.held


class VectorCache:
    """Holds at most `max_bytes` of vectors. Any number of threads may use it at once.

    SQL stays the truth: each search says by its own snapshot how far the vectors go, gets exactly those, and what is
    newer than the entry is read and appended. When some were deleted since, all are read again.

    Attributes:
        hits: searches that found the vectors here.
        misses: searches that had to read them from the database.
    """

    def __init__(self, max_bytes: int) -> None:
        self.hits = self.misses = 0
        self._entries: LRUCache[_Key, _Entry] = LRUCache(max_bytes, getsizeof=_Entry.size)
        self._lock = threading.Lock()

    @property
    def bytes_held(self) -> int:
        return int(self._entries.currsize)

    def get(self, conn: Connection, of: Standing, most: int) -> Vectors | None:
        """All vectors of who is searched in the snapshot `conn`; None when there are more than `most`.

        Of an account `of` must count up to more than `most`.
        """
        if of.count > most:
            return None
        key = (of.account_id, of.user_ref, of.model)
        with self._lock:
            entry = self._entries.get(key) or _Entry()
            self._keep(key, entry)
        with entry.lock:  # whoever searches the same meanwhile waits, rather than reading it all too
            held = _brought_up(conn, entry, of)
            found = held is not None
            if held is None:
                held = _read(conn, of, most)
                if held is None:
                    return None
                if entry.held is None or (of.newest >= entry.held.newest and of.erasures >= entry.erasures):
                    entry.keep(held, of.erasures)
        with self._lock:
            self.hits, self.misses = self.hits + found, self.misses + (not found)
            self._keep(key, entry)
        return held if len(held) <= most else None

    def drop_erased(self, conn: Connection) -> None:
        """Let go of what is held of users and accounts of whom something was erased since."""
        with self._lock:
            entries = [(key, entry.held, entry.erasures) for key, entry in self._entries.items()]
        erasures = vectors.erasures(
            conn, sorted({user_ref for (_, user_ref, _), *_ in entries if user_ref is not None})
        )
        for key, held, count in entries:
            account_id, user_ref, model = key
            if user_ref is not None:
                is_right = erasures.get(user_ref) == count
            else:
                is_right = held is None or vectors.count_up_to(conn, account_id, model, held.newest) == len(held)
            if not is_right:
                with self._lock:
                    self._entries.pop(key, None)

    def _keep(self, key: _Key, entry: _Entry) -> None:
        """Make the entry the latest used one, and count it with the size it has now."""
        try:
            self._entries[key] = entry
        except ValueError:  # it alone is larger than all that may be held
            self._entries.pop(key, None)


def _brought_up(conn: Connection, entry: _Entry, of: Standing) -> Vectors | None:
    """What is held, as far as the snapshot goes, with what is newer; None when nothing is held or some was deleted."""
    held = entry.held
    if held is None or of.erasures != entry.erasures:
        return None
    if of.newest > held.newest:
        held = entry.append(_after(conn, of, held.newest))
    elif of.newest < held.newest:  # another search, of a later snapshot, was here before
        held = held.up_to(of.newest)
    return held if of.user_ref is not None or len(held) == of.count else None


def _read(conn: Connection, of: Standing, most: int) -> Vectors | None:
    if of.user_ref is not None and vectors.count_of_user(conn, of.user_ref, of.model, most + 1) > most:
        return None
    return _after(conn, of, 0)


def _after(conn: Connection, of: Standing, stamp: int) -> Vectors:
    if of.user_ref is not None:
        return vectors.of_user(conn, of.user_ref, of.model, stamp)
    return vectors.after(conn, of.account_id, of.model, stamp, of.count)
