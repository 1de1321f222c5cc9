"""One attempt after the other to deliver rows of a spool, and what becomes of each row."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakValueDictionary

import grpc
from google.protobuf.message import DecodeError

from reflexio import deletes, wire
from reflexio.channel import Endpoint, open_channel
from reflexio.errors import AuthenticationError, NotFoundError, ReflexioError, SpoolError
from reflexio.outcomes import Delivery, PublishUserInteractionResponse, Rejection
from reflexio.receipt import Receipt
from reflexio.retry import ATTEMPTS_OF_ONE, Backoff, pause_of_one, plan_after
from reflexio.spool import fork
from reflexio.spool.outbox import Spool
from reflexio.spool.reading import Row
from reflexio.status import error_from_rejection
from reflexio.streams import Streams
from reflexio.supervised import described, say
from reflexio.terminal import shown
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio.verdict import read_verdict

MAX_BATCH = 200
_MAX_BYTES = 16 * 1024 * 1024  # of a message, by the contract
_OUTAGE_SECONDS = 30.0  # after a time without any success what was postponed is tried at once
_log = logging.getLogger("reflexio")


class Dispatcher:
    """Carries rows of one spool to the server, for the sender's thread, and settles their receipts.

    Attributes:
        api_key: of the account; changed under `spool.changed`.
        receipts: by the row_id of rows of this process; who keeps none waits for none.
        limit: how many publishes to send at a time.
        lingering: a batch has just gone out: a few more may come to share the next.
        delivered: how many rows the server has acknowledged.
        last_error: why the last attempt failed; empty when it succeeded.
        callback_error: what on_delivery raised last; empty when it returned.

    Nothing is logged or called back while the lock is held: whoever logs may be waiting for it.
    """

    def __init__(
        self, endpoint: Endpoint, api_key: str, spool: Spool, on_delivery: Callable[[Delivery], None] | None
    ) -> None:
        self.api_key = api_key
        self.receipts: WeakValueDictionary[int, Receipt[Any]] = WeakValueDictionary()
        self.limit = MAX_BATCH
        self.lingering = False
        self.delivered = 0
        self.last_error = ""
        self.callback_error = ""
        self.backoff = Backoff()
        self._streams = Streams()
        self._failing_since: float | None = None
        self._ends: list[Delivery] = []  # to be told
        self._endpoint = endpoint
        self._spool = spool
        self._on_delivery = on_delivery
        self._channel: grpc.Channel | None = None
        self._stopped = False

    def deliver(self, batch: Sequence[Row]) -> float:
        """One attempt with publishes or one delete; returns how many seconds to wait before the next."""
        try:
            batch = [row for row in batch if self._is_fit(row)]
            return self._attempt(batch) if batch else 0.0
        except SpoolError as error:
            self._note(error, "a delete does not leave the disk; it is sent again before anything else")
            return self.backoff.next()
        finally:
            self._tell()

    def give_up_lost(self) -> None:
        """Who waits for a request that cannot be read any more waits in vain."""
        with self._spool.changed:
            lost = [row_id for row_id in list(self.receipts) if not self._spool.has(row_id)]
            for receipt in [self.receipts.pop(row_id, None) for row_id in lost]:
                if receipt is not None:
                    receipt._fail(SpoolError(f"{receipt.request_id} was lost: {self._spool.complaint}"))

    def _attempt(self, batch: Sequence[Row]) -> float:
        key = self.api_key
        try:
            if batch[0].is_delete:
                return self._settle_delete(batch[0], self._send_delete(batch[0], key))
            return self._settle(batch, self._send(batch, key))
        except SpoolError:
            raise
        except AuthenticationError as error:
            if not error.reason:  # whoever said that, it was not a Reflexio server
                return self._after_failure(batch, error)
            self._note(error, "the API key was refused; requests wait until the client gets another")
            with self._spool.changed:
                self._spool.stalled = key == self.api_key
            return 0.0
        except ReflexioError as error:
            return self._after_failure(batch, error)

    def _is_fit(self, row: Row) -> bool:
        """It can be sent; what cannot be read, or never can get through, ends here."""
        reason, text = "MALFORMED_MESSAGE", row.fault
        if not text and row.is_delete and row.method not in deletes.RPCS:
            reason, text = "NOT_IMPLEMENTED", f"this version of the package knows no {row.method}"
        if not text and (row.is_delete or not self._spool.owns(row) or row.home.damage):
            try:
                rpc = deletes.RPCS.get(row.method)
                (rpc.request if rpc else pb.PublishInteractionStreamRequest).FromString(row.payload)
            except (DecodeError, ValueError):
                text = "its message cannot be read; the spool file is damaged"
        if not text and len(row.payload) > _MAX_BYTES:
            reason, text = "LIMIT_EXCEEDED", f"its message has {len(row.payload):,} bytes, of at most {_MAX_BYTES:,}"
        if text:
            rejection = Rejection(None, row.request_id, reason, "", text)
            try:
                self._bury(row, rejection, error_from_rejection(rejection))
            except SpoolError:
                if not row.home.damage:
                    raise
                self._skip(row)
        elif row.is_delete and row.home.damage and not self._spool.can_complete(row):
            self._skip(row)
        else:
            return True
        return False

    def _skip(self, row: Row) -> None:
        error = SpoolError(f"{row.request_id} was not sent: it cannot be removed from the damaged {row.home.path}")
        say(_log.warning, "%s", shown(str(error)))
        with self._spool.changed:
            self._spool.skip(row)
            self._end(row, error)

    def interrupt(self) -> None:
        """End the call in progress; its batch is sent again, over another channel."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def stop(self) -> None:
        self._stopped = True
        if self._channel is not None:
            self._channel.close()

    def abandon(self) -> None:
        """In a forked child: leave the channel to the parent."""
        fork.abandon((self._channel, self.receipts))

    def _open(self) -> grpc.Channel:
        if self._channel is None:
            self._channel = open_channel(self._endpoint)
        return self._channel

    def _send(self, batch: Sequence[Row], key: str) -> pb.PublishInteractionStreamResponse:
        with fork.call_in_progress():
            payloads = [row.payload for row in batch]
            return wire.send_publishes(self._open(), self._endpoint, payloads, key, self._streams)

    def _settle(self, batch: Sequence[Row], answer: pb.PublishInteractionStreamResponse) -> float:
        verdict = read_verdict(answer, len(batch))
        stored = [batch[index] for index in verdict.stored]
        if stored:
            self._note_success(len(stored))
        self._spool.acknowledge(stored)
        for row in stored:
            self._end(row, None, PublishUserInteractionResponse(True, "stored", row.request_id))
        for index, rejection in verdict.refused.items():
            self._bury(batch[index], rejection, error_from_rejection(rejection))
        for index, rejection in verdict.failed.items():
            self._postpone(batch[index], error_from_rejection(rejection), ATTEMPTS_OF_ONE)
        if not (verdict.stored or verdict.refused):
            return self.backoff.next()
        self.lingering = True
        self.backoff.reset()
        self.limit = min(MAX_BATCH, self.limit * 2)
        return 0.0

    def _send_delete(self, row: Row, key: str) -> Any:
        """The answer, or the NotFoundError that settles a delete too."""
        with fork.call_in_progress():
            try:
                return wire.send_delete(self._open(), self._endpoint, deletes.RPCS[row.method], row.payload, key)
            except NotFoundError as error:
                if error.reason != "NOT_FOUND":  # whoever said that, it was not a Reflexio server
                    raise
                return error

    def _settle_delete(self, row: Row, answer: Any) -> float:
        missing = answer if isinstance(answer, NotFoundError) else None
        with self._spool.changed:
            self._spool.complete(row)
            self._end(row, missing, None if missing else deletes.response(answer))
        self._note_success(1)
        self.backoff.reset()
        return 0.0

    def _note_success(self, number: int) -> None:
        self.delivered += number
        if self.last_error:
            say(_log.info, "delivering to %s again", self._endpoint.url)
        self.last_error = ""
        if self._failing_since is not None and time.monotonic() - self._failing_since > _OUTAGE_SECONDS:
            self._spool.hasten()
        self._failing_since = None

    def _after_failure(self, batch: Sequence[Row], error: ReflexioError) -> float:
        self._note(error, f"requests wait, trying {self._endpoint.url} again")
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        wait = self.backoff.next(error.retry_after)
        plan = plan_after(error, delete=batch[0].is_delete)
        if plan.split and len(batch) > 1:
            self.limit = len(batch) // 2
            return min(wait, 0.5)
        if plan.split:
            self._postpone(batch[0], error, plan.attempts)
        return wait

    def _postpone(self, row: Row, error: ReflexioError, attempts: int | None) -> None:
        """Let the others go first where that may be; after so many attempts give it up."""
        tried = self._spool.postpone(row, pause_of_one(row.attempts))
        if attempts is not None and tried >= attempts:
            self._bury(row, Rejection(None, row.request_id, error.reason or error.code, "", str(error)), error)

    def _bury(self, row: Row, rejection: Rejection, error: ReflexioError) -> None:
        said = (shown(text) for text in (row.request_id, rejection.reason, rejection.message))
        say(_log.warning, "%s was refused: %s: %s", *said)
        with self._spool.changed:
            self._spool.bury(row, rejection)
            self._end(row, error)

    def _end(self, row: Row, error: ReflexioError | None, outcome: Any = None) -> None:
        """It has left: settle its receipt, and remember to tell."""
        with self._spool.changed:
            own = self._spool.owns(row)
            receipt = self.receipts.pop(row.row_id, None) if own else None
        if self._on_delivery is not None:
            self._ends.append(Delivery(row.request_id, row.user_id, error, not own, row.method))
        if receipt is not None and error is not None:
            receipt._fail(error)
        elif receipt is not None:
            receipt._resolve(outcome)

    def _tell(self) -> None:
        """Call on_delivery, once all of a batch is settled: it may do anything, close the client too."""
        ends, self._ends = self._ends, []
        if (tell := self._on_delivery) is None:
            return
        for delivery in ends:
            try:
                tell(delivery)
                self.callback_error = ""
            except BaseException as error:  # of theirs; it must not cost a delivery
                self.callback_error = f"on_delivery raised {described(error)}"
                with suppress(BaseException):
                    say(_log.exception, "on_delivery failed for %s", shown(delivery.request_id))

    def _note(self, error: ReflexioError, consequence: str) -> None:
        """Log the first failure after a success; `stats()` and `flush()` have the latest."""
        if self._stopped:  # the error is our own cancelling
            return
        if not self.last_error:
            say(_log.warning, "%s (%s)", consequence, shown(str(error)))
        self.last_error = str(error)
