"""Reading the messages of a call in its worker: when they come, how large they are, what they say."""

import time
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from reflexio_server.errors import DomainError, InvalidInput, MalformedMessage, Violation
from reflexio_server.rpc.admission import Watchdog
from reflexio_server.rpc.around import holds_no_worker
from reflexio_server.rpc.calls import OPEN_SERVICES, caller
from reflexio_server.rpc.interceptors import WITHOUT_KEY
from reflexio_server.rpc.limits import ByteRate

_PUBLISH = "/reflexio.v1.InteractionService/Publish"
_STREAM = "/reflexio.v1.InteractionService/PublishInteractionStream"
MOST_BYTES = 1024 * 1024
"""Of a message that publishes nothing; the largest valid one is a tenth of that."""
MOST_FIELDS = 20_000
"""Of a message that publishes: an empty interaction takes 2 bytes on the wire and 130 in memory."""
_FEW_BYTES = 64 * 1024  # as many empty interactions as fit take 4 MiB
_STRANGER_SECONDS = 10.0  # a login or a health check is one packet
_NAP_SECONDS = 0.25


class Decode(grpc.ServerInterceptor):
    """Parses requests in the worker: grpc would answer broken bytes with INTERNAL, before any handler.

    What it gets as a request is a stream, see `Admit`; of a unary call it reads the first message. In a publish
    stream a message that cannot be read becomes a DomainError among the others.
    """

    def __init__(self, watchdog: Watchdog, rate: ByteRate, most_interactions: int) -> None:
        self._watchdog = watchdog
        self._rate = rate
        self._most_interactions = most_interactions
        self._most_fields = max(MOST_FIELDS, 2 * most_interactions)

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        """Take the parsing away from grpc and put it around the servicer."""
        handler = continuation(details)
        if handler is None or holds_no_worker(handler):
            return handler
        method, parse = details.method, handler.request_deserializer
        without = handler._replace(request_deserializer=None)
        if handler.request_streaming:
            if not method.startswith(OPEN_SERVICES):
                behaviour = handler.stream_unary
                return without._replace(
                    stream_unary=lambda raws, context: behaviour(self._all(method, parse, raws, context), context)
                )
            conversation = handler.stream_stream
            return without._replace(
                stream_stream=lambda raws, context: conversation(self._watched(method, parse, raws, context), context)
            )
        if handler.response_streaming:
            answers = handler.unary_stream
            return without._replace(
                unary_stream=lambda raws, context: self._taken(
                    answers(self._one(method, parse, raws, context), context), context
                )
            )
        answer = handler.unary_unary
        return without._replace(
            unary_unary=lambda raws, context: answer(self._one(method, parse, raws, context), context)
        )

    def _one(self, method: str, parse: Any, raws: Iterator[bytes], context: grpc.ServicerContext) -> Message:
        """The message of a unary call."""
        account_id = caller().account.account_id
        self._rate.check(account_id)
        raw = self._next(method, raws, context)
        if raw is None:
            raise MalformedMessage
        self._rate.take(account_id, len(raw))
        return _valid(self._read(method, parse, raw))

    def _all(
        self, method: str, parse: Any, raws: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[Message | DomainError]:
        """The messages of a publish stream; an account over its bytes a second is read more slowly."""
        account_id = caller().account.account_id  # now: it is read in another thread

        def read() -> Iterator[Message | DomainError]:
            for raw in raws:
                self._rate.take(account_id, len(raw))
                message = self._read(method, parse, raw)
                del raw  # what waits for the reader is held once
                yield message
                del message
                while (seconds := self._rate.wait_seconds(account_id)) and context.is_active():
                    time.sleep(min(seconds, _NAP_SECONDS))

        return read()

    def _watched(
        self, method: str, parse: Any, raws: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[Message]:
        """The messages of a conversation, which is cancelled when the client says nothing."""
        while (raw := self._next(method, raws, context)) is not None:
            yield _valid(self._read(method, parse, raw))

    def _next(self, method: str, raws: Iterator[bytes], context: grpc.ServicerContext) -> bytes | None:
        self._watchdog.begin(context, _STRANGER_SECONDS if method.startswith(WITHOUT_KEY) else None)
        try:
            return next(raws, None)
        finally:
            self._watchdog.end(context)

    def _taken(self, answers: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        """The answers of a stream, which is cancelled when the client does not take them."""
        for answer in answers:
            self._watchdog.begin(context)
            try:
                yield answer
            finally:
                self._watchdog.end(context)

    def _read(self, method: str, parse: Any, raw: bytes) -> Message | DomainError:
        if method.startswith(_PUBLISH):
            most = self._most_fields
            if len(raw) > _FEW_BYTES and count_fields(raw, most, nested=method == _STREAM) > most:
                text = f"more than {most:,} fields, at most {self._most_interactions:,}: send several requests"
                return InvalidInput([Violation("interactions", text, most, self._most_interactions)])
        elif len(raw) > MOST_BYTES:
            text = f"{len(raw):,} bytes, at most {MOST_BYTES:,}: ask for less in one call"
            return InvalidInput([Violation("request", text, len(raw), MOST_BYTES)])
        try:
            message: Message = parse(raw)
        except DecodeError:
            return MalformedMessage()
        return message


def _valid(message: Message | DomainError) -> Message:
    if isinstance(message, DomainError):
        raise message
    return message


def count_fields(raw: bytes, most: int, *, nested: bool) -> int:
    """How many fields a message has on the wire, not counting those inside of them; `most` + 1 at most.

    `nested`: it is an envelope, and the fields of its field 1 are counted as well. Broken bytes end the count: the
    parser says what is wrong with them. The encoding: https://protobuf.dev/programming-guides/encoding/
    """
    return _count(raw, 0, len(raw), nested, most)


def _count(raw: bytes, at: int, end: int, nested: bool, most: int) -> int:
    count = 0
    try:
        while at < end and count <= most:
            tag, at = _varint(raw, at)
            count += 1
            match tag & 7:
                case 0:
                    _, at = _varint(raw, at)
                case 1:
                    at += 8
                case 2:
                    length, at = _varint(raw, at)
                    if nested and tag >> 3 == 1:
                        count += _count(raw, at, min(end, at + length), False, most - count)
                    at += length
                case 5:
                    at += 4
    except IndexError:
        pass
    return count


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """The number that begins at `at`, and where it ends. Raises IndexError at the end of the bytes, or of a number."""
    value = raw[at]
    at += 1
    if value < 0x80:
        return value, at
    value &= 0x7F
    for place in range(1, 10):
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at
    raise IndexError
