"""Lets go of what memory holds of what other processes erased."""

from reflexio_server.core.looking import Looking
from reflexio_server.core.vector_cache import VectorCache
from reflexio_server.storage.database import Database

LOOK_SECONDS = 30.0


class Forgetting(Looking):
    """Compares the users that the vector cache holds with the database, on a thread of its own.

    No search is given what was erased, as each compares too; this is so that no memory holds it for long.
    """

    def __init__(self, database: Database, cache: VectorCache) -> None:
        self._database = database
        self._cache = cache
        super().__init__("forgetting", LOOK_SECONDS)

    def _look(self) -> None:
        with self._database.read() as conn:
            self._cache.drop_erased(conn)
