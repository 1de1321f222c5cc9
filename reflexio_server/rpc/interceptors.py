"""What happens around every call, outermost first: log → errors → auth → limits → decode → the servicer.

An interceptor runs on grpc's one serving thread, so it only wraps: everything here happens in the worker.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from reflexio_server.core.accounts import Accounts
from reflexio_server.errors import DomainError, MalformedMessage, TooBusy, Unauthenticated
from reflexio_server.rpc import calls, errors
from reflexio_server.rpc.around import Around, wrap
from reflexio_server.rpc.calls import OPEN_SERVICES

WITHOUT_KEY = (*OPEN_SERVICES, "/reflexio.v1.AuthService/Login")


class MapErrors(Around):
    """Turns whatever is raised below into a status; grpc itself would send its text to the caller."""

    @contextlib.contextmanager
    def around(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        """End the call with a status if anything is raised."""
        try:
            yield
        except DomainError as error:
            errors.abort(context, error)
        except Exception as error:
            if not context.is_active():
                raise  # the caller has gone: nobody to tell
            errors.abort(context, error)


class Authenticate(Around):
    """Lets only calls with a valid key through, and remembers whose it is."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    @contextlib.contextmanager
    def around(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        """Refuse the call, or remember whose it is."""
        if not method.startswith(WITHOUT_KEY):
            key = _bearer(context)
            calls.set_caller(self._accounts.authenticate(key), lambda: self._accounts.authenticate(key))
        yield


def _bearer(context: grpc.ServicerContext) -> str:
    given = [value for key, value in context.invocation_metadata() if key == "authorization"]
    if len(given) != 1 or not isinstance(given[0], str):
        raise Unauthenticated
    scheme, _, key = given[0].partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated
    return key.strip()


class LimitStreams(Around):
    """Keeps workers back for unary calls: no more than `most` streams are open at once."""

    def __init__(self, most: int) -> None:
        self._free = threading.BoundedSemaphore(most)

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        """Wrap streams only."""
        handler = continuation(details)
        if handler is None or not (handler.request_streaming or handler.response_streaming):
            return handler
        return wrap(handler, lambda context: self.around(details.method, context))

    @contextlib.contextmanager
    def around(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        """Hold one of the places while the stream is open."""
        if not self._free.acquire(blocking=False):
            raise TooBusy("streams")
        try:
            yield
        finally:
            self._free.release()


class Decode(grpc.ServerInterceptor):
    """Parses requests in the worker: grpc would answer broken bytes with INTERNAL, before any handler.

    In a client stream a message that cannot be read becomes a MalformedMessage among the others.
    """

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        """Take the parsing away from grpc and put it around the servicer."""
        handler = continuation(details)
        if handler is None or details.method.startswith(OPEN_SERVICES):
            return handler
        parse = handler.request_deserializer

        def read(raw: bytes) -> Message | MalformedMessage:
            try:
                message: Message = parse(raw)
            except DecodeError:
                return MalformedMessage()
            return message

        def one(raw: bytes) -> Message:
            message = read(raw)
            if isinstance(message, MalformedMessage):
                raise message
            return message

        if handler.request_streaming:
            behaviour = handler.stream_unary
            return handler._replace(
                request_deserializer=None,
                stream_unary=lambda raws, context: behaviour((read(raw) for raw in raws), context),
            )
        if handler.response_streaming:
            behaviour = handler.unary_stream
            return handler._replace(
                request_deserializer=None, unary_stream=lambda raw, context: behaviour(one(raw), context)
            )
        behaviour = handler.unary_unary
        return handler._replace(
            request_deserializer=None, unary_unary=lambda raw, context: behaviour(one(raw), context)
        )
