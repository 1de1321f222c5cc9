"""Users' vectors in memory, for searches that compare all of them; the least recently searched users' go first."""

import threading
from dataclasses import dataclass, field

import numpy as np
from cachetools import LRUCache
from sqlalchemy import Connection

from reflexio_server.storage import vectors
from reflexio_server.storage.vectors import Matrix, Vectors

_ENTRY_BYTES = 1000  # what an entry takes beside its arrays, about


@dataclass(eq=False)
class _Entry:
    """A user's vectors in the order of their stamps; `buffer` holds them, and has room for some more.

    `erasures`: how often vectors of the user had been deleted.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    held: Vectors | None = None
    buffer: Matrix | None = None
    erasures: int = 0

    def size(self) -> int:
        if self.held is None or self.buffer is None:
            return _ENTRY_BYTES
        return _ENTRY_BYTES + self.buffer.nbytes + 3 * self.held.refs.nbytes  # stamps, refs and threads

    def append(self, held: Vectors, new: Vectors) -> Vectors:
        """Those held and newer ones. What earlier searches still look at is not touched."""
        count, total = len(held.refs), len(held.refs) + len(new.refs)
        if not count or self.buffer is None:
            self.buffer = new.matrix
            return new
        if total > len(self.buffer):
            larger = np.empty((total + total // 8 + 8, held.matrix.shape[1]), dtype=np.float32)
            larger[:count] = held.matrix
            self.buffer = larger
        self.buffer[count:total] = new.matrix
        return Vectors(
            np.append(held.stamps, new.stamps),
            np.append(held.refs, new.refs),
            np.broadcast_to(held.users[0], total),
            np.append(held.threads, new.threads),
            self.buffer[:total],
        )


class VectorCache:
    """Holds at most `max_bytes` of vectors. Any number of threads may use it at once.

    SQL stays the truth: each search says in its own snapshot how far the user's vectors go, gets exactly those, and
    what is newer than the entry is read and appended. When some were deleted since, all are read again.

    Attributes:
        hits: searches that found their user's vectors here.
        misses: searches that had to read them from the database.
    """

    def __init__(self, max_bytes: int) -> None:
        self.hits = self.misses = 0
        self._entries: LRUCache[tuple[int, int], _Entry] = LRUCache(max_bytes, getsizeof=_Entry.size)
        self._lock = threading.Lock()

    @property
    def bytes_held(self) -> int:
        return int(self._entries.currsize)

    def of_user(self, conn: Connection, user_ref: int, model: int, most: int) -> Vectors | None:
        """All vectors of a user in the snapshot `conn`; None when there are more than `most`."""
        key = (user_ref, model)
        with self._lock:
            entry = self._entries.get(key) or _Entry()
            self._keep(key, entry)
        with entry.lock:  # whoever searches the same user meanwhile waits, rather than reading it all too
            newest, erasures = vectors.state_of_user(conn, user_ref, model)
            if entry.held is not None and erasures < entry.erasures:  # a search of a later snapshot was here before
                return _read(conn, user_ref, model, most)
            held = entry.held if erasures == entry.erasures else None
            found = held is not None
            if held is None:
                entry.held, entry.buffer = None, None
                held = _read(conn, user_ref, model, most)
                if held is None:
                    return None
                entry.buffer, entry.erasures = held.matrix, erasures
            elif newest > _newest(held):
                held = entry.append(held, vectors.of_user(conn, user_ref, model, after=_newest(held)))
            entry.held = held
        with self._lock:
            self.hits, self.misses = self.hits + found, self.misses + (not found)
            self._keep(key, entry)
        if newest < _newest(held):  # another search, of a later snapshot, was here before
            held = held.up_to(newest)
        return held if len(held.refs) <= most else None

    def drop_erased(self, conn: Connection) -> None:
        """Let go of what is held of users who are gone, or of whom something was erased since."""
        with self._lock:
            held = {key: entry.erasures for key, entry in self._entries.items()}
        erasures = vectors.erasures(conn, sorted({user_ref for user_ref, _ in held}))
        with self._lock:
            for (user_ref, model), count in held.items():
                if erasures.get(user_ref) != count:
                    self._entries.pop((user_ref, model), None)

    def _keep(self, key: tuple[int, int], entry: _Entry) -> None:
        """Make the entry the latest used one, and count it with the size it has now."""
        try:
            self._entries[key] = entry
        except ValueError:  # it alone is larger than all that may be held
            self._entries.pop(key, None)


def _read(conn: Connection, user_ref: int, model: int, most: int) -> Vectors | None:
    if vectors.count_of_user(conn, user_ref, model, most + 1) > most:
        return None
    return vectors.of_user(conn, user_ref, model)


def _newest(held: Vectors) -> int:
    return int(held.stamps[-1]) if len(held.stamps) else 0
