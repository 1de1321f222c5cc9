"""A4: calls that send headers only shut nobody out: neither logins nor health checks, from however many addresses."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support import LocalServer, log_in
from tests.wire import SilentCall, blocked_writer, metric, say, wait_until
from tools.relay import Relay

Start = Callable[..., LocalServer]
LOGIN, CHECK = "/reflexio.v1.AuthService/Login", "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


@contextmanager
def silence(server: LocalServer, count: int, paths: tuple[str, ...], addresses: int = 1) -> Iterator[None]:
    """That many calls to each path, from so many addresses, that send nothing but their headers."""
    with ExitStack() as opened:
        here = [server.address]
        for number in range(2, addresses + 1):
            here.append(opened.enter_context(Relay(server.address, source=f"127.0.0.{number}")).address)
        for number in range(count):
            for path in paths:
                opened.callback(SilentCall(here[number % addresses], path, apart=True).close)
        yield


def check(server: LocalServer) -> int:
    with grpc.insecure_channel(server.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        status: int = stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status
        return status


@pytest.mark.parametrize(
    ("count", "paths", "addresses"),
    [
        (20, (LOGIN, CHECK), 1),
        (20, (LOGIN, CHECK, WATCH, REFLECTION), 4),
        (100, (LOGIN, CHECK), 1),
        (60, (LOGIN, CHECK, WATCH), 30),
    ],
)
def test_silent_calls_shut_nobody_out(start: Start, count: int, paths: tuple[str, ...], addresses: int) -> None:
    server = start()
    email = server.new_caller().email
    with silence(server, count, paths, addresses):
        for _ in range(10):
            assert check(server) == health_pb2.HealthCheckResponse.SERVING
            assert log_in(server.address, email).api_key


def test_health_answers_while_all_workers_are_busy(start: Start) -> None:
    server = start(workers=20, max_streams=1, account_calls=20, metrics_port=0)
    caller = server.new_caller()
    with blocked_writer(server):
        calls = [
            caller.interactions.PublishInteractions.future(say(str(number)), metadata=caller.metadata, timeout=60)
            for number in range(40)
        ]
        wait_until(
            lambda: (metric(server, "reflexio_rpcs_in_flight", "unary") or 0) >= 5, "all that it may have at work"
        )
        assert check(server) == health_pb2.HealthCheckResponse.SERVING
    for call in calls:
        call.exception(30)
