"""A client stream of requests: read ahead within bounds, stored in groups, answered with a verdict."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import grpc

from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.core.publishing import Publisher
from reflexio_server.errors import DomainError, Draining, InvalidInput, RequestErased, RequestIdReused, TooBusy
from reflexio_server.model import ErasedRequestId, NewRequest, ReusedRequestId
from reflexio_server.rpc import convert
from reflexio_server.rpc.errors import reason
from reflexio_server.rpc.validation import Limits, check_publish
from reflexio_server.rpc.watchdog import RECHECK_SECONDS as RECHECK_SECONDS

READ_AHEAD_MESSAGES = 400
READ_AHEAD_BYTES = 1024 * 1024
MOST_LISTED = 1000  # rejections
_LONGEST_MESSAGE = 500  # characters of a rejection's text
_LOOK_SECONDS = 0.25  # how often a waiting stream looks whether the server is shutting down

Message = pb.PublishInteractionStreamRequest | DomainError


class ReadAhead:
    """Reads a stream on a thread of its own, as a handler blocked in next() can neither time out nor answer.

    It stops reading while READ_AHEAD_MESSAGES or READ_AHEAD_BYTES are waiting, so that a client is slowed down and
    memory stays bounded.
    """

    def __init__(self, messages: Iterator[Message]) -> None:
        self._messages = messages
        self._waiting: deque[tuple[Message, int]] = deque()
        self._bytes = 0
        self._ended = False
        self._failure: BaseException | None = None
        self._abandoned = False
        self._changed = threading.Condition()
        threading.Thread(target=self._read, name="stream", daemon=True).start()

    def _read(self) -> None:
        failure: BaseException | None = None
        try:
            for message in self._messages:
                size = _bytes_in_memory(message)
                with self._changed:
                    while not self._has_room():
                        self._changed.wait()
                    if self._abandoned:
                        return
                    self._waiting.append((message, size))
                    self._bytes += size
                    if len(self._waiting) == 1:  # `take` waits for nothing else
                        self._changed.notify()
                del message  # or it would stay until the next one comes
        except BaseException as error:  # the stream broke, or the call was cancelled
            failure = error
        with self._changed:
            self._ended, self._failure = True, failure
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._abandoned or (len(self._waiting) < READ_AHEAD_MESSAGES and self._bytes < READ_AHEAD_BYTES)

    def take(self, timeout: float) -> list[Message] | None:
        """All that is waiting; an empty list after `timeout` seconds without any, None at the stream's end.

        Raises what broke the stream, after everything before it was taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended, timeout)
            if not self._waiting and self._ended:
                if self._failure:
                    raise self._failure
                return None
            taken = [message for message, _ in self._waiting]
            self._waiting.clear()
            self._bytes = 0
            self._changed.notify_all()
            return taken

    def abandon(self) -> None:
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()


def _bytes_in_memory(message: Message) -> int:
    """A parsed message takes what it has on the wire, and more for each interaction, which may be 2 bytes there."""
    return 0 if isinstance(message, DomainError) else message.ByteSize() + 130 * len(message.request.interactions)


def _id_and_size(message: Message) -> tuple[str, int]:
    """The request_id and the number of interactions, as far as they can be read."""
    return (
        ("", 0) if isinstance(message, DomainError) else (message.request.request_id, len(message.request.interactions))
    )


class PublishStream:
    """One stream of one account."""

    def __init__(self, account_id: int, publisher: Publisher, limits: Limits) -> None:
        self._account_id = account_id
        self._publisher = publisher
        self._limits = limits
        self._handled = 0
        self._verdict = pb.PublishInteractionStreamResponse()

    def run(
        self,
        messages: Iterator[Message],
        context: grpc.ServicerContext,
        idle_seconds: float,
        draining: threading.Event,
        recheck: Callable[[], None],
    ) -> pb.PublishInteractionStreamResponse:
        """Store all that comes; the verdict when the client closes, is idle too long, or the server shuts down.

        `recheck` raises Unauthenticated when the caller's key is not valid any more.
        """
        ahead = ReadAhead(messages)
        try:
            last_seen = rechecked = time.monotonic()
            while True:
                taken = ahead.take(_LOOK_SECONDS)
                if time.monotonic() - rechecked > RECHECK_SECONDS:
                    recheck()
                    rechecked = time.monotonic()
                if taken is None:
                    self._verdict.end_reason = pb.END_REASON_COMPLETE
                    break
                if draining.is_set():
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

    def _store(self, messages: list[Message], context: grpc.ServicerContext) -> None:
        """Store one group of messages and add it to the verdict; if this raises, none of it is in the verdict."""
        requests: list[NewRequest] = []
        refused: dict[int, DomainError] = {}
        sizes: list[tuple[str, int]] = []
        for offset, message in enumerate(messages):
            sizes.append(_id_and_size(message))
            try:
                requests.append(self._read(message))
            except DomainError as error:
                refused[offset] = error
        count = len(messages)
        messages.clear()  # the requests are copies: large pictures would be held twice while they are written
        del message
        outcomes = iter(self._publish(requests, context) if requests else [])
        for offset in range(count):
            if offset in refused:
                self._reject(self._handled + offset, refused[offset], *sizes[offset])
                continue
            outcome = next(outcomes)
            if isinstance(outcome, ReusedRequestId):
                self._reject(self._handled + offset, RequestIdReused(outcome.request_id), *sizes[offset])
            elif isinstance(outcome, ErasedRequestId):
                self._reject(self._handled + offset, RequestErased(outcome.request_id), *sizes[offset])
            elif outcome.replayed:
                self._verdict.requests.duplicate += 1
                self._verdict.interactions.duplicate += len(outcome.interaction_ids)
            else:
                self._verdict.requests.stored += 1
                self._verdict.interactions.stored += len(outcome.interaction_ids)
        self._handled += count

    def _read(self, message: Message) -> NewRequest:
        if isinstance(message, DomainError):
            raise message
        check_publish(message.request, self._limits, in_stream=True)
        return convert.new_request(message.request)

    def _publish(self, requests: list[NewRequest], context: grpc.ServicerContext):  # type: ignore[no-untyped-def]
        while True:
            try:
                return self._publisher.publish_all(self._account_id, requests)
            except TooBusy as busy:
                if not context.is_active():
                    raise
                time.sleep(min(busy.retry_after, 0.05))  # the stream is simply not read further

    def _reject(self, index: int, error: DomainError, request_id: str, interactions: int) -> None:
        self._verdict.requests.rejected += 1
        self._verdict.interactions.rejected += interactions
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
            request_id=request_id[: self._limits.request_id],
            reason=reason(error),
            field=field,
            message=text[:_LONGEST_MESSAGE],
        )
