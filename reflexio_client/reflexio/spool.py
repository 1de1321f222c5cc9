"""The outbox: publish requests that wait for their acknowledgement, in memory and bounded."""

import threading
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass

from reflexio.errors import QueueFullError
from reflexio.outcomes import Rejection

MAX_ITEMS = 10_000
MAX_BYTES = 64 * 1024 * 1024
_KEPT_REJECTIONS = 1_000


@dataclass(slots=True)
class Row:
    """A request in the outbox: `payload` is its serialized PublishInteractionStreamRequest."""

    row_id: int
    request_id: str
    user_id: str
    payload: bytes
    attempts: int = 0


class Watch:
    """Done as soon as what was pending when it was made has left the outbox, or cannot leave."""

    def __init__(self, waiting_for: set[int]) -> None:
        self.waiting_for = waiting_for
        self.done: Future[None] = Future()
        self.done.set_running_or_notify_cancel()  # from here on nobody's cancel() can end it


class Spool:
    """Rows leave by `delete` or `park` only; a full outbox refuses, it never drops."""

    def __init__(self, max_items: int = MAX_ITEMS, max_bytes: int = MAX_BYTES) -> None:
        self.changed = threading.Condition()
        """Notified at every change; holding it makes several calls one."""
        self.bytes = 0
        self.rejected = 0
        self.rejections: deque[Rejection] = deque(maxlen=_KEPT_REJECTIONS)
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._rows: dict[int, Row] = {}
        self._last_id = 0
        self._stalled = False
        self._watches: list[Watch] = []

    def append(self, request_id: str, user_id: str, payload: bytes) -> int:
        """Add a request and return its row id; raises QueueFullError."""
        with self.changed:
            if len(self._rows) >= self._max_items or self.bytes + len(payload) > self._max_bytes:
                raise QueueFullError(
                    f"the outbox is full: {len(self._rows):,} requests and {self.bytes:,} bytes of at most "
                    f"{self._max_items:,} and {self._max_bytes:,}; wait with flush() or use publish_many()"
                )
            self._last_id += 1
            self._rows[self._last_id] = Row(self._last_id, request_id, user_id, payload)
            self.bytes += len(payload)
            self.changed.notify_all()
            return self._last_id

    def take(self, limit: int, max_bytes: int) -> list[Row]:
        """The next rows, at least one if there is one; they stay until they are deleted or parked."""
        batch: list[Row] = []
        size = 0
        with self.changed:
            for row in self._rows.values():
                size += len(row.payload)
                if len(batch) == limit or (batch and size > max_bytes):
                    break
                batch.append(row)
        return batch

    def delete(self, row_ids: Iterable[int]) -> None:
        """Remove acknowledged rows."""
        with self.changed:
            for row_id in row_ids:
                self._remove(row_id)
            self._end_watches()

    def park(self, row_id: int, rejection: Rejection) -> None:
        """Remove a row that the server will not take, and keep the reason."""
        with self.changed:
            self._remove(row_id)
            self.rejected += 1
            self.rejections.append(rejection)
            self._end_watches()

    def postpone(self, row_id: int) -> int:
        """Let a row go behind all others; returns how often that happened to it."""
        with self.changed:
            row = self._rows.pop(row_id)
            row.attempts += 1
            self._rows[row_id] = row
            return row.attempts

    def pending(self, user_id: str | None = None) -> int:
        """How many rows there are, of one user or of all."""
        with self.changed:
            return len(self._ids(user_id))

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
            watch = Watch(self._ids(user_id))
            self._watches.append(watch)
            self._end_watches()
            return watch

    def unwatch(self, watch: Watch) -> int:
        """End a watch; returns how much of what it watched is still pending."""
        with self.changed:
            if watch in self._watches:
                self._watches.remove(watch)
            return len(watch.waiting_for)

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

    def _ids(self, user_id: str | None) -> set[int]:
        return {row_id for row_id, row in self._rows.items() if user_id is None or row.user_id == user_id}

    def _remove(self, row_id: int) -> None:
        self.bytes -= len(self._rows.pop(row_id).payload)
        for watch in self._watches:
            watch.waiting_for.discard(row_id)

    def _end_watches(self) -> None:
        for watch in list(self._watches):
            if self._stalled or not watch.waiting_for:
                self._watches.remove(watch)
                watch.done.set_result(None)
        self.changed.notify_all()
