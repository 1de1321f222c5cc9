"""Being the one process of a store that leads: for as long as a session of its own lives, which has the lock."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from sqlalchemy import Connection, Engine, text

from reflexio_server.errors import DatabaseUnavailable, NotLeader, TooBusy
from reflexio_server.storage.store import Store


class Candidate:
    """A session that may come to lead, and by which whoever leads writes.

    The lock goes with the session, and no other session takes its place here. So who lost it, or has a store that is
    stopped while another process leads, can write nothing any more: what was left of its work fails.

    Attributes:
        is_lost: that the session is, as far as is known.
        on_loss: called when that is found out, by whoever did.
    """

    def __init__(
        self, store: Store, engine: Engine, writing: Callable[[Engine], AbstractContextManager[Connection]]
    ) -> None:
        self.is_lost = False
        self.on_loss: Callable[[], None] = lambda: None
        self._store = store
        self._writing = writing
        self._engine = engine

    def try_to_lead(self) -> bool:
        """Whether it leads from now on; False while another one does.

        Raises DatabaseUnavailable; then, as after a loss, another Candidate is to be tried.
        """
        with self._transaction() as conn:
            return self._store.lead(conn)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """For who leads: one write transaction, on disk when the block ends.

        Raises NotLeader when the session is lost; else what `Database.write` does.
        """
        with self._transaction() as conn:
            yield conn

    def keep(self) -> None:
        """Show that the process lives, which is to be done every few seconds, and see whether the session does."""
        with suppress(DatabaseUnavailable, NotLeader):
            self.prove()

    def prove(self) -> None:
        """See that the session still leads: before what is no write to the database, and would harm another leader.

        Raises NotLeader, or DatabaseUnavailable when that is found out just now.
        """
        with suppress(TooBusy), self._transaction() as conn:  # busy: it is at work
            conn.execute(text("SELECT 1"))

    def close(self) -> None:
        """Let another one lead."""
        self.is_lost = True
        self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._writing(self._engine) as conn:
                yield conn
        except (DatabaseUnavailable, NotLeader):
            self.is_lost = True
            self.on_loss()
            raise
