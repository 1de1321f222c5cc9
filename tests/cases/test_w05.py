"""W5: two accounts cannot hold all streams."""

from collections.abc import Callable
from contextlib import ExitStack

import grpc
import pytest

from reflexio.v1 import interaction_service_pb2 as pb
from tests.support import Caller, LocalServer
from tests.wire import OpenStream, code_of, everything, say, wait_until


def test_a_third_account_finds_a_stream(start: Callable[..., LocalServer]) -> None:
    server = start(max_streams=8)
    with ExitStack() as opened:
        for greedy in (server.new_caller(), server.new_caller()):
            for number in range(4):
                stream = OpenStream(greedy)
                stream.send(f"r{number}")
                opened.callback(stream.close)
            wait_until(lambda greedy=greedy: len(everything(greedy)) == 4, "its streams to be open")  # type: ignore[misc]
        third = server.new_caller()
        assert third.stream([say("x")]).requests.stored == 1


def open_stream(caller: Caller) -> OpenStream:
    """A stream that is open; a busy machine may take longer than a server waits for a place."""
    while True:
        stream = OpenStream(caller)
        stream.send("new")
        wait_until(lambda: stream.call.done() or bool(everything(caller)), "it to be open")  # noqa: B023
        if not stream.call.done():
            return stream


def test_an_account_with_many_streams_gives_its_oldest(start: Callable[..., LocalServer]) -> None:
    server = start(max_streams=4)
    greedy = [server.new_caller(), server.new_caller()]
    streams = []
    for number, caller in enumerate((greedy[0], greedy[0], greedy[1], greedy[1])):
        streams.append(OpenStream(caller))
        streams[-1].send(f"r{number}")
        wait_until(lambda: sum(len(everything(caller)) for caller in greedy) == number + 1, "it to be open")  # noqa: B023
    newcomers = [open_stream(server.new_caller()) for _ in range(2)]
    for oldest in (streams[0], streams[2]):
        verdict = oldest.call.result(30)
        assert (verdict.end_reason, verdict.requests.stored) == (pb.END_REASON_DRAINING, 1)
    assert code_of(lambda: greedy[0].stream([])) is grpc.StatusCode.RESOURCE_EXHAUSTED, "it has one"
    assert [stream.close().requests.stored for stream in (*newcomers, streams[1], streams[3])] == [1, 1, 1, 1]


def test_accounts_with_one_stream_each_take_turns(
    start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(max_streams=2)
    streams = [OpenStream(server.new_caller()) for _ in range(2)]
    late = server.new_caller()
    for stream in streams:
        stream.send("first")
    wait_until(lambda: code_of(lambda: late.stream([])) is grpc.StatusCode.RESOURCE_EXHAUSTED, "both to be open")
    monkeypatch.setattr("reflexio_server.rpc.shares.TURN_SECONDS", 0)
    for number in range(3):
        assert late.stream([say(f"{number}")]).requests.stored == 1
    assert [stream.call.result(30).end_reason for stream in streams[:1]] == [pb.END_REASON_DRAINING]
    assert streams[1].close().requests.stored == 1
