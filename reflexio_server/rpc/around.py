"""How an interceptor wraps a handler. It runs on grpc's one serving thread, so it does nothing else there."""

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import grpc


class Around(grpc.ServerInterceptor):
    """Wraps every handler in `around`, a context manager."""

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        """Wrap the handler; nothing else happens on this thread."""
        handler = continuation(details)
        return None if handler is None else wrap(handler, lambda context: self.around(details.method, context))

    @abstractmethod
    def around(self, method: str, context: grpc.ServicerContext) -> contextlib.AbstractContextManager[None]:
        """What happens around a call of `method`, in its worker."""


def kind_of(handler: Any) -> str:
    """The name of a handler's attribute that has its behaviour: "unary_unary" and so on."""
    request, response = (
        "stream" if streaming else "unary" for streaming in (handler.request_streaming, handler.response_streaming)
    )
    return f"{request}_{response}"


def wrap(handler: Any, around: Callable[[grpc.ServicerContext], contextlib.AbstractContextManager[None]]) -> Any:
    """The handler with its behaviour inside `around`."""
    kind = kind_of(handler)
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
