"""How far the index is behind what was published, looked at now and then so that asking costs nothing."""

from reflexio_server.core.leading import Leads
from reflexio_server.core.looking import Looking
from reflexio_server.storage import collections, embedders, waiting
from reflexio_server.storage.database import Database

LOOK_SECONDS = 5.0
_LARGEST_SHARE = 0.05  # of the time that may go into looking


class IndexLag(Looking):
    """Counts on a thread of its own, every LOOK_SECONDS or, where counting takes long, less often.

    Attributes:
        waiting: interactions of all accounts that wait for their vectors, at the last look; None before the first.
        not_in_chroma: vectors that their account's collection is to hold and does not yet, likewise; None as well while
            another process leads, which counts them.
    """

    def __init__(self, database: Database, leading: Leads) -> None:
        self._leading = leading
        self.waiting: int | None = None
        self.not_in_chroma: int | None = None
        self._database = database
        super().__init__("index lag", LOOK_SECONDS, _LARGEST_SHARE)

    def _look(self) -> None:
        with self._database.read() as conn:
            self.waiting = waiting.count(conn)
            if self._leading.term is None:
                self.not_in_chroma = None
                return
            state = embedders.state(conn)
            self.not_in_chroma = (
                sum(collections.count_not_applied(conn, model) for model in state.in_use) if state else 0
            )
