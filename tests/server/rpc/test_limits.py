"""What one caller may take, so that the others keep theirs: calls, streams, bytes, workers, memory."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.rpc.admission import Entrance
from reflexio_server.rpc.decode import MOST_BYTES
from reflexio_server.rpc.fields import count_fields
from reflexio_server.rpc.publish_messages import MOST_FIELDS
from tests.support import Caller, LocalServer, ServerProcess, create_account, log_in
from tests.wire import (
    MIB,
    RPCS,
    OpenStream,
    SilentCall,
    blocked_writer,
    call_raw,
    code_of,
    everything,
    expect,
    failure,
    metric,
    path_of,
    publish,
    random_message,
    say,
    seeded,
    wait_until,
)
from tools.server_process import PeakMemory

Start = Callable[..., LocalServer]
SERVICE = "/reflexio.v1.InteractionService/"
STREAM = "reflexio.v1.InteractionService.PublishInteractionStream"
LOGIN = "/reflexio.v1.AuthService/Login"


def call_whoami(caller: Caller) -> auth_pb.WhoAmIResponse:
    return caller.auth.WhoAmI(auth_pb.WhoAmIRequest(), metadata=caller.metadata, timeout=30)


def futures(caller: Caller, prefix: str, count: int) -> list[Any]:
    """Publishes in the background."""
    return [
        caller.interactions.PublishInteractions.future(say(f"{prefix}{number}"), metadata=caller.metadata, timeout=60)
        for number in range(count)
    ]


def fill_workers(server: LocalServer, caller: Caller, count: int) -> list[Any]:
    """That many publishes that have a worker each, on a server with metrics; of five at a time each finds a place."""
    calls: list[Any] = []

    def have_workers() -> bool:
        return metric(server, "reflexio_rpcs_in_flight", "unary") == len(calls)

    while len(calls) < count:
        calls += futures(caller, f"{len(calls)} ", min(5, count - len(calls)))
        wait_until(have_workers, "workers for them", 8)
    return calls


# ---- Calls and streams of an account


def test_an_account_beyond_its_calls_is_told_so_and_others_go_on(start: Start) -> None:
    server = start(account_calls=2)
    greedy, other = server.new_caller(), server.new_caller()
    with blocked_writer(server):
        calls = futures(greedy, "r", 6)
        wait_until(lambda: sum(call.done() for call in calls) == 4, "four refusals")
        for call in calls:
            if call.done():
                found = failure(call.result)
                expect(found, grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_BUSY", limit="calls")
                assert found.retry_seconds
        expect(failure(greedy.get), grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_BUSY", limit="calls")
        assert not other.get().interactions
        assert greedy.stream([]).end_reason == pb.END_REASON_COMPLETE, "streams are counted apart"
    assert sum(code_of(call.result) is grpc.StatusCode.OK for call in calls) == 2
    assert len(greedy.get().interactions) == 2, "it has its share again"


def test_an_account_cannot_take_every_streams_place(start: Start) -> None:
    server = start(max_streams=4)  # two of an account
    greedy, other = server.new_caller(), server.new_caller()
    streams = [OpenStream(greedy) for _ in range(2)]
    for number, stream in enumerate(streams):
        stream.send(f"r{number}")
    wait_until(lambda: len(everything(greedy)) == 2, "both streams to be open")
    expect(failure(greedy.stream, []), grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_BUSY", limit="streams")
    assert other.stream([say("x")]).requests.stored == 1
    assert [stream.close().requests.stored for stream in streams] == [1, 1]
    wait_until(lambda: code_of(lambda: greedy.stream([])) is grpc.StatusCode.OK, "the places to be free again")


def test_answers_that_nobody_reads_are_bounded_and_end(start: Start) -> None:
    server = start(account_calls=2, stream_idle_seconds=2)
    caller = server.new_caller()
    publish(caller, "u", *(noun.InteractionData(content="x" * 60_000) for _ in range(40)))
    request = pb.GetInteractionsRequest(user_id="u", page_size=40).SerializeToString()
    # Called as a stream, nothing is read before the first next(); and nothing on suspicion that it will be.
    channel = grpc.insecure_channel(server.address, options=[("grpc.http2.bdp_probe", 0)])
    call: Any = channel.unary_stream(f"{SERVICE}GetInteractions")
    unread: list[Any] = []
    for _ in range(4):
        unread.append(call(request, metadata=caller.metadata, timeout=60))
        wait_until(lambda: server_is_done(unread[-1]), "an answer that waits to be read")
    expect(failure(call_whoami, caller), grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_BUSY", limit="answers not read")
    wait_until(lambda: code_of(partial(call_whoami, caller)) is grpc.StatusCode.OK, "room again")
    assert code_of(partial(list, unread[0])) is grpc.StatusCode.CANCELLED
    channel.close()


def server_is_done(call: Any) -> bool:
    """The headers of an answer come with it."""
    call.initial_metadata()
    return True


def test_a_picture_that_nobody_reads_gives_its_place_back(start: Start) -> None:
    server = start(max_streams=1, stream_idle_seconds=0.5)
    caller = server.new_caller()
    (with_picture,) = publish(caller, "u", noun.InteractionData(image=bytes(8 * MIB))).interaction_ids
    call: Any = caller.interactions.GetImage(
        pb.GetImageRequest(interaction_id=with_picture), metadata=caller.metadata, timeout=60
    )
    next(call)  # and no more
    wait_until(lambda: code_of(lambda: caller.stream([])) is grpc.StatusCode.OK, "the place to be free again")
    assert code_of(lambda: list(call)) is grpc.StatusCode.CANCELLED


# ---- Workers


def test_a_call_is_authenticated_before_its_message_comes(start: Start) -> None:
    server = start()
    for method in RPCS.values():
        if path_of(method) == LOGIN:
            continue
        silent = SilentCall(server.address, path_of(method), (("authorization", "Bearer x"),))
        assert silent.code() is grpc.StatusCode.UNAUTHENTICATED, method.full_name
        silent.close()


def test_silent_calls_hold_nobody_up_and_end(start: Start) -> None:
    """60 calls that send no message, for 20 workers."""
    server = start(workers=20, max_streams=4, stream_idle_seconds=3)
    other, greedy = server.new_caller(), server.new_caller()
    with ExitStack() as opened:
        calls = []
        for path, metadata in (
            (LOGIN, ()),
            ("/grpc.health.v1.Health/Check", ()),
            (f"{SERVICE}GetInteractions", greedy.metadata),
        ):
            for _ in range(20):
                calls.append(SilentCall(server.address, path, metadata))
                opened.callback(calls[-1].close)
        codes = [call.code() for call in calls]
        assert len(call_whoami(other).account.email) > 3
    # The account's share is met only where its calls find more workers than that, beside those of the strangers.
    assert set(codes) <= {grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    # Who comes late may get a place that was given back.
    assert codes.count(grpc.StatusCode.CANCELLED) >= 5 + 5 + 10, "each service's strangers, and the account's share"


def test_calls_that_find_no_worker_wait_within_bounds(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reflexio_server.app.Entrance", partial(Entrance, most_waiting=5))
    server = start(workers=80, account_calls=80, max_streams=4, metrics_port=0)
    caller = server.new_caller()
    with blocked_writer(server):
        calls = fill_workers(server, caller, 20) + futures(caller, "more", 25)
        wait_until(lambda: sum(call.done() for call in calls) >= 20, "those without a place")
        for call in calls:
            if call.done():
                found = failure(call.result)
                expect(found, grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_BUSY", limit="calls waiting")
                assert found.retry_seconds
    assert sum(code_of(call.result) is grpc.StatusCode.OK for call in calls) == 25
    assert code_of(partial(call_whoami, caller)) is grpc.StatusCode.OK


def test_calls_cancelled_while_they_wait_give_their_places_back(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reflexio_server.app.Entrance", partial(Entrance, most_waiting=5))
    server = start(workers=80, account_calls=80, max_streams=4, metrics_port=0)
    caller = server.new_caller()
    with blocked_writer(server):
        calls = fill_workers(server, caller, 20)
        for call in futures(caller, "cancelled", 5):
            time.sleep(0.02)
            call.cancel()
    for call in calls:
        call.result()
    wait_until(lambda: code_of(partial(call_whoami, caller)) is grpc.StatusCode.OK, "a place behind theirs")
    with blocked_writer(server):
        calls = fill_workers(server, caller, 20) + futures(caller, "waits", 5)
    assert all(code_of(call.result) is grpc.StatusCode.OK for call in calls)


def test_silent_reflection_ends_and_shuts_nobody_out(start: Start) -> None:
    server = start(stream_idle_seconds=3)
    caller = server.new_caller()
    with grpc.insecure_channel(server.address) as channel, ExitStack() as opened:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        asking = reflection_pb2.ServerReflectionRequest(list_services="")
        calls: list[Any] = []
        for _ in range(40):
            messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
            messages.put(asking)
            opened.callback(messages.put, None)
            calls.append(stub.ServerReflectionInfo(iter(messages.get, None), timeout=60))
        assert len(list(stub.ServerReflectionInfo(iter([asking]), timeout=30))) == 1
        assert caller.stream([say("x")]).requests.stored == 1
        codes = {code_of(lambda call=call: list(call)) for call in calls}  # type: ignore[misc]
    assert codes == {grpc.StatusCode.CANCELLED}


# ---- Large messages


def test_fields_are_counted_as_the_parser_sees_them() -> None:
    source = seeded()
    for _ in range(300):
        request = random_message(pb.PublishInteractionsRequest, source)
        assert isinstance(request, pb.PublishInteractionsRequest)
        raw = request.SerializeToString()
        fields = sum(1 for field, _ in request.ListFields() if field.name != "interactions") + len(request.interactions)
        assert count_fields(raw, 1000, nested=False) == fields
        envelope = pb.PublishInteractionStreamRequest(request=request).SerializeToString()
        assert count_fields(envelope, 1000, nested=True) == 1 + fields
        envelope = pb.PublishInteractionStreamRequest(requests=[request] * 2).SerializeToString()
        assert count_fields(envelope, 1000, nested=True) == 2 + 2 * fields
        count_fields(source.randbytes(200), 1000, nested=True)  # broken bytes raise nothing
    assert count_fields(b"\x12\x00" * 5000, 1000, nested=False) == 1001
    assert count_fields(b"\x0a\x02\x12\x00" * 5000, 1000, nested=True) == 1001
    assert count_fields(b"\x80" * 100_000, 1000, nested=False) <= 1


EMPTY = b"\x12\x00"  # interactions { }


def field_one(raw: bytes) -> bytes:
    size, count = len(raw), b""
    while size > 0x7F:
        count += bytes([size & 0x7F | 0x80])
        size >>= 7
    return b"\x0a" + count + bytes([size]) + raw


def test_a_million_interactions_are_refused_and_the_stream_goes_on(caller: Caller) -> None:
    many = say("many").SerializeToString() + EMPTY * 1_000_000
    call: Any = caller.channel.unary_unary(f"{SERVICE}PublishInteractions")
    found = failure(call, many, metadata=caller.metadata, timeout=30)
    expect(
        found,
        grpc.StatusCode.INVALID_ARGUMENT,
        "LIMIT_EXCEEDED",
        field="interactions",
        count=str(MOST_FIELDS + 1),
        maximum="1000",
    )
    good = pb.PublishInteractionStreamRequest(request=say("good")).SerializeToString()
    raws = call_raw(caller.channel, RPCS[STREAM], [field_one(many), good], caller.metadata)
    verdict = pb.PublishInteractionStreamResponse.FromString(raws[0])
    assert (verdict.requests.stored, verdict.requests.rejected) == (1, 1)
    assert [(one.index, one.reason, one.field) for one in verdict.rejections] == [(0, "LIMIT_EXCEEDED", "interactions")]
    assert [item.request_id for item in everything(caller)] == ["good"]


@pytest.mark.parametrize("name", [name for name in RPCS if ".Publish" not in name and not name.endswith("Login")])
def test_a_message_that_publishes_nothing_may_not_be_large(caller: Caller, name: str) -> None:
    raw = field_one(b"x" * MOST_BYTES)
    call: Any = caller.channel.unary_stream if RPCS[name].server_streaming else caller.channel.unary_unary
    answer = call(path_of(RPCS[name]))
    found = failure(lambda: [*answer(raw, metadata=caller.metadata, timeout=30)])
    size = {"count": str(len(raw)), "maximum": str(MOST_BYTES)}
    expect(found, grpc.StatusCode.INVALID_ARGUMENT, "LIMIT_EXCEEDED", field="request", **size)


def test_hostile_messages_take_little_memory(tmp_path: Path, model_dir: Path) -> None:
    """16 MB that parse to a gigabyte, and 60 kB that unpack to 60 MB."""
    server = ServerProcess(tmp_path, model_dir, "--no-indexing")
    try:
        caller = log_in(server.address, create_account(tmp_path))
        publish(caller, "u", noun.InteractionData(image=bytes(7 * MIB)))  # so that the buffers are there
        channel = grpc.insecure_channel(server.address, options=[("grpc.max_send_message_length", -1)])
        publishing: Any = channel.unary_unary(f"{SERVICE}PublishInteractions")
        reading: Any = channel.unary_unary(f"{SERVICE}GetInteractions")
        bomb = pb.PublishInteractionsRequest(user_id="u", interactions=[noun.InteractionData(content="a" * 60_000_000)])
        gzip = grpc.Compression.Gzip
        with PeakMemory(server.process.pid) as peak:
            codes = [
                code_of(lambda: publishing(EMPTY * 8_000_000, metadata=caller.metadata, timeout=60)),
                code_of(lambda: reading(EMPTY * 8_000_000, metadata=caller.metadata, timeout=60)),
                code_of(
                    lambda: publishing(bomb.SerializeToString(), metadata=caller.metadata, timeout=60, compression=gzip)
                ),
            ]
        invalid, exhausted = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED
        assert codes == [invalid, invalid, exhausted]
        assert peak.above_before < 100  # 900 without the limits, 16 of them the message
        small = pb.PublishInteractionsRequest(user_id="u", interactions=[noun.InteractionData(content="a" * 60_000)])
        assert code_of(
            lambda: publishing(small.SerializeToString(), metadata=caller.metadata, timeout=60, compression=gzip)
        ) is (grpc.StatusCode.OK)
        channel.close()
    finally:
        assert server.terminate() == 0


def test_metadata_over_8_kib_is_refused_by_grpc_itself(caller: Caller) -> None:
    for size, fits in ((6_000, True), (9_000, False)):
        metadata = (*caller.metadata, ("padding", "x" * size))
        code = code_of(lambda: caller.auth.WhoAmI(auth_pb.WhoAmIRequest(), metadata=metadata, timeout=30))  # noqa: B023
        assert code is (grpc.StatusCode.OK if fits else grpc.StatusCode.RESOURCE_EXHAUSTED)


# ---- The end


def test_callers_are_told_that_the_server_stops_and_health_says_so(start: Start) -> None:
    server = start(grace_seconds=30, metrics_port=0)
    caller = server.new_caller()
    stub: Any = health_pb2_grpc.HealthStub(caller.channel)
    states: list[int] = []
    with blocked_writer(server):
        (call,) = fill_workers(server, caller, 1)
        stopping = threading.Thread(target=server.stop)
        stopping.start()

        def told() -> Iterator[Any]:
            while True:
                try:
                    call_whoami(caller)
                except grpc.RpcError as error:
                    yield error

        for error in told():
            expect(failure(_raise, error), grpc.StatusCode.UNAVAILABLE, "DRAINING")
            states.append(stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status)
            break
    assert states == [health_pb2.HealthCheckResponse.NOT_SERVING]
    assert call.result(30).request_id == "0 0"
    stopping.join()


def _raise(error: BaseException) -> None:
    raise error
