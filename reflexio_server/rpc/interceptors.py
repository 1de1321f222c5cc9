"""What happens around every call, outermost first: log → errors → auth → limits → decode → the servicer.

An interceptor runs on grpc's one serving thread, so it only wraps: everything here happens in the worker.
"""

import contextlib
import logging
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from reflexio_server.core.accounts import Accounts
from reflexio_server.errors import DomainError, MalformedMessage, TooBusy, Unauthenticated
from reflexio_server.model import Account, ApiKey, Caller
from reflexio_server.rpc import errors

logger = logging.getLogger("reflexio_server.calls")

OPEN_SERVICES = ("/grpc.health.v1.", "/grpc.reflection.")
WITHOUT_KEY = (*OPEN_SERVICES, "/reflexio.v1.AuthService/Login")
_CODES = {code.value[0]: code for code in grpc.StatusCode}

# grpc logs a metadata value that is not UTF-8 in full, at ERROR: it may be a key with a damaged character.
logging.getLogger("grpc._cython.cygrpc").addFilter(lambda record: not str(record.msg).startswith("Invalid encoding"))

_NOBODY = Caller(Account(0, "", "-", 0), ApiKey("", "", 0, None))
_caller: ContextVar[Caller] = ContextVar("caller", default=_NOBODY)


def caller() -> Caller:
    """Who makes the call that this thread is handling."""
    return _caller.get()


class _Around(grpc.ServerInterceptor):
    """Wraps every handler in `around`, a context manager."""

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        """Wrap the handler; nothing else happens on this thread."""
        handler = continuation(details)
        return None if handler is None else _wrap(handler, lambda context: self.around(details.method, context))

    @abstractmethod
    def around(self, method: str, context: grpc.ServicerContext) -> contextlib.AbstractContextManager[None]:
        """What happens around a call of `method`, in its worker."""


def _wrap(handler: Any, around: Callable[[grpc.ServicerContext], contextlib.AbstractContextManager[None]]) -> Any:
    kind = ("stream" if handler.request_streaming else "unary") + "_"
    kind += "stream" if handler.response_streaming else "unary"
    behaviour = getattr(handler, kind)
    if getattr(behaviour, "experimental_non_blocking", False):
        return handler  # health's Watch: it holds no worker, and is called in another way

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        with around(context):
            return behaviour(request, context)

    def answers(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        with around(context):
            yield from behaviour(request, context)

    return handler._replace(**{kind: answers if handler.response_streaming else answer})


class LogCalls(_Around):
    """One line a call: method, code, milliseconds, account."""

    @contextlib.contextmanager
    def around(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        """Log when the call is over."""
        started = time.perf_counter()
        _caller.set(_NOBODY)
        try:
            yield
        finally:
            # abort leaves the code on the context as grpc's number of it
            code: Any = context.code()  # type: ignore[attr-defined]
            code = _CODES.get(code, code) or grpc.StatusCode.OK
            spent = (time.perf_counter() - started) * 1000
            level = logging.WARNING if code is grpc.StatusCode.INTERNAL else logging.DEBUG
            logger.log(level, "%s %s %.1f ms account=%s", method, code.name, spent, caller().account.tag)


class MapErrors(_Around):
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


class Authenticate(_Around):
    """Lets only calls with a valid key through, and remembers whose it is."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    @contextlib.contextmanager
    def around(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        """Refuse the call, or remember whose it is."""
        if not method.startswith(WITHOUT_KEY):
            _caller.set(self._accounts.authenticate(_bearer(context)))
        yield


def _bearer(context: grpc.ServicerContext) -> str:
    given = [value for key, value in context.invocation_metadata() if key == "authorization"]
    if len(given) != 1 or not isinstance(given[0], str):
        raise Unauthenticated
    scheme, _, key = given[0].partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated
    return key.strip()


class LimitStreams(_Around):
    """Keeps workers back for unary calls: no more than `most` streams are open at once."""

    def __init__(self, most: int) -> None:
        self._free = threading.BoundedSemaphore(most)

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        """Wrap streams only."""
        handler = continuation(details)
        if handler is None or not (handler.request_streaming or handler.response_streaming):
            return handler
        return _wrap(handler, lambda context: self.around(details.method, context))

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
