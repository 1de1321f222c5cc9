"""The one thread that empties a spool."""

import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from reflexio import at_exit, fork
from reflexio.channel import Endpoint
from reflexio.dispatch import Dispatcher
from reflexio.errors import ClosedError
from reflexio.outcomes import ClientStats, Delivery
from reflexio.receipt import Receipt
from reflexio.spool import PUBLISH, Row, Spool, SpoolSettings

MAX_BATCH_BYTES = 4 * 1024 * 1024
_LINGER_SECONDS = 0.02
_FORK_SECONDS = 10.0  # a fork waits no longer for the spool to be at rest
_ADOPTION_SECONDS = 15.0  # between two looks for the spools of ended processes
_log = logging.getLogger("reflexio")


class Sender:
    """Delivers the spool of one account at one server.

    The thread starts with the first request, or when there is something to adopt. One lock,
    `spool.changed`, guards the state.
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
        self._thread: threading.Thread | None = None
        self._next_adoption = 0.0

    def interrupt(self) -> None:
        """End the call in progress; its batch is sent again, over another channel."""
        self._dispatcher.interrupt()

    def before_fork(self) -> None:
        """No thread may be inside SQLite while the process is copied: its locks would stay held in the child."""
        self._held = self.spool.changed.acquire(timeout=_FORK_SECONDS)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._held:
            self.spool.changed.release()

    def after_fork(self) -> None:
        """What is pending belongs to the parent; the child begins with nothing."""
        self.spool.forget()
        self._dispatcher.abandon()
        fork.abandon((self._thread, self.spool))
        self._start_anew(self._dispatcher.api_key)

    def take(self, receipt: Receipt[Any], user_id: str, payload: bytes, method: str = PUBLISH) -> None:
        """Take a request of one of the client's methods; raises QueueFullError, SpoolError or ClosedError."""
        with self.spool.changed:
            if self._closed and not self._ending:
                raise ClosedError("the client is closed")
            if self._ending and self.spool.durable and not self.spool.pending() and sys.stderr is not None:
                sys.stderr.write(self._farewell(1, "", "", durable=True))
            receipt.hurry = self.spool.hurry
            row_id = self.spool.append(receipt.request_id, user_id, payload, method)
            self._dispatcher.receipts[row_id] = receipt
            if self._thread is None:
                self.start()

    def adopt(self) -> int:
        """Take over what ended processes have left, and begin to deliver it; returns how many requests came in."""
        with self.spool.changed:
            number = 0 if self._closed else self.spool.adopt()
            if self.spool.pending():
                self.start()
            return number

    def start(self) -> None:
        """Begin to deliver."""
        with self.spool.changed:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="reflexio-sender", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # no thread starts at interpreter shutdown; the spool outlives it
                    self._thread = None
                    return
                at_exit.also_with_multiprocessing()

    def set_key(self, api_key: str) -> None:
        """Another key of the same account; ends the pause that a refused key caused."""
        with self.spool.changed:
            self._dispatcher.api_key = api_key
            self.spool.stalled = False

    def stats(self) -> ClientStats:
        """The spool in numbers."""
        with self.spool.changed:
            return ClientStats(
                pending=self.spool.pending(),
                pending_bytes=self.spool.bytes,
                delivered=self._dispatcher.delivered,
                rejected=self.spool.rejected,
                rejections=list(self.spool.rejections),
                last_error=self._dispatcher.last_error,
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
        """Take no more, wait for delivery at most `timeout` seconds, stop, and say what is left."""
        if self._stopped:
            return
        ending = ending and not self._closed
        self.shut()
        self.spool.wait_for_user(None, timeout)
        self.stop()
        self._ending = ending

    def shut(self) -> None:
        """Take no more."""
        with self.spool.changed:
            self._closed = True
            self.spool.changed.notify_all()

    def stop(self) -> None:
        """End the thread and any call; what is left is reported on stderr and by the receipts."""
        with self.spool.changed:
            if self._stopped:
                return
            self._closed = self._stopped = True
            thread = self._thread
            self.spool.stalled = True  # nothing will leave any more
        self._dispatcher.stop()
        if thread is not None:
            thread.join(1.0)
        with self.spool.changed:
            path, pending, durable = self.spool.path, self.spool.pending(), self.spool.durable
            left = max(pending, self.spool.close())
            receipts = list(self._dispatcher.receipts.values())
            self._dispatcher.receipts.clear()
            error = self._dispatcher.last_error
        cause = f" The last attempt failed: {error.rstrip('.')}." if error else ""
        kept = f" It is kept in {path} and delivered by the next start." if path else ""
        for receipt in receipts:
            receipt.fail(ClosedError(f"the client was closed before {receipt.request_id} was delivered.{kept}{cause}"))
        if left and sys.stderr is not None:
            sys.stderr.write(self._farewell(left, path, cause, durable=durable))

    def _farewell(self, left: int, path: str, cause: str, *, durable: bool) -> str:
        where = (
            f" They are kept in {path or self._settings.folder}: the next client of this account and address delivers"
            " them, or `python -m reflexio.spool flush`."
            if durable
            else " They are lost: there was no disk to keep them on."
        )
        return f"reflexio: {left:,} requests were not delivered to {self._endpoint.url}.{cause}{where}\n"

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            try:
                wait = self._dispatcher.deliver(batch) if batch else 0.0
                self.spool.tidy(idle=False)
            except Exception:  # a fault of ours must not end the only thread that delivers
                if not self._stopped:  # else it is the channel, closed under the call
                    _log.exception("delivering requests failed unexpectedly; trying again")
                wait = self._dispatcher.backoff.next()
            self._sleep(wait)
        self.interrupt()
        if not self._stopped:  # else whoever stopped it closes, and says what is left
            self.spool.close()

    def _next_batch(self) -> list[Row] | None:
        """Wait for rows that can be sent; None means the end, none that it is time to look around."""

        def ready() -> bool:
            pending = self.spool.pending() > 0
            return self._stopped or (pending and not self.spool.stalled) or (self._retired and not pending)

        with self.spool.changed:
            done = self.spool.adopted and not self.spool.pending()  # then the files can go, and others may come
            if (done or time.monotonic() >= self._next_adoption) and not self._closed:
                self._next_adoption = time.monotonic() + _ADOPTION_SECONDS
                self.spool.adopt()
            if self._dispatcher.lingering and self.spool.pending() < self._dispatcher.limit:
                self.spool.changed.wait_for(lambda: self.spool.hurried or self._closed, _LINGER_SECONDS)
            self._dispatcher.lingering = False
            if not ready():
                self.spool.tidy(idle=True)
                self.spool.wakes = True
                self.spool.changed.wait_for(ready, max(0.0, self._next_adoption - time.monotonic()))
                self.spool.wakes = False
            self.spool.hurried = False
            if self._stopped or (self._retired and not self.spool.pending()):
                return None
            return [] if self.spool.stalled else self.spool.take(self._dispatcher.limit, MAX_BATCH_BYTES)

    def _sleep(self, seconds: float) -> None:
        with self.spool.changed:
            if not self._closed:
                self.spool.changed.wait_for(lambda: self._closed, seconds)
            elif not self._stopped:  # while closing there is little time: try more often
                self.spool.changed.wait_for(lambda: self._stopped, min(seconds, 0.5))
