"""Pings: a long silence ends nothing, and a peer that is gone without a word is noticed.

The real numbers are too long for a test, so both sides' are divided by the same.
"""

import threading
import time
from collections.abc import Callable, Iterator

import grpc
import pytest

from reflexio import channel as client_channel
from reflexio.channel import open_channel, parse_url
from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import auth_service_pb2_grpc as auth_grpc
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server import transport
from tests.support import PASSWORD, LocalServer
from tests.wire import OpenStream, code_of, failure, wait_until
from tools.relay import Relay

Start = Callable[..., LocalServer]
SERVER_MINIMUM = "grpc.http2.min_ping_interval_without_data_ms"
TIME, TIMEOUT = "grpc.keepalive_time_ms", "grpc.keepalive_timeout_ms"
SHORTER = 60
MOST_STRIKES = 2  # grpc's default: the next ping that comes too early ends the connection


def shorten(monkeypatch: pytest.MonkeyPatch, *, server: bool = True, client: bool = True) -> None:
    """Divide the times of one side or both."""
    for wanted, options in ((server, transport.KEEPALIVE), (client, client_channel.KEEPALIVE)):
        for name, value in options.items():
            if wanted and name.endswith("_ms"):
                monkeypatch.setitem(options, name, value // SHORTER)


def test_the_client_pings_no_more_often_than_the_server_allows() -> None:
    assert client_channel.KEEPALIVE[TIME] >= 2 * transport.KEEPALIVE[SERVER_MINIMUM]
    assert transport.KEEPALIVE[TIME] + transport.KEEPALIVE[TIMEOUT] <= 60_000
    assert client_channel.KEEPALIVE[TIME] + client_channel.KEEPALIVE[TIMEOUT] <= 60_000


def silent_stream(server: LocalServer) -> pb.PublishInteractionStreamResponse:
    """What becomes of a stream of the client's that nobody says anything on."""
    caller = server.new_caller()
    caller.channel = open_channel(parse_url(f"http://{server.address}/"))
    stream = caller.channel.stream_unary(
        "/reflexio.v1.InteractionService/PublishInteractionStream",
        pb.PublishInteractionStreamRequest.SerializeToString,
        pb.PublishInteractionStreamResponse.FromString,
    )
    closed = threading.Event()

    def nothing() -> Iterator[pb.PublishInteractionStreamRequest]:
        closed.wait(60)
        yield from ()

    try:
        return stream(nothing(), metadata=caller.metadata, timeout=60)
    finally:
        closed.set()


def test_a_long_silence_ends_no_stream(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)
    silence = 8 * client_channel.KEEPALIVE[TIME] / 1000  # as long as 8 pings, and grpc bears 2 that come too early
    answer = silent_stream(start(stream_idle_seconds=silence))
    assert answer.end_reason == pb.END_REASON_IDLE


def test_a_server_that_allows_fewer_pings_would_end_it(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: without the server's number the same silence ends the connection."""
    shorten(monkeypatch)
    monkeypatch.delitem(transport.KEEPALIVE, SERVER_MINIMUM)
    server = start(stream_idle_seconds=30)
    found = failure(silent_stream, server)
    assert found.code is grpc.StatusCode.UNAVAILABLE
    assert "too many pings" in found.text.lower()


def test_the_client_notices_a_server_that_is_gone_without_a_word(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch, server=False)
    server = start()
    caller = server.new_caller()
    with Relay(server.address) as relay, open_channel(parse_url(f"http://{relay.address}/")) as channel:
        stub = auth_grpc.AuthServiceStub(channel)

        def ask() -> None:  # grpc repeats no login
            stub.Login(auth_pb.LoginRequest(email=caller.email, password=PASSWORD), timeout=60)

        ask()
        relay.silence()
        began = time.monotonic()
        assert code_of(ask) is grpc.StatusCode.UNAVAILABLE
        assert time.monotonic() - began < 30, "long before the deadline"


def test_the_server_notices_a_client_that_is_gone_without_a_word(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch, client=False)
    server = start(max_streams=1, stream_idle_seconds=600)
    caller = server.new_caller()
    with Relay(server.address) as relay:
        gone = type(caller)(relay.address, caller.email, caller.api_key)
        stream = OpenStream(gone)
        stream.send("before the cable was cut")
        wait_until(lambda: len(caller.get(user_id="u").interactions) == 1, "the stream to be open")
        assert code_of(lambda: caller.stream([])) is grpc.StatusCode.RESOURCE_EXHAUSTED
        relay.silence()
        wait_until(
            lambda: code_of(lambda: caller.stream([])) is grpc.StatusCode.OK,
            "its place to be free again, long before the deadline",
            seconds=30,
        )
