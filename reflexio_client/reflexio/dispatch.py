"""One attempt after the other to deliver rows of a spool, and what becomes of each row."""

import logging
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

import grpc

from reflexio import deletes, fork, wire
from reflexio.channel import Endpoint, open_channel
from reflexio.errors import AuthenticationError, NotFoundError, ReflexioError, SpoolError
from reflexio.outcomes import Delivery, PublishUserInteractionResponse, Rejection
from reflexio.receipt import Receipt
from reflexio.retry import ATTEMPTS_OF_ONE, Backoff, plan_after
from reflexio.spool import Row, Spool
from reflexio.status import error_from_rejection
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio.verdict import read_verdict

MAX_BATCH = 200
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
        self.backoff = Backoff()
        self._endpoint = endpoint
        self._spool = spool
        self._on_delivery = on_delivery
        self._channel: grpc.Channel | None = None
        self._stopped = False

    def deliver(self, batch: Sequence[Row]) -> float:
        """One attempt with publishes or one delete; returns how many seconds to wait before the next."""
        try:
            return self._attempt(batch)
        except SpoolError as error:
            self._note(error, "a delete was sent, but does not leave the disk; it is sent again before anything else")
            return self.backoff.next()

    def _attempt(self, batch: Sequence[Row]) -> float:
        key = self.api_key
        try:
            if batch[0].is_delete:
                return self._settle_delete(batch[0], self._send_delete(batch[0], key))
            return self._settle(batch, self._send(batch, key))
        except SpoolError:
            raise
        except AuthenticationError as error:
            self._note(error, "the API key was refused; requests wait until the client gets another")
            with self._spool.changed:
                self._spool.stalled = key == self.api_key
            return 0.0
        except ReflexioError as error:
            return self._after_failure(batch, error)

    def interrupt(self) -> None:
        """End the call in progress; its batch is sent again, over another channel."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def stop(self) -> None:
        """End the call in progress, and make no other."""
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
            return wire.send_publishes(self._open(), self._endpoint, [row.payload for row in batch], key)

    def _settle(self, batch: Sequence[Row], answer: pb.PublishInteractionStreamResponse) -> float:
        verdict = read_verdict(answer, len(batch))
        settled = bool(verdict.stored or verdict.refused)
        stored = [batch[index] for index in verdict.stored]
        if stored:
            self._note_success(len(stored))
        self._spool.delete(stored)
        for row in stored:
            self._tell(row, None)
            if (receipt := self._take_receipt(row)) is not None:
                receipt.resolve(PublishUserInteractionResponse(True, "stored", row.request_id))
        for index, rejection in verdict.refused.items():
            self._park(batch[index], rejection, error_from_rejection(rejection))
        for index, rejection in verdict.failed.items():
            self._retry_single(batch[index], error_from_rejection(rejection))
        if not settled:
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
            self._spool.remove(row)
            self._note_success(1)
            if (receipt := self._take_receipt(row)) is not None:
                if missing is not None:
                    receipt.fail(missing)
                else:
                    receipt.resolve(deletes.response(answer))
        self._tell(row, missing)
        self.backoff.reset()
        return 0.0

    def _note_success(self, number: int) -> None:
        self.delivered += number
        if self.last_error:
            _log.info("delivering to %s again", self._endpoint.url)
        self.last_error = ""

    def _after_failure(self, batch: Sequence[Row], error: ReflexioError) -> float:
        self._note(error, f"requests wait, trying {self._endpoint.url} again")
        wait = self.backoff.next(error.retry_after)
        plan = plan_after(error, delete=batch[0].is_delete)
        if plan.split and len(batch) > 1:
            self.limit = len(batch) // 2
            return min(wait, 0.5)
        if plan.attempts is not None:
            self._retry_single(batch[0], error, plan.attempts)
        return wait

    def _retry_single(self, row: Row, error: ReflexioError, attempts: int = ATTEMPTS_OF_ONE) -> None:
        """Let the others go first where that may be; after so many attempts give it up."""
        if self._spool.postpone(row) >= attempts:
            self._park(row, Rejection(None, row.request_id, error.reason or error.code, "", str(error)), error)

    def _park(self, row: Row, rejection: Rejection, error: ReflexioError) -> None:
        _log.warning("%s was refused: %s: %s", row.request_id, rejection.reason, rejection.message)
        with self._spool.changed:
            self._spool.park(row, rejection)
            if (receipt := self._take_receipt(row)) is not None:
                receipt.fail(error)
        self._tell(row, error)

    def _take_receipt(self, row: Row) -> Receipt[Any] | None:
        with self._spool.changed:
            return self.receipts.pop(row.row_id, None) if self._spool.owns(row) else None

    def _tell(self, row: Row, error: ReflexioError | None) -> None:
        if self._on_delivery is None:
            return
        try:
            self._on_delivery(Delivery(row.request_id, row.user_id, error, not self._spool.owns(row), row.method))
        except Exception:  # of theirs; it must not cost a delivery
            _log.exception("on_delivery failed for %s", row.request_id)

    def _note(self, error: ReflexioError, consequence: str) -> None:
        """Log the first failure after a success; `stats()` and `flush()` have the latest."""
        if self._stopped:  # the error is our own cancelling
            return
        if not self.last_error:
            _log.warning("%s (%s)", consequence, error)
        self.last_error = str(error)
