"""Waiting for rows to leave a spool."""

from concurrent.futures import Future

from reflexio.spool.file import Row, SpoolFile

ANYBODY = ""
"""The user_id of a delete that does not say whose: who waits for one user waits for it too."""


class Watch:
    """Done as soon as what was pending when it was made has left the spool, or cannot leave."""

    def __init__(self, user_id: str | None, own: SpoolFile | None, last_id: int, adopted: set[SpoolFile]) -> None:
        self.user_id = user_id
        self.waiting_for = 0
        self.done: Future[None] = Future()
        self.done.set_running_or_notify_cancel()  # from here on nobody's cancel() can end it
        self._own = own
        self._last_id = last_id
        self._adopted = adopted

    def covers(self, row: Row) -> bool:
        """The row was there when the watch began, and is one to wait for."""
        if self.user_id is not None and row.user_id not in (self.user_id, ANYBODY):
            return False
        return row.home in self._adopted or (row.home is self._own and row.row_id <= self._last_id)
