"""Up to which row no other one can appear any more: numbers are drawn before the commits that show them."""

from sqlalchemy import Connection, func, select

from reflexio_server.storage import dialect
from reflexio_server.storage.tables import interactions


class Horizon:
    """Whoever reads interactions of all accounts by their numbers, and goes on after the last one, misses those of a
    transaction that drew lower numbers and commits later. Up to the horizon there is none."""

    def __init__(self) -> None:
        self._upto = 0
        self._noted: tuple[int, int] | None = None  # a row, and a number above all transactions that had begun by then

    def look(self, conn: Connection) -> int:
        """The number up to which there is nothing to come; it rises with later looks, each in a snapshot of its own."""
        newest = conn.execute(select(func.max(interactions.c.id))).scalar() or 0
        found = dialect.of(conn).under_way(conn)
        if found is None:
            return newest
        oldest, above = found
        if self._noted and oldest >= self._noted[1]:
            self._upto, self._noted = self._noted[0], None
        self._noted = self._noted or (newest, above)
        return self._upto
