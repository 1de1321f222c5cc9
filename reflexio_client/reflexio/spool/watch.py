"""Waiting for rows to leave a spool."""

from abc import ABC, abstractmethod

from reflexio.locks import Condition, Outcome
from reflexio.spool.file import SpoolFile
from reflexio.spool.reading import Row

ANYBODY = ""
"""The user_id of a delete that does not say whose: who waits for one user waits for it too."""


class Watch:
    """Done as soon as what was pending when it was made has left the spool, or cannot leave."""

    def __init__(self, user_id: str | None, own: SpoolFile | None, last_id: int, adopted: set[SpoolFile]) -> None:
        self.user_id = user_id
        self.waiting_for = 0
        self.done: Outcome[None] = Outcome()
        self._own = own
        self._last_id = last_id
        self._adopted = adopted

    def covers(self, row: Row) -> bool:
        """The row was there when the watch began, and is one to wait for."""
        if self.user_id is not None and row.user_id not in (self.user_id, ANYBODY):
            return False
        return row.home in self._adopted or (row.home is self._own and row.row_id <= self._last_id)


class Watched(ABC):
    """What leaves it can be waited for."""

    def __init__(self) -> None:
        self.changed = Condition()
        """Notified at every change; holding it makes several calls one. Reentrant, for publishes in signal handlers."""
        self.hurried = False
        """Somebody waits: send now what there is."""
        self._stalled = False
        self._watches: list[Watch] = []

    @abstractmethod
    def pending(self, user_id: str | None = None) -> int:
        """How many rows there are, of one user or of all."""

    @abstractmethod
    def _new_watch(self, user_id: str | None) -> Watch: ...

    @property
    def stalled(self) -> bool:
        """Rows cannot leave until someone acts, so nobody should wait for them."""
        return self._stalled

    @stalled.setter
    def stalled(self, value: bool) -> None:
        with self.changed:
            self._stalled = value
            self._end_watches()

    def watch(self, user_id: str | None) -> Watch:
        """Watch what is pending now, of one user or of all."""
        with self.changed:
            watch = self._new_watch(user_id)
            watch.waiting_for = self.pending(user_id)
            self._watches.append(watch)
            self.hurried = True
            self._end_watches()
            return watch

    def hurry(self) -> None:
        """Send now what there is: somebody waits for it."""
        with self.changed:
            self.hurried = True
            self.changed.notify_all()

    def unwatch(self, watch: Watch) -> int:
        """End a watch; returns how much of what it watched is still pending."""
        with self.changed:
            if watch in self._watches:
                self._watches.remove(watch)
            return watch.waiting_for

    def wait_for_user(self, user_id: str | None, timeout: float) -> int:
        """Wait until what is pending now has left; returns how much of it is still there.

        Args:
            user_id: whose; None: everybody's.
            timeout: seconds; shorter when rows cannot leave.
        """
        watch = self.watch(user_id)
        try:
            watch.done.result(timeout)
        except TimeoutError:
            pass
        finally:
            left = self.unwatch(watch)
        return left

    def _end_watches(self) -> None:
        for watch in list(self._watches):
            if self._stalled or watch.waiting_for <= 0:
                self._watches.remove(watch)
                watch.done.set_result(None)
        self.changed.notify_all()
