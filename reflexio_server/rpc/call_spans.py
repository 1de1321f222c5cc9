"""A span for each call, with its stages inside. Imported only where tracing is on, as OpenTelemetry is an extra."""

import contextlib
from collections.abc import Iterator

import grpc
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from reflexio_server.rpc import calls
from reflexio_server.rpc.around import Around
from reflexio_server.rpc.calls import NOT_OF_THE_CONTRACT, Call
from reflexio_server.stages import watch_stages

# Those that OpenTelemetry's conventions for gRPC count as a server's errors.
_SERVER_ERRORS = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}


class TraceCalls(Around):
    """A child of the caller's span, if its metadata has a `traceparent`. Never in it: what was said."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._propagator = TraceContextTextMapPropagator()

    @contextlib.contextmanager
    def around(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        if method in NOT_OF_THE_CONTRACT:
            yield
            return
        given = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        # The text of an exception may hold what was said: none is recorded.
        with self._tracer.start_as_current_span(
            method.removeprefix("/"),
            context=self._propagator.extract(given),
            kind=SpanKind.SERVER,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            watch_stages(self._stage)
            call = calls.current()
            try:
                yield
            finally:
                _tell(span, call, calls.code_of(context))

    def _stage(self, name: str) -> contextlib.AbstractContextManager[Span]:
        return self._tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False)


def _tell(span: Span, call: Call, code: grpc.StatusCode) -> None:
    """By OpenTelemetry's semantic conventions for RPC, and with names of our own."""
    span.set_attributes(
        {
            "rpc.system.name": "grpc",
            "rpc.method": call.method.removeprefix("/"),
            "rpc.response.status_code": code.name,
            "reflexio.account": call.caller.account.tag,
            "reflexio.call_id": call.call_id,
        }
    )
    if code in _SERVER_ERRORS:
        span.set_status(StatusCode.ERROR)
