"""What happens around every call, outermost first: log → errors → admit → auth → limits → decode → the servicer.

An interceptor runs on grpc's one serving thread, so it only wraps: everything else happens in the worker. Here are log,
errors and auth; admit and limits are in limits.py, decode is in decode.py.
"""

import contextlib
import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import grpc

from reflexio_server.core.accounts import Accounts
from reflexio_server.errors import DomainError, Unauthenticated
from reflexio_server.model import Account, ApiKey, Caller
from reflexio_server.rpc import errors

logger = logging.getLogger("reflexio_server.calls")

OPEN_SERVICES = ("/grpc.health.v1.", "/grpc.reflection.")
LOGIN = "/reflexio.v1.AuthService/Login"
WITHOUT_KEY = (*OPEN_SERVICES, LOGIN)
_CODES = {code.value[0]: code for code in grpc.StatusCode}

_NOBODY = Caller(Account(0, "", "-", 0), ApiKey("", "", 0, None))
_caller: ContextVar[Caller] = ContextVar("caller", default=_NOBODY)


def caller() -> Caller:
    """Who makes the call that this thread is handling."""
    return _caller.get()


class Around(grpc.ServerInterceptor):
    """Wraps every handler in `around`, a context manager."""

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        """Wrap the handler; nothing else happens on this thread."""
        handler = continuation(details)
        return None if handler is None else wrap(handler, lambda context: self.around(details.method, context))

    @abstractmethod
    def around(self, method: str, context: grpc.ServicerContext) -> contextlib.AbstractContextManager[None]:
        """What happens around a call of `method`, in its worker."""


def holds_no_worker(handler: Any) -> bool:
    """Whether the handler is called in another way and at once returns: health's Watch."""
    return getattr(handler.unary_stream, "experimental_non_blocking", False)


def wrap(handler: Any, around: Callable[[grpc.ServicerContext], contextlib.AbstractContextManager[None]]) -> Any:
    """The handler inside a context manager, whatever its kind."""
    if holds_no_worker(handler):
        return handler
    kind = ("stream" if handler.request_streaming else "unary") + "_"
    kind += "stream" if handler.response_streaming else "unary"
    behaviour = getattr(handler, kind)

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        with around(context):
            return behaviour(request, context)

    def answers(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        with around(context):
            yield from behaviour(request, context)

    wrapped: Any = answers if handler.response_streaming else answer
    pool = getattr(behaviour, "experimental_thread_pool", None)
    if pool is not None:
        wrapped.experimental_thread_pool = pool
    return handler._replace(**{kind: wrapped})


class LogCalls(Around):
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
