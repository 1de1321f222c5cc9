"""A client stream of requests: read ahead within bounds, stored in groups, answered with a verdict."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import grpc

from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.core.publishing import Publisher
from reflexio_server.errors import DomainError, Draining, InvalidInput, RequestErased, RequestIdReused, TooBusy
from reflexio_server.model import NewRequest, Outcome, ReusedRequestId, StoredRequest
from reflexio_server.rpc import convert
from reflexio_server.rpc.errors import reason
from reflexio_server.rpc.publish_messages import MOST_REQUESTS, Batch, Given
from reflexio_server.rpc.validation import Limits, check_publish
from reflexio_server.rpc.watchdog import RECHECK_SECONDS as RECHECK_SECONDS

READ_AHEAD_REQUESTS = 400
READ_AHEAD_BYTES = 1024 * 1024
MOST_LISTED = 1000  # rejections
_LONGEST_MESSAGE = 500  # characters of a rejection's text
_LOOK_SECONDS = 0.25  # how often a waiting stream looks whether the server is shutting down


class ReadAhead:
    """Reads a stream on a thread of its own, as a handler blocked in next() can neither time out nor answer.

    It stops reading while READ_AHEAD_REQUESTS or READ_AHEAD_BYTES are waiting, so that a client is slowed down and
    memory stays bounded.
    """

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self._waiting: list[Given] = []
        self._bytes = 0
        self._ended = False
        self._failure: BaseException | None = None
        self._abandoned = False
        self._changed = threading.Condition()
        threading.Thread(target=self._read, name="stream", daemon=True).start()

    def _read(self) -> None:
        failure: BaseException | None = None
        try:
            for batch in self._batches:
                with self._changed:
                    while not self._has_room():
                        self._changed.wait()
                    if self._abandoned:
                        return
                    if not self._waiting:  # `take` waits for nothing else
                        self._changed.notify()
                    self._waiting += batch.requests
                    self._bytes += batch.size
                del batch  # or it would stay until the next one comes
        except BaseException as error:  # the stream broke, or the call was cancelled
            failure = error
        with self._changed:
            self._ended, self._failure = True, failure
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._abandoned or (len(self._waiting) < READ_AHEAD_REQUESTS and self._bytes < READ_AHEAD_BYTES)

    def take(self, timeout: float) -> list[Given] | None:
        """All that is waiting; an empty list after `timeout` seconds without any, None at the stream's end.

        Raises what broke the stream, after everything before it was taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended, timeout)
            if not self._waiting and self._ended:
                if self._failure:
                    raise self._failure
                return None
            taken, self._waiting = self._waiting, []
            self._bytes = 0
            self._changed.notify_all()
            return taken

    def abandon(self) -> None:
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()


class _Refused(NamedTuple):
    """A request with its request_id and the number of its interactions, as far as they can be read."""

    error: DomainError
    request_id: str
    interactions: int


class PublishStream:
    """One stream of one account."""

    def __init__(self, account_id: int, publisher: Publisher, limits: Limits) -> None:
        self._account_id = account_id
        self._publisher = publisher
        self._limits = limits
        self._handled = 0
        self._verdict = pb.PublishInteractionStreamResponse(requests_per_message=MOST_REQUESTS)

    def run(
        self,
        batches: Iterator[Batch],
        context: grpc.ServicerContext,
        idle_seconds: float,
        longest_seconds: float,
        draining: threading.Event,
        recheck: Callable[[], None],
    ) -> pb.PublishInteractionStreamResponse:
        """Store all that comes; the verdict when the client closes, is idle or open too long, or the server shuts down.

        `recheck` raises Unauthenticated when the caller's key is not valid any more.
        """
        ahead = ReadAhead(batches)
        try:
            began = last_seen = rechecked = time.monotonic()
            while True:
                taken = ahead.take(_LOOK_SECONDS)
                if time.monotonic() - rechecked > RECHECK_SECONDS:
                    recheck()
                    rechecked = time.monotonic()
                if taken is None:
                    self._verdict.end_reason = pb.END_REASON_COMPLETE
                    break
                if draining.is_set() or time.monotonic() - began > longest_seconds:
                    self._verdict.end_reason = pb.END_REASON_DRAINING
                    break
                if taken:
                    self._store(taken, context)
                    del taken  # or it would stay until the next one comes
                    last_seen = time.monotonic()
                elif time.monotonic() - last_seen > idle_seconds:
                    self._verdict.end_reason = pb.END_REASON_IDLE
                    break
        except Draining:
            self._verdict.end_reason = pb.END_REASON_DRAINING
        finally:
            ahead.abandon()
        return self._verdict

    def _store(self, given: list[Given], context: grpc.ServicerContext) -> None:
        """Store one group of requests and add it to the verdict; if this raises, none of it is in the verdict."""
        read = [self._read(one) for one in given]
        given.clear()  # what is read is a copy: large pictures would be held twice while they are written
        requests = [one for one in read if isinstance(one, NewRequest)]
        outcomes = iter(self._publish(requests, context) if requests else [])
        stored: list[int] = []  # how many interactions each has
        duplicate: list[int] = []
        for index, one in enumerate(read, self._handled):
            if isinstance(one, _Refused):
                self._reject(index, one)
                continue
            outcome = next(outcomes)
            if isinstance(outcome, StoredRequest):
                (duplicate if outcome.replayed else stored).append(len(outcome.interaction_ids))
            else:
                kind = RequestIdReused if isinstance(outcome, ReusedRequestId) else RequestErased
                self._reject(index, _Refused(kind(one.request_id), one.request_id, len(one.interactions)))
        requests_of, interactions_of = self._verdict.requests, self._verdict.interactions
        requests_of.stored += len(stored)
        requests_of.duplicate += len(duplicate)
        interactions_of.stored += sum(stored)
        interactions_of.duplicate += sum(duplicate)
        self._handled += len(read)

    def _read(self, given: Given) -> NewRequest | _Refused:
        if isinstance(given, DomainError):
            return _Refused(given, "", 0)
        try:
            check_publish(given, self._limits, in_stream=True)
        except DomainError as error:
            return _Refused(error, given.request_id, len(given.interactions))
        return convert.new_request(given)

    def _publish(self, requests: list[NewRequest], context: grpc.ServicerContext) -> list[Outcome]:
        while True:
            try:
                return self._publisher.publish_all(self._account_id, requests)
            except TooBusy as busy:
                if not context.is_active():
                    raise
                time.sleep(min(busy.retry_after, 0.05))  # the stream is simply not read further

    def _reject(self, index: int, refused: _Refused) -> None:
        error = refused.error
        self._verdict.requests.rejected += 1
        self._verdict.interactions.rejected += refused.interactions
        if len(self._verdict.rejections) == MOST_LISTED:
            return
        field, text = "", str(error) or "the message cannot be read: it is not of this type, or not UTF-8"
        if isinstance(error, InvalidInput):
            field, text = error.violations[0].field, error.violations[0].description
            text += f" (and {error.total - 1} more)" if error.total > 1 else ""
        elif isinstance(error, RequestIdReused):
            field, text = "request_id", "this request_id was used before with another body"
        elif isinstance(error, RequestErased):
            field, text = "request_id", "this request_id belongs to an erased request"
        self._verdict.rejections.add(
            index=index,
            request_id=refused.request_id[: self._limits.request_id],
            reason=reason(error),
            field=field,
            message=text[:_LONGEST_MESSAGE],
        )
