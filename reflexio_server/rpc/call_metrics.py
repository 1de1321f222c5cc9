"""Counts calls for Prometheus."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from prometheus_client import CollectorRegistry, Gauge, Histogram

from reflexio_server.rpc import calls
from reflexio_server.rpc.around import Wrapper, wrap

# Seconds: from a read in memory to a search that waits for vectors, and streams of minutes.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600)


class CountCalls(Wrapper):
    """How many calls end with which code, how long they take, and how many are open."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._durations = Histogram(
            "reflexio_rpc_duration_seconds",
            "Time from a worker taking a call up to its end.",
            ("method", "code"),
            buckets=_BUCKETS,
            registry=registry,
        )
        open_calls = Gauge("reflexio_rpcs_in_flight", "Calls that a worker handles now.", ("kind",), registry=registry)
        self._open = {streams: open_calls.labels("stream" if streams else "unary") for streams in (False, True)}
        self._observers: dict[tuple[str, grpc.StatusCode], Callable[[float], None]] = {}

    def wrap(self, handler: Any, method: str) -> Any:
        in_flight = self._open[calls.is_stream(method)]
        return wrap(handler, lambda context: self._around(method, context, in_flight))

    @contextlib.contextmanager
    def _around(self, method: str, context: grpc.ServicerContext, in_flight: Gauge) -> Iterator[None]:
        started = time.perf_counter()
        in_flight.inc()
        try:
            yield
        finally:
            in_flight.dec()
            self._observer(method, calls.code_of(context))(time.perf_counter() - started)

    def _observer(self, method: str, code: grpc.StatusCode) -> Callable[[float], None]:
        """Kept, as looking a label up takes longer than counting."""
        observe = self._observers.get((method, code))
        if observe is None:
            observe = self._observers[method, code] = self._durations.labels(method, code.name).observe
        return observe
