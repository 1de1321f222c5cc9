"""Spans, as a collector gets them: nothing without being asked, and never what was said."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server import tracing
from reflexio_server.core.listing import Lister
from tests.support import LocalServer
from tests.wire import code_of, failure, wait_until

SAID = "the secret of the lighthouse"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VARIABLES = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_TRACES_EXPORTER",
    "OTEL_SDK_DISABLED",
    "OTEL_SERVICE_NAME",
)


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """A collector on loopback that keeps what it gets."""

    def __init__(self) -> None:
        self.received: list[trace_service_pb2.ExportTraceServiceRequest] = []
        self.server = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self.server)  # type: ignore[no-untyped-call]
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.received.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self) -> list[Span]:
        return [
            span
            for request in self.received
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans() if span.name == name]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")


@pytest.fixture
def collector() -> Any:
    running = Collector()
    yield running
    running.server.stop(None)


@pytest.fixture
def traced(start: Any, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{collector.address}")
    server: LocalServer = start()
    return server


def attributes(span: Span) -> dict[str, str]:
    return {item.key: item.value.string_value for item in span.attributes}


def test_a_call_is_a_span_with_its_stages_inside(traced: LocalServer, collector: Collector) -> None:
    caller = traced.new_caller()
    caller.publish("ada", SAID, wait_until=pb.WAIT_UNTIL_SEARCHABLE)
    request = pb.SearchInteractionsRequest(user_id="ada", query=SAID)
    metadata = (*caller.metadata, ("traceparent", f"00-{TRACE}-{PARENT}-01"), ("x-request-id", "search-1"))
    assert caller.interactions.SearchInteractions(request, metadata=metadata, timeout=30).hits
    name = "reflexio.v1.InteractionService/SearchInteractions"
    wait_until(lambda: collector.named(name), "the span of the search")

    (search,) = collector.named(name)
    assert (search.trace_id.hex(), search.parent_span_id.hex()) == (TRACE, PARENT)
    assert search.kind == Span.SPAN_KIND_SERVER
    assert attributes(search) == {
        "rpc.system.name": "grpc",
        "rpc.method": name,
        "rpc.response.status_code": "OK",
        "reflexio.account": caller.api_key.split("_")[1],
        "reflexio.call_id": "search-1",
    }
    inside = {span.name: span for span in collector.spans() if span.trace_id == search.trace_id}
    assert set(inside) == {name, "find", "embed", "read"}, "nothing waits for its vectors"
    assert {inside[stage].parent_span_id for stage in ("find", "read")} == {search.span_id}
    assert inside["embed"].parent_span_id == inside["find"].span_id
    (publish,) = collector.named("reflexio.v1.InteractionService/PublishInteractions")
    stages = {span.name for span in collector.spans() if span.parent_span_id == publish.span_id}
    assert stages == {"commit", "index"}
    resource = collector.received[0].resource_spans[0].resource
    assert "service.name" in [item.key for item in resource.attributes if item.value.string_value == "reflexio"]


def test_a_failure_is_told_without_its_text(
    traced: LocalServer, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError(SAID)

    monkeypatch.setattr(Lister, "page", fails)
    caller = traced.new_caller()
    failure(caller.get, user_id="ada")
    assert code_of(lambda: caller.search(user_id="", query=SAID)) is grpc.StatusCode.INVALID_ARGUMENT
    wait_until(lambda: collector.named("reflexio.v1.InteractionService/SearchInteractions"), "the spans")
    (read,) = collector.named("reflexio.v1.InteractionService/GetInteractions")
    assert attributes(read)["rpc.response.status_code"] == "INTERNAL"
    assert read.status.code == Status.STATUS_CODE_ERROR
    assert not read.events
    (search,) = collector.named("reflexio.v1.InteractionService/SearchInteractions")
    assert attributes(search)["rpc.response.status_code"] == "INVALID_ARGUMENT"
    assert search.status.code == Status.STATUS_CODE_UNSET, "the caller's error is not the server's"
    assert SAID not in str(collector.received)
    assert caller.api_key not in str(collector.received)


def test_a_caller_that_is_not_traced_has_no_span(traced: LocalServer, collector: Collector) -> None:
    caller = traced.new_caller()
    request = pb.GetInteractionsRequest(user_id="ada")
    for flags in ("00", "01"):
        metadata = (*caller.metadata, ("traceparent", f"00-{TRACE}-{PARENT}-{flags}"), ("x-request-id", flags))
        caller.interactions.GetInteractions(request, metadata=metadata, timeout=30)
    name = "reflexio.v1.InteractionService/GetInteractions"
    wait_until(lambda: collector.named(name), "the span")
    assert [attributes(span)["reflexio.call_id"] for span in collector.named(name)] == ["01"]


def test_the_last_spans_leave_when_the_server_stops(
    start: Any, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{collector.address}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "another-name")
    server = start()
    server.new_caller()
    assert not collector.received
    server.stop()
    assert collector.named("reflexio.v1.AuthService/Login")
    resource = collector.received[0].resource_spans[0].resource
    assert "another-name" in [item.value.string_value for item in resource.attributes]


def test_a_collector_that_is_away_does_not_hold_up_a_stop(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(tracing, "_CLOSE_SECONDS", 0.1)
    server = start()
    server.new_caller().publish("ada", SAID)
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    stopping.join(5)  # one that waited for the last export would take 8
    assert not stopping.is_alive()


@pytest.mark.parametrize(
    ("variables", "warning"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "zipkin"}, "zipkin over grpc"),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "otlp over http/json",
        ),
    ],
)
def test_nothing_is_traced_unless_it_is_asked_for_and_possible(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variables: dict[str, str], warning: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert tracing.start_tracing() is None
    assert warning in caplog.text
    assert bool(caplog.text) == bool(warning)


def test_without_the_extra_the_server_runs_and_says_what_is_missing(
    start: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    assert start().new_caller().publish("ada", SAID).interaction_ids
    assert "pip install 'reflexio-grpc[server,tracing]'" in caplog.text
