"""Reading the messages of a call in its worker: when they come, how large they are, what they say."""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from reflexio_server.errors import DomainError, InvalidInput, MalformedMessage, Violation
from reflexio_server.rpc import calls
from reflexio_server.rpc.around import Wrapper, calls_back, kind_of, with_behaviour
from reflexio_server.rpc.budget import Messages
from reflexio_server.rpc.calls import HEALTH, PUBLISH, PUBLISH_STREAM, WITHOUT_KEY
from reflexio_server.rpc.strangers import Strangers
from reflexio_server.rpc.watchdog import RECHECK_SECONDS, Watchdog

_PUBLISHING = (PUBLISH, PUBLISH_STREAM)
MOST_BYTES = 1024 * 1024
"""Of a message that publishes nothing; the largest valid one is a tenth of that."""
MOST_FIELDS = 20_000
"""Of a message that publishes: an empty interaction takes 2 bytes on the wire and 130 in memory."""
_FEW_BYTES = 64 * 1024  # as many empty interactions as fit take 4 MiB


class Decode(Wrapper):
    """Parses requests in the worker: grpc would answer broken bytes with INTERNAL, before any handler.

    What it gets as a request is a stream, see `Admit`; of a unary call it reads the first message. In a publish
    stream a message that cannot be read becomes a DomainError among the others.

    Calls that wait for their client are bounded and watched: those with a key by `watchdog`, within what their account
    may take; those without one by `strangers`, health's by `health`.

    Those that publish are bounded by `messages`, over all accounts.
    """

    def __init__(
        self, watchdog: Watchdog, strangers: Strangers, health: Strangers, messages: Messages, most_interactions: int
    ) -> None:
        self._messages = messages
        self._watchdog = watchdog
        self._strangers = strangers
        self._health = health
        self._most_interactions = most_interactions
        self._most_fields = max(MOST_FIELDS, 2 * most_interactions)

    def wrap(self, handler: Any, method: str) -> Any:
        """Take the parsing away from grpc and put it around the servicer."""
        parse, read = handler.request_deserializer, self._one
        if handler.request_streaming:
            read = self._each if handler.response_streaming else self._all  # type: ignore[assignment]
        behaviour = getattr(handler, kind_of(handler))

        def answer(raws: Iterator[bytes], context: grpc.ServicerContext, *send: Any) -> Any:
            return behaviour(read(method, parse, raws, context), context, *send)

        def answers(raws: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[Any]:
            return self._taken(method, behaviour(read(method, parse, raws, context), context), context)

        def publish(raws: Iterator[bytes], context: grpc.ServicerContext) -> Any:
            account_id, seconds = calls.caller().account.account_id, self._watchdog.seconds
            receive = partial(self._first, method, raws, context)
            with self._messages.read(account_id, receive, context.is_active, seconds) as raw:
                message = _valid(self._read(method, parse, raw))
                del raw
                return behaviour(message, context)

        if method == PUBLISH:
            return with_behaviour(handler, publish, request_deserializer=None)
        iterates = handler.response_streaming and not calls_back(handler)
        return with_behaviour(handler, answers if iterates else answer, request_deserializer=None)

    def _one(self, method: str, parse: Any, raws: Iterator[bytes], context: grpc.ServicerContext) -> Message:
        return _valid(self._read(method, parse, self._first(method, raws, context)))

    def _first(self, method: str, raws: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        raw = self._next(method, raws, context)
        if raw is None:
            raise MalformedMessage
        return raw

    def _all(
        self, method: str, parse: Any, raws: Iterator[bytes], _context: grpc.ServicerContext
    ) -> Iterator[Message | DomainError]:
        for raw in raws:
            message = self._read(method, parse, raw)
            del raw  # what waits for the reader is held once
            yield message
            del message

    def _each(self, method: str, parse: Any, raws: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[Message]:
        """The messages of a conversation, which is cancelled when the client says nothing."""
        while (raw := self._next(method, raws, context)) is not None:
            yield _valid(self._read(method, parse, raw))

    def _next(self, method: str, raws: Iterator[bytes], context: grpc.ServicerContext) -> bytes | None:
        watch = self._watch(method)
        watch.begin(context)
        try:
            return next(raws, None)
        finally:
            watch.end(context)

    def _taken(self, method: str, answers: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        """The answers of a stream, which ends when the client does not take them, or its key was revoked."""
        watch, recheck = self._watch(method), calls.current().recheck
        looked = time.monotonic()
        for answer in answers:
            if time.monotonic() - looked > RECHECK_SECONDS:
                recheck()
                looked = time.monotonic()
            if watch is self._watchdog:
                self._watchdog.begin(context, recheck=recheck)
            else:
                watch.begin(context)
            try:
                yield answer
            finally:
                watch.end(context)

    def _watch(self, method: str) -> Watchdog | Strangers:
        if method in HEALTH:
            return self._health
        return self._strangers if method in WITHOUT_KEY else self._watchdog

    def _read(self, method: str, parse: Any, raw: bytes) -> Message | DomainError:
        if method in _PUBLISHING:
            most = self._most_fields
            if len(raw) > _FEW_BYTES and count_fields(raw, most, nested=method == PUBLISH_STREAM) > most:
                text = f"more than {most:,} fields, at most {self._most_interactions:,}: send several requests"
                return InvalidInput([Violation("interactions", text, most + 1, self._most_interactions)])
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
