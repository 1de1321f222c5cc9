"""W6: an open health watch does not make a stop last the whole grace."""

import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support import LocalServer

Status = health_pb2.HealthCheckResponse


@pytest.mark.parametrize("service", ["", "reflexio.v1.InteractionService", "unknown"])
def test_a_watched_server_stops_at_once(start: Callable[..., LocalServer], service: str) -> None:
    server = start(grace_seconds=30)
    with grpc.insecure_channel(server.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watches = [stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=60) for _ in range(3)]
        first = [next(one).status for one in watches]
        assert set(first) == {Status.SERVICE_UNKNOWN if service == "unknown" else Status.SERVING}
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 7.5, "30 when it waits for the watchers"
        for watch in watches:
            told = []
            with pytest.raises(grpc.RpcError) as caught:
                told += [one.status for one in watch]
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE, "so that a client comes again"


def test_a_watcher_that_reads_nothing_does_not_hold_it_up_either(start: Callable[..., LocalServer]) -> None:
    server = start(grace_seconds=30)
    with grpc.insecure_channel(server.address, options=[("grpc.http2.bdp_probe", 0)]) as channel:
        call: Any = channel.unary_stream("/grpc.health.v1.Health/Watch")
        watches = [call(b"", timeout=60) for _ in range(20)]  # called, and never read
        for watch in watches:
            watch.initial_metadata()
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 7.5
