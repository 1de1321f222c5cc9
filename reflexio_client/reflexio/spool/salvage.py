"""Finding out which rows of a damaged spool file can still be read."""

import sqlite3

FAULTS = (sqlite3.Error, ValueError, TypeError, OverflowError)
"""Whatever reading a damaged file raises."""
_NEAR = 10_000  # ids that are tried one by one behind a damaged place; a page holds some dozens
_FAR = 1_000_000
_FARTHEST = 1 << 40
_MOST = 2_000_000


def readable(connection: sqlite3.Connection) -> list[int]:
    """The ids of the rows that can be found, in their order; the content of one may be damaged all the same."""
    ids: dict[int, None] = {}
    last = 0
    while len(ids) < _MOST:
        try:
            for (row_id,) in connection.execute("SELECT id FROM rows NOT INDEXED WHERE id > ? ORDER BY id", (last,)):
                ids[row_id] = None
                if last < row_id < last + _FAR:  # else it is damaged itself, and the others go on before it
                    last = row_id
                if len(ids) >= _MOST:
                    break
            break
        except FAULTS:
            step = _beyond(connection, last)
        near = range(last + 1, last + min(step or _NEAR, _NEAR) + 1)
        ids.update((row_id, None) for row_id in near if _is_there(connection, row_id))
        if step is None:
            break
        last += step
    return sorted(row_id for row_id in ids if isinstance(row_id, int))


def _beyond(connection: sqlite3.Connection, last: int) -> int | None:
    """How far behind the last id reading works again; None: nowhere, or nothing is there."""
    step = 1
    while step < _FARTHEST:
        try:
            found = connection.execute("SELECT min(id) FROM rows NOT INDEXED WHERE id > ?", (last + step,)).fetchone()
            return step if found[0] is not None else None
        except FAULTS:
            step *= 2
    return None


def _is_there(connection: sqlite3.Connection, row_id: int) -> bool:
    try:
        return connection.execute("SELECT 1 FROM rows NOT INDEXED WHERE id = ?", (row_id,)).fetchone() is not None
    except FAULTS:
        return False
