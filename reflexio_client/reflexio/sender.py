"""The one thread that empties a spool."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

import grpc

from reflexio import at_exit, fork
from reflexio.channel import Endpoint, open_channel
from reflexio.errors import AuthenticationError, ClosedError, ReflexioError
from reflexio.outcomes import ClientStats, Delivery, Rejection
from reflexio.receipt import Receipt
from reflexio.retry import ATTEMPTS_OF_ONE, Backoff, plan_after
from reflexio.spool import Row, Spool, SpoolSettings
from reflexio.status import error_from_rejection
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio.verdict import read_verdict
from reflexio.wire import send

MAX_BATCH = 200
MAX_BATCH_BYTES = 4 * 1024 * 1024
_LINGER_SECONDS = 0.02
_FORK_SECONDS = 10.0  # a fork waits no longer for the spool to be at rest
_ADOPTION_SECONDS = 15.0  # between two looks for the spools of ended processes
_log = logging.getLogger("reflexio")


class Sender:
    """Delivers the spool of one account at one server, and settles the receipts.

    The thread starts with the first publish, or when there is something to adopt. One lock,
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
        self._api_key = api_key
        self._settings = settings
        self._on_delivery = on_delivery
        self._closed = False  # no more publishes
        self._retired = False  # nobody can publish any more; end when the spool is empty
        self._stopped = False  # end now
        self._ending = False  # the interpreter exits; who publishes even now publishes for the next start
        self._channel: grpc.Channel | None = None
        self._start_anew()
        fork.restart_after_fork(self)
        fork.rest_while_forking(self)
        at_exit.close_at_exit(self)

    def _start_anew(self) -> None:
        self.spool = Spool(self._settings)
        self._receipts: WeakValueDictionary[int, Receipt] = WeakValueDictionary()  # who keeps none waits for none
        self._thread: threading.Thread | None = None
        self._limit = MAX_BATCH
        self._backoff = Backoff()
        self._delivered = 0
        self._last_error = ""
        self._next_adoption = 0.0
        self._lingering = False  # a batch has just gone out: a few more may come to share the next

    def interrupt(self) -> None:
        """End the call in progress; its batch is sent again, over another channel."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

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
        fork.abandon((self._channel, self._thread, self.spool, self._receipts))
        self._channel = None
        self._start_anew()

    def publish(self, receipt: Receipt, user_id: str, payload: bytes) -> None:
        """Take a request; raises QueueFullError, SpoolError or ClosedError."""
        with self.spool.changed:
            if self._closed and not self._ending:
                raise ClosedError("the client is closed")
            if self._ending and self.spool.durable and not self.spool.pending() and sys.stderr is not None:
                sys.stderr.write(self._farewell(1, "", "", durable=True))
            receipt.hurry = self.spool.hurry
            self._receipts[self.spool.append(receipt.request_id, user_id, payload)] = receipt
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
            self._api_key = api_key
            self.spool.stalled = False

    def stats(self) -> ClientStats:
        """The spool in numbers."""
        with self.spool.changed:
            return ClientStats(
                pending=self.spool.pending(),
                pending_bytes=self.spool.bytes,
                delivered=self._delivered,
                rejected=self.spool.rejected,
                rejections=list(self.spool.rejections),
                last_error=self._last_error,
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
            channel, thread = self._channel, self._thread
            self.spool.stalled = True  # nothing will leave any more
        if channel is not None:
            channel.close()
        if thread is not None:
            thread.join(1.0)
        with self.spool.changed:
            path, pending, durable = self.spool.path, self.spool.pending(), self.spool.durable
            left = max(pending, self.spool.close())
            receipts = list(self._receipts.values())
            self._receipts.clear()
        cause = f" The last attempt failed: {self._last_error.rstrip('.')}." if self._last_error else ""
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
        return f"reflexio: {left:,} publish requests were not delivered to {self._endpoint.url}.{cause}{where}\n"

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            try:
                wait = self._deliver(batch) if batch else 0.0
                self.spool.tidy(idle=False)
            except Exception:  # a fault of ours must not end the only thread that delivers
                if not self._stopped:  # else it is the channel, closed under the call
                    _log.exception("delivering publish requests failed unexpectedly; trying again")
                wait = self._backoff.next()
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
            if self._lingering and self.spool.pending() < self._limit:
                self.spool.changed.wait_for(lambda: self.spool.hurried or self._closed, _LINGER_SECONDS)
            self._lingering = False
            if not ready():
                self.spool.tidy(idle=True)
                self.spool.wakes = True
                self.spool.changed.wait_for(ready, max(0.0, self._next_adoption - time.monotonic()))
                self.spool.wakes = False
            self.spool.hurried = False
            if self._stopped or (self._retired and not self.spool.pending()):
                return None
            return [] if self.spool.stalled else self.spool.take(self._limit, MAX_BATCH_BYTES)

    def _sleep(self, seconds: float) -> None:
        with self.spool.changed:
            if not self._closed:
                self.spool.changed.wait_for(lambda: self._closed, seconds)
            elif not self._stopped:  # while closing there is little time: try more often
                self.spool.changed.wait_for(lambda: self._stopped, min(seconds, 0.5))

    def _deliver(self, batch: Sequence[Row]) -> float:
        """One attempt; returns how many seconds to wait before the next."""
        key = self._api_key
        try:
            return self._settle(batch, self._send(batch, key))
        except AuthenticationError as error:
            self._note(error, "the API key was refused; publish requests wait until the client gets another")
            with self.spool.changed:
                self.spool.stalled = key == self._api_key
            return 0.0
        except ReflexioError as error:
            return self._after_failure(batch, error)

    def _send(self, batch: Sequence[Row], key: str) -> pb.PublishInteractionStreamResponse:
        with fork.call_in_progress():
            if self._channel is None:
                self._channel = open_channel(self._endpoint)
            return send(self._channel, self._endpoint, [row.payload for row in batch], key)

    def _settle(self, batch: Sequence[Row], answer: pb.PublishInteractionStreamResponse) -> float:
        verdict = read_verdict(answer, len(batch))
        settled = bool(verdict.stored or verdict.refused)
        stored = [batch[index] for index in verdict.stored]
        if stored:
            self._note_success(len(stored))
        self.spool.delete(stored)
        for row in stored:
            self._tell(row, None)
            if (receipt := self._take_receipt(row)) is not None:
                receipt.resolve()
        for index, rejection in verdict.refused.items():
            self._park(batch[index], rejection, error_from_rejection(rejection))
        for index, rejection in verdict.failed.items():
            self._retry_single(batch[index], error_from_rejection(rejection))
        if not settled:
            return self._backoff.next()
        self._lingering = True
        self._backoff.reset()
        self._limit = min(MAX_BATCH, self._limit * 2)
        return 0.0

    def _note_success(self, number: int) -> None:
        self._delivered += number
        if self._last_error:
            _log.info("delivering to %s again", self._endpoint.url)
        self._last_error = ""

    def _after_failure(self, batch: Sequence[Row], error: ReflexioError) -> float:
        self._note(error, f"publish requests wait, trying {self._endpoint.url} again")
        wait = self._backoff.next(error.retry_after)
        plan = plan_after(error)
        if plan.split and len(batch) > 1:
            self._limit = len(batch) // 2
            return min(wait, 0.5)
        if plan.attempts is not None:
            self._retry_single(batch[0], error, plan.attempts)
        return wait

    def _retry_single(self, row: Row, error: ReflexioError, attempts: int = ATTEMPTS_OF_ONE) -> None:
        """Let the others go first; after so many attempts give it up."""
        if self.spool.postpone(row) >= attempts:
            self._park(row, Rejection(None, row.request_id, error.reason or error.code, "", str(error)), error)

    def _park(self, row: Row, rejection: Rejection, error: ReflexioError) -> None:
        _log.warning("publish request %s was refused: %s: %s", row.request_id, rejection.reason, rejection.message)
        self._tell(row, error)
        if (receipt := self._take_receipt(row)) is not None:
            receipt.fail(error)
        self.spool.park(row, rejection)

    def _take_receipt(self, row: Row) -> Receipt | None:
        with self.spool.changed:
            return self._receipts.pop(row.row_id, None) if self.spool.owns(row) else None

    def _tell(self, row: Row, error: ReflexioError | None) -> None:
        if self._on_delivery is None:
            return
        try:
            self._on_delivery(Delivery(row.request_id, row.user_id, error, not self.spool.owns(row)))
        except Exception:  # of theirs; it must not cost a delivery
            _log.exception("on_delivery failed for %s", row.request_id)

    def _note(self, error: ReflexioError, consequence: str) -> None:
        """Log the first failure after a success; `stats()` and `flush()` have the latest."""
        if self._stopped:  # the error is our own cancelling
            return
        if not self._last_error:
            _log.warning("%s (%s)", consequence, error)
        self._last_error = str(error)
