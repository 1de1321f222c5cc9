"""The one thread that empties a spool."""

import logging
import time
from collections.abc import Callable
from typing import Any

from reflexio.channel import Endpoint
from reflexio.errors import ClosedError, ReflexioError
from reflexio.outcomes import ClientStats, Delivery
from reflexio.receipt import Receipt
from reflexio.spool import at_exit, fork
from reflexio.spool.database import PUBLISH
from reflexio.spool.dispatch import Dispatcher
from reflexio.spool.folder import SpoolSettings
from reflexio.spool.outbox import Spool
from reflexio.spool.reading import Row
from reflexio.supervised import Supervised, say
from reflexio.terminal import complain

MAX_BATCH_BYTES = 4 * 1024 * 1024
_LINGER_SECONDS = 0.02
_CLOSING_SECONDS = 0.5  # while closing there is little time: look more often
_ADOPTION_SECONDS = 15.0  # between two looks for the spools of ended processes
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0  # seconds, after something that nothing here foresees
_log = logging.getLogger("reflexio")


class Sender:
    """Delivers the spool of one account at one server.

    The thread starts with the first request, or when there is something to adopt, and again should it be gone. One
    lock, `spool.changed`, guards the state. While it is held nothing is logged, called back or written to stderr.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        api_key: str,
        settings: SpoolSettings,
        on_delivery: Callable[[Delivery], None] | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self._on_delivery = on_delivery
        self._closed = False  # nothing more is taken
        self._retired = False  # nobody can give anything any more; end when the spool is empty
        self._stopped = False  # end now
        self._ending = False  # the interpreter exits; who publishes even now publishes for the next start
        self._start_anew(api_key)
        fork.restart_after_fork(self)
        fork.rest_while_forking(self)
        at_exit.close_at_exit(self)

    def _start_anew(self, api_key: str) -> None:
        self.spool = Spool(self._settings)
        self._dispatcher = Dispatcher(self._endpoint, api_key, self.spool, self._on_delivery)
        self._thread: Supervised | None = None
        self._starting = False
        self._next_adoption = 0.0

    def interrupt(self) -> None:
        """End the call in progress; its batch is sent again, over another channel."""
        self._dispatcher.interrupt()

    @property
    def at_rest(self) -> fork.Lock:
        """No thread may be inside SQLite while the process is copied: its locks would stay held in the child."""
        return self.spool.changed

    def _after_fork(self) -> None:
        """What is pending belongs to the parent; the child begins with nothing."""
        self.spool.abandon()
        self._dispatcher.abandon()
        fork.abandon((self._thread, self.spool))
        self._start_anew(self._dispatcher.api_key)

    def append(self, receipt: Receipt[Any], user_id: str, payload: bytes, method: str = PUBLISH) -> None:
        """Append a request of one of the client's methods; raises QueueFullError, SpoolError or ClosedError."""
        farewell = ""
        try:
            with self.spool.changed:
                if self._closed and not self._ending:
                    raise ClosedError("the client is closed")
                if self._ending and self.spool.durable and not self.spool.pending():
                    farewell = self._farewell(1, "", "", durable=True)
                receipt._hurry = self.hurry
                row_id = self.spool.append(receipt.request_id, user_id, payload, method)
                self._dispatcher.receipts[row_id] = receipt
                self.start()
        finally:
            self.spool.say()
        if farewell:
            say(complain, farewell)

    def hurry(self) -> None:
        """Send now what there is: somebody waits for it. Raises ReflexioError on the thread that delivers."""
        self.check_elsewhere()
        self.spool.hurry()

    def is_here(self) -> bool:
        """The caller runs on the thread that delivers, as on_delivery does: waiting would wait for itself."""
        return self._thread is not None and self._thread.is_this()

    def check_elsewhere(self) -> None:
        """Raise ReflexioError on the thread that delivers."""
        if self.is_here():
            raise ReflexioError(
                "on_delivery cannot wait for a delivery: it runs on the thread that delivers, and would wait for "
                "itself. Publish without waiting, or leave the waiting to another thread"
            )

    def adopt(self) -> int:
        """Take over what ended processes have left, and begin to deliver it; returns how many requests came in."""
        number = 0 if self._closed else self.spool.adopt()
        with self.spool.changed:
            if self.spool.pending():
                self.start()
        return number

    def start(self) -> None:
        with self.spool.changed:
            if self._closed or self._starting:  # a signal handler while the thread is being made publishes for that
                return
            self._starting = True
            try:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = Supervised(
                        "reflexio-sender", self._run, _log, first_pause=_FIRST_PAUSE, longest_pause=_LONGEST_PAUSE
                    )
                    self._thread.start()
                    at_exit.also_with_multiprocessing()
            except RuntimeError:  # no thread starts at interpreter shutdown; the spool outlives it
                self._thread = None
            finally:
                self._starting = False

    def set_key(self, api_key: str) -> None:
        """Another key of the same account; ends the pause that a refused key caused."""
        with self.spool.changed:
            self._dispatcher.api_key = api_key
            self.spool.stalled = False

    def stats(self) -> ClientStats:
        with self.spool.changed:
            failure = f"the thread that delivers failed: {said}" if (said := self._thread_failure()) else ""
            return ClientStats(
                pending=self.spool.pending(),
                pending_bytes=self.spool.bytes,
                delivered=self._dispatcher.delivered,
                rejected=self.spool.rejected,
                rejections=list(self.spool.rejections),
                last_error=(
                    failure or self._dispatcher.last_error or self.spool.complaint or self._dispatcher.callback_error
                ),
                adopted=self.spool.adopted,
                dead=self.spool.dead,
                spool_path=self.spool.path,
                durable=self.spool.durable,
            )

    def retire(self) -> None:
        """The client is gone: deliver what is there and end."""
        with self.spool.changed:
            self._closed = self._retired = True
            self.spool.changed.notify_all()

    def close(self, timeout: float, *, ending: bool = False) -> None:
        """Take no more, wait for delivery at most `timeout` seconds, stop, and say what is left.

        In on_delivery there is nothing to wait for: it runs on the thread that delivers.
        """
        if self._stopped:
            return
        ending = ending and not self._closed
        try:
            self.shut()
            if not self.is_here():
                self.spool.wait_for_user(None, timeout)
        finally:
            self.stop()
            self._ending = ending

    def shut(self) -> None:
        with self.spool.changed:
            self._closed = True
            self.spool.hasten()
            self.spool.changed.notify_all()

    def stop(self) -> None:
        """End the thread and any call; what is left is reported on stderr and by the receipts."""
        with self.spool.changed:
            if self._stopped:
                return
            self._closed = self._stopped = True
            thread = self._thread
            self.spool.stalled = True  # nothing will leave any more
        if thread is not None:
            thread.end(0)  # first, so that a call that ends with its channel is no failure
        self._dispatcher.stop()
        if thread is not None:
            thread.end(1.0)
        with self.spool.changed:
            path, pending, durable = self.spool.path, self.spool.pending(), self.spool.durable
            left = max(pending, self.spool.close())
            receipts = list(self._dispatcher.receipts.values())
            self._dispatcher.receipts.clear()
            error = self._dispatcher.last_error
        cause = f" The last attempt failed: {error.rstrip('.')}." if error else ""
        kept = f" It is kept in {path} and delivered by the next start." if path else ""
        for receipt in receipts:
            receipt._fail(ClosedError(f"the client was closed before {receipt.request_id} was delivered.{kept}{cause}"))
        self.spool.say()
        if left:
            say(complain, self._farewell(left, path, cause, durable=durable))

    def _thread_failure(self) -> str:
        return self._thread.last_failure if self._thread is not None else ""

    def _farewell(self, left: int, path: str, cause: str, *, durable: bool) -> str:
        where = (
            f" They are kept in {path or self._settings.folder}: the next client of this account and address delivers"
            " them, or `python -m reflexio.spool flush`."
            if durable
            else " They are lost: there was no disk to keep them on."
        )
        return f"{left:,} requests were not delivered to {self._endpoint.url}.{cause}{where}"

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            wait = self._dispatcher.deliver(batch) if batch else 0.0
            self.spool.tidy(idle=False)
            if self._thread is not None:
                self._thread.well()
            self._sleep(wait)
        self.interrupt()
        if not self._stopped:  # else whoever stopped it closes, and says what is left
            self.spool.close()

    def _next_batch(self) -> list[Row] | None:
        """Wait for rows that can be sent; None means the end, none that it is time to look around."""

        def ready() -> bool:
            pending = self.spool.pending() > 0
            may_go = pending and not self.spool.stalled and time.monotonic() >= self.spool.resting_until
            return self._stopped or may_go or (self._retired and not pending)

        self._look_around()
        with self.spool.changed:
            if self._dispatcher.lingering and self.spool.pending() < self._dispatcher.limit:
                self.spool.changed.wait_for(lambda: self.spool.hurried or self._closed, _LINGER_SECONDS)
            self._dispatcher.lingering = False
            if not ready():
                self.spool.tidy(idle=True)
                self.spool.wakes = True
                until = time.monotonic() + _CLOSING_SECONDS if self._closed else self._next_adoption
                if self.spool.pending() and not self.spool.stalled:
                    until = min(until, self.spool.resting_until)
                self.spool.changed.wait_for(ready, max(0.0, until - time.monotonic()))
                self.spool.wakes = False
            self.spool.hurried = False
            if self._stopped or (self._retired and not self.spool.pending()):
                return None
            batch = [] if self.spool.stalled else self.spool.take(self._dispatcher.limit, MAX_BATCH_BYTES)
        self.spool.say()
        if not batch:
            if self.spool.lost:
                self._dispatcher.give_up_lost()
        elif batch[0].is_delete and not self._closed and self.spool.read_before(batch[0]):
            return []
        return batch

    def _look_around(self) -> None:
        """Look for what ended processes left: now and then, and when there was more than could be taken over."""
        if self._closed:
            return
        idle = not self.spool.pending()
        if time.monotonic() >= self._next_adoption or (idle and self.spool.unread):
            self._next_adoption = time.monotonic() + _ADOPTION_SECONDS
            self.spool.adopt()
        elif idle:
            self.spool.let_go()

    def _sleep(self, seconds: float) -> None:
        with self.spool.changed:
            if not self._closed:
                self.spool.changed.wait_for(lambda: self._closed, seconds)
            elif not self._stopped:
                self.spool.changed.wait_for(lambda: self._stopped, min(seconds, _CLOSING_SECONDS))
