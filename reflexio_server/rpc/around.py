"""How an interceptor wraps a handler: once, so that nothing of it is left for grpc's one serving thread to do."""

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import grpc


class Wrapper(grpc.ServerInterceptor):
    """Wraps the handler of each method; `Admit` asks for it once."""

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        handler = continuation(details)
        return None if handler is None else self.wrap(handler, details.method)

    @abstractmethod
    def wrap(self, handler: Any, method: str) -> Any:
        """The handler with what happens around it."""


class Around(Wrapper):
    """Wraps every handler in `around`, a context manager."""

    def wrap(self, handler: Any, method: str) -> Any:
        return wrap(handler, lambda context: self.around(method, context))

    @abstractmethod
    def around(self, method: str, context: grpc.ServicerContext) -> contextlib.AbstractContextManager[None]:
        """What happens around a call of `method`, in its worker."""


def kind_of(handler: Any) -> str:
    """The name of a handler's attribute that has its behaviour: "unary_unary" and so on."""
    request, response = (
        "stream" if streaming else "unary" for streaming in (handler.request_streaming, handler.response_streaming)
    )
    return f"{request}_{response}"


def calls_back(handler: Any) -> bool:
    """Whether the handler returns at once, and sends its answers by a callback that it gets: health's Watch."""
    return getattr(getattr(handler, kind_of(handler)), "experimental_non_blocking", False)


def with_behaviour(handler: Any, behaviour: Any, **other: Any) -> Any:
    """The handler with another behaviour, run by the same threads in the same way, and with `other` attributes."""
    kind = kind_of(handler)
    for attribute in ("experimental_thread_pool", "experimental_non_blocking"):
        value = getattr(getattr(handler, kind), attribute, None)
        if value is not None:
            setattr(behaviour, attribute, value)
    return handler._replace(**{kind: behaviour}, **other)


def wrap(handler: Any, around: Callable[[grpc.ServicerContext], contextlib.AbstractContextManager[None]]) -> Any:
    behaviour = getattr(handler, kind_of(handler))

    def answer(request: Any, context: grpc.ServicerContext, *send: Any) -> Any:
        with around(context):
            return behaviour(request, context, *send)

    def answers(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        with around(context):
            yield from behaviour(request, context)

    return with_behaviour(handler, answers if handler.response_streaming and not calls_back(handler) else answer)
