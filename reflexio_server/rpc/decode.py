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
from reflexio_server.rpc.calls import HEALTH, PUBLISH, WITHOUT_KEY
from reflexio_server.rpc.publish_messages import Batch, PublishMessages
from reflexio_server.rpc.strangers import Strangers
from reflexio_server.rpc.watchdog import RECHECK_SECONDS, Watchdog

MOST_BYTES = 1024 * 1024
"""Of a message that publishes nothing; the largest valid one is a tenth of that."""


class Decode(Wrapper):
    """Parses requests in the worker: grpc would answer broken bytes with INTERNAL, before any handler.

    What it gets as a request is a stream, see `Admit`; of a unary call it reads the first message. A publish stream
    becomes one of batches of requests, see `PublishMessages`.

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
        self._publishes = PublishMessages(most_interactions)

    def wrap(self, handler: Any, method: str) -> Any:
        """Take the parsing away from grpc and put it around the servicer."""
        parse, read = handler.request_deserializer, self._one
        if handler.request_streaming:
            read = self._each if handler.response_streaming else self._publish_stream  # type: ignore[assignment]
        behaviour = getattr(handler, kind_of(handler))

        def answer(raws: Iterator[bytes], context: grpc.ServicerContext, *send: Any) -> Any:
            return behaviour(read(method, parse, raws, context), context, *send)

        def answers(raws: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[Any]:
            return self._taken(method, behaviour(read(method, parse, raws, context), context), context)

        def publish(raws: Iterator[bytes], context: grpc.ServicerContext) -> Any:
            account_id, seconds = calls.caller().account.account_id, self._watchdog.seconds
            receive = partial(self._first, method, raws, context)
            with self._messages.reading(account_id, receive, context.is_active, seconds) as raw:
                message = _valid(self._publishes.request(raw))
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

    def _publish_stream(
        self, _method: str, _parse: Any, raws: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[Batch]:
        account_id, seconds = calls.caller().account.account_id, self._watchdog.seconds
        for raw in raws:
            with self._messages.handling(account_id, len(raw), context.is_active, seconds):
                batches = self._publishes.of_stream(raw)
                del raw  # what waits for the reader is held once
                yield from batches
                del batches

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
        if len(raw) > MOST_BYTES:
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
