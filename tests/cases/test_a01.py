"""A1: health checks and watches of names that are not there are answered and not kept; watchers are bounded."""

import contextlib
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from reflexio_server.app import INDEX_HEALTH
from reflexio_server.rpc import health
from tests.support import LocalServer, ServerProcess
from tests.wire import MIB, code_of, expect, failure, wait_until
from tools.faults.mutations import varint
from tools.server_process import rss_mb

Start = Callable[..., LocalServer]
CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
Status = health_pb2.HealthCheckResponse


def stub_of(channel: grpc.Channel) -> Any:
    return health_pb2_grpc.HealthStub(channel)


def test_large_names_leave_nothing_behind(tmp_path: Path, model_dir: Path) -> None:
    server = ServerProcess(tmp_path, model_dir, "--no-indexing")
    try:
        channel = grpc.insecure_channel(server.address, options=[("grpc.max_send_message_length", -1)])

        def ask(number: int) -> None:
            call: Any = channel.unary_stream((WATCH, CHECK)[number % 4 == 3])
            name = f"{number}".encode() + b"n" * (15 * MIB)
            message = b"\x0a" + varint(len(name)) + name
            answers = call(message, timeout=20)
            with pytest.raises(grpc.RpcError) as caught:
                next(answers)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            answers.cancel()

        for number in range(40):
            ask(number)  # so that the buffers are there, also where other work holds some calls up
        before = rss_mb(server.process.pid)
        for number in range(40, 80):
            ask(number)
        assert rss_mb(server.process.pid) - before < 120, "600 when each name is kept"
        assert stub_of(channel).Check(health_pb2.HealthCheckRequest(), timeout=10).status == Status.SERVING
        channel.close()
    finally:
        assert server.terminate() == 0


def test_unknown_names_are_answered_as_the_protocol_says_and_forgotten(start: Start) -> None:
    server = start()
    with grpc.insecure_channel(server.address) as channel:
        stub = stub_of(channel)
        for name in ("other", "reflexio.v1.Nothing", "ü" * 100):
            request = health_pb2.HealthCheckRequest(service=name)
            expect(failure(stub.Check, request, timeout=10), grpc.StatusCode.NOT_FOUND, "NOT_FOUND", resource="service")
            watch = stub.Watch(request, timeout=60)
            assert next(watch).status == Status.SERVICE_UNKNOWN
            watch.cancel()
        request = health_pb2.HealthCheckRequest(service="n" * 300)
        for call in (lambda: stub.Check(request, timeout=10), lambda: next(stub.Watch(request, timeout=10))):
            assert failure(call).code is grpc.StatusCode.INVALID_ARGUMENT
        wait_until(lambda: not server.app._health._watchers, "the watchers to be forgotten")
        known = {"", "reflexio.v1.AuthService", "reflexio.v1.InteractionService"}
        wait_until(lambda: INDEX_HEALTH in server.app._health._statuses, "the index to be open")
        assert set(server.app._health._statuses) == known | {INDEX_HEALTH}
        listed = stub.List(health_pb2.HealthListRequest(), timeout=10).statuses  # type: ignore[attr-defined]
        assert {name: one.status for name, one in listed.items()} == dict.fromkeys(
            server.app._health._statuses, Status.SERVING
        )


def test_watchers_are_bounded_in_all_and_per_address(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "MOST_WATCHERS_PER_ADDRESS", 7)
    server = start()
    with grpc.insecure_channel(server.address) as channel:
        stub = stub_of(channel)
        watches = [stub.Watch(health_pb2.HealthCheckRequest(), timeout=60) for _ in range(7)]
        assert [next(one).status for one in watches] == [Status.SERVING] * 7
        more = failure(lambda: next(stub.Watch(health_pb2.HealthCheckRequest(), timeout=60)))
        expect(more, grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED")
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status == Status.SERVING
        watches.pop().cancel()

        def again() -> None:
            watches.append(stub.Watch(health_pb2.HealthCheckRequest(), timeout=60))
            next(watches[-1])

        wait_until(lambda: code_of(again) is grpc.StatusCode.OK, "a place that was given back")
        monkeypatch.setattr(health, "MOST_WATCHERS", 7)
        monkeypatch.setattr(health, "MOST_WATCHERS_PER_ADDRESS", 100)
        assert failure(again).code is grpc.StatusCode.UNIMPLEMENTED


def test_a_watcher_is_told_of_each_change(start: Start) -> None:
    server = start()
    with grpc.insecure_channel(server.address) as channel:
        stub = stub_of(channel)
        name = "reflexio.v1.AuthService"
        seen: queue.SimpleQueue[int] = queue.SimpleQueue()
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=60)

        def read() -> None:
            with contextlib.suppress(grpc.RpcError):
                for one in watch:
                    seen.put(one.status)

        threading.Thread(target=read, daemon=True).start()
        assert seen.get(timeout=10) == Status.SERVING
        for status in (Status.NOT_SERVING, Status.SERVING):
            server.app._health.set("", status)  # of another service: nothing is said
            server.app._health.set(name, status)
            assert seen.get(timeout=10) == status
        watch.cancel()
        assert seen.empty()
