"""Tells who leads of what other processes stored and erased: they share nothing but the database."""

import time
from contextlib import suppress

from reflexio_server.core.following import Follower
from reflexio_server.core.looking import Looking
from reflexio_server.core.settling import Settler
from reflexio_server.errors import DomainError
from reflexio_server.storage import full_text, noticing
from reflexio_server.storage.database import Database
from reflexio_server.storage.noticing import Progress
from reflexio_server.storage.writer import Writer

LOOK_SECONDS = 0.25
_LARGEST_SHARE = 0.05  # of the time that may go into looking
_TAKE_UP_SECONDS = 1.0


class Noticing(Looking):
    """Compares how far each account is with the look before.

    What went on before the first look is in the database for the others to find when they start: it is taken before.
    """

    def __init__(self, database: Database, writer: Writer, follower: Follower, settler: Settler) -> None:
        self._database = database
        self._writer = writer
        self._follower = follower
        self._settler = settler
        self._seen: dict[int, Progress] = {}
        self._taken_up = 0.0
        self._is_new = True  # something was stored since the full text was taken up
        super().__init__("noticing", LOOK_SECONDS, _LARGEST_SHARE)

    def start(self) -> None:
        """To be called before the others are started."""
        with self._database.read() as conn:
            self._seen = noticing.progress(conn)
        self.thread.start()

    def _look(self) -> None:
        with self._database.read() as conn:
            found = noticing.progress(conn)
        before, self._seen = self._seen, found
        changed = {number: (before.get(number), one) for number, one in found.items() if before.get(number) != one}
        self._is_new |= bool(changed)
        follow = {
            number
            for number, (old, new) in changed.items()
            if old is None or (old.newest_vector, old.erased) != (new.newest_vector, new.erased)
        }
        if follow:
            self._follower.follow(follow)
        if any(new.erased != (old.erased if old else 0) for old, new in changed.values()):
            self._settler.wake()
        now = time.monotonic()
        if self._is_new and now - self._taken_up >= _TAKE_UP_SECONDS:
            self._taken_up, self._is_new = now, False
            with suppress(DomainError):  # it is later, by who publishes then
                self._writer.submit(full_text.take_up).result()
