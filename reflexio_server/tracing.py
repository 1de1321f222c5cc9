"""OpenTelemetry tracing: off, and nothing sent anywhere, unless the environment names a collector.

The variables are OpenTelemetry's own: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

import logging
import os
import threading

import grpc

from reflexio import __version__

logger = logging.getLogger(__name__)

_CLOSE_SECONDS = 5.0  # for the last spans, when the server stops: a collector that is down must not hold it up


class Tracing:
    """Spans of one server, sent to the collector by a thread of their own.

    Attributes:
        calls: the interceptor that makes them.
    """

    def __init__(self) -> None:
        """Raises ImportError without the extra `tracing`."""
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from reflexio_server.rpc.call_spans import TraceCalls

        resource = Resource.create({"service.name": "reflexio", "service.version": __version__})
        resource = resource.merge(OTELResourceDetector().detect())  # what the environment says wins
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self.calls: grpc.ServerInterceptor = TraceCalls(self._provider.get_tracer("reflexio_server", __version__))

    def close(self) -> None:
        """Send what is left, for a few seconds at most."""
        closing = threading.Thread(target=self._provider.shutdown, name="tracing", daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)


def start_tracing() -> Tracing | None:
    """Tracing as the environment asks for it; None when it does not, or it is not possible, which is logged."""
    endpoint = _first("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    exporter = _first("OTEL_TRACES_EXPORTER") or "otlp"
    protocol = _first("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL") or "grpc"
    if not endpoint or exporter == "none" or _first("OTEL_SDK_DISABLED").lower() == "true":
        return None
    if exporter != "otlp" or protocol != "grpc":
        logger.warning("no tracing: spans can be sent by otlp over grpc only, not by %s over %s", exporter, protocol)
        return None
    try:
        tracing = Tracing()
    except ImportError:
        logger.warning("no tracing, though a collector is named: pip install 'reflexio-grpc[server,tracing]'")
        return None
    logger.info("tracing is on: spans go to the collector that the environment names")
    return tracing


def _first(*names: str) -> str:
    return next((os.environ[name].strip() for name in names if os.environ.get(name, "").strip()), "")
