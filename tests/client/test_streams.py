"""Several requests in a message where the server takes them, and unary calls where it has no place for streams."""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import grpc
import pytest

import reflexio
from reflexio import wire
from reflexio.streams import PACKED_BYTES, pack
from reflexio.v1 import interaction_service_pb2 as pb
from tests.client.scripted_server import ERASED, KEY, ScriptedServer, eventually, fail, info, retry_after, verdict
from tests.support import Caller, LocalServer
from tests.wire import OpenStream, everything, say, seeded, wait_until

STREAM, UNARY = "PublishInteractionStream", "PublishInteractions"
Code = grpc.StatusCode
Publish = Callable[[str, list[dict[str, Any]]], reflexio.Counts]


def no_place(seconds: float) -> Any:
    return fail(Code.RESOURCE_EXHAUSTED, "too many streams", info("TOO_BUSY", limit="streams"), retry_after(seconds))


def items(*names: str) -> list[dict[str, Any]]:
    return [{"user_id": "ada", "interactions": [{"content": name}], "request_id": name} for name in names]


def numbered(number: int) -> list[dict[str, Any]]:
    return items(*(str(i) for i in range(number)))


def by_outbox(url: str, key: str, requests: list[dict[str, Any]]) -> reflexio.Counts:
    """In two batches at least, so that the second knows what the first was told."""
    ends: list[reflexio.Delivery] = []
    with reflexio.ReflexioClient(key, url, on_delivery=ends.append) as client:
        for begin, end in ((0, 1), (1, len(requests))):
            for one in requests[begin:end]:
                client.publish_interaction(**one)
            assert client.flush(30).pending == 0
        delivered = client.stats().delivered
    return reflexio.Counts(stored=delivered, rejected=sum(one.error is not None for one in ends))


def in_bulk(url: str, key: str, requests: list[dict[str, Any]]) -> reflexio.Counts:
    with reflexio.ReflexioClient(key, url) as client:
        counts = client.publish_many(requests[:1]).requests
        rest = client.publish_many(requests[1:]).requests
    return added(counts, rest)


def in_bulk_awaited(url: str, key: str, requests: list[dict[str, Any]]) -> reflexio.Counts:
    async def publish() -> reflexio.Counts:
        async with reflexio.AsyncReflexioClient(key, url) as client:
            counts = (await client.publish_many(requests[:1])).requests
            return added(counts, (await client.publish_many(requests[1:])).requests)

    return asyncio.run(publish())


def added(one: reflexio.Counts, two: reflexio.Counts) -> reflexio.Counts:
    return reflexio.Counts(one.stored + two.stored, one.duplicate + two.duplicate, one.rejected + two.rejected)


@pytest.fixture(params=[by_outbox, in_bulk, in_bulk_awaited], ids=["outbox", "publish_many", "awaited"])
def publish(request: pytest.FixtureRequest) -> Callable[[str, str, list[dict[str, Any]]], reflexio.Counts]:
    """Publish the first request, then the others; how many were stored before is not told by the outbox."""
    way: Callable[[str, str, list[dict[str, Any]]], reflexio.Counts] = request.param
    return way


def messages_of(server: ScriptedServer) -> list[tuple[int, int]]:
    """Of each stream the number of requests and of messages."""
    return [(len(call.sent), call.messages) for call in server.calls if call.method == STREAM]


# ---- Packing


def requests_in(messages: list[bytes]) -> list[str]:
    found = []
    for raw in messages:
        message = pb.PublishInteractionStreamRequest.FromString(raw)
        found += [one.request_id for one in message.requests or [message.request]]
    return found


def test_messages_hold_as_many_as_fit_in_their_order() -> None:
    source = seeded()
    for _ in range(50):
        ids = [str(number) for number in range(source.randrange(300))]
        payloads = [_payload(one, source) for one in ids]
        most = source.choice([1, 2, 3, 100])
        messages = list(pack(payloads, most))
        assert requests_in(messages) == ids
        sizes = [len(pb.PublishInteractionStreamRequest.FromString(raw).requests) for raw in messages]
        assert max(sizes, default=0) <= most
        assert 1 not in sizes  # alone it is one that a server of before reads, too
        assert all(len(raw) <= PACKED_BYTES for raw, size in zip(messages, sizes, strict=True) if size > 1)
        for one, other in pairwise(messages):
            assert len(one) + len(other) > PACKED_BYTES or most in (1, sizes[messages.index(one)])


def _payload(request_id: str, source: random.Random) -> bytes:
    request = say(request_id, "x" * source.choice([1, 100, 126, 127, 128, 5000, 20_000, 40_000, 100_000]))
    return pb.PublishInteractionStreamRequest(request=request).SerializeToString()


@pytest.mark.parametrize("damaged", [b"", b"\x0a", b"\x0a\xff", b"\x0a\x05ab", b"\x0a\x01ab", b"\x12\x00", b"\x0a" * 9])
def test_what_is_no_request_goes_alone(damaged: bytes) -> None:
    """Among others it would be taken for another number of requests, and the verdict for one on them."""
    good = pb.PublishInteractionStreamRequest(request=say("x")).SerializeToString()
    messages = list(pack([good, good, damaged, good, good], 100))
    assert messages[1] == damaged
    assert len(messages) == 3


def test_messages_are_packed_once_the_server_said_so(server: ScriptedServer, publish: Any) -> None:
    server.per_message = 7
    assert publish(server.url, KEY, numbered(15)) == reflexio.Counts(stored=15)
    assert messages_of(server)[0] == (1, 1)
    assert sum(messages for _, messages in messages_of(server)[1:]) < 14
    assert len(server.requests) == 15


def test_a_server_of_before_gets_one_in_a_message(server: ScriptedServer, publish: Any) -> None:
    assert publish(server.url, KEY, numbered(15)) == reflexio.Counts(stored=15)
    assert all(requests == messages for requests, messages in messages_of(server))


@pytest.mark.parametrize("fewer", [0, 3])
def test_a_server_that_takes_fewer_in_another_ones_place_costs_nothing(
    server: ScriptedServer, publish: Any, fewer: int
) -> None:
    """Rolled back, or of several behind one address: what it says of what it cannot read is not believed."""
    server.per_message = 100

    def then(sent: Any, context: grpc.ServicerContext) -> Any:
        server.per_message = fewer
        server.script(STREAM, misread)
        return pb.PublishInteractionStreamResponse(
            requests=pb.PublishCounts(stored=1), interactions=pb.PublishCounts(stored=1), requests_per_message=100
        )

    def misread(sent: Any, context: grpc.ServicerContext) -> Any:
        """The verdict on messages that hold more than it takes: each counts as one, which is refused."""
        messages = server.calls[-1].messages
        if messages == len(sent) and all(
            one.request_id for one in sent
        ):  # the outbox had one so far: nothing was packed
            server.script(STREAM, misread)
            for one in sent:
                server.store(one)
            counts = pb.PublishCounts(stored=messages)
            return pb.PublishInteractionStreamResponse(requests=counts, interactions=counts, requests_per_message=100)
        listed = [pb.PublishRejection(index=i, reason="INVALID_FIELD", field="user_id") for i in range(messages)]
        counts = pb.PublishCounts(rejected=messages)
        return pb.PublishInteractionStreamResponse(
            requests=counts, interactions=counts, rejections=listed, requests_per_message=fewer
        )

    server.script(STREAM, then)
    assert publish(server.url, KEY, numbered(15)) == reflexio.Counts(stored=15)
    assert set(server.requests) == {str(number) for number in range(1, 15)}


def test_a_lone_request_is_read_by_a_server_of_before_in_another_ones_place(
    server: ScriptedServer, publish: Any
) -> None:
    def then(sent: Any, context: grpc.ServicerContext) -> Any:
        server.per_message = 0
        counts = pb.PublishCounts(stored=1)
        return pb.PublishInteractionStreamResponse(requests=counts, interactions=counts, requests_per_message=100)

    server.script(STREAM, then)
    assert publish(server.url, KEY, numbered(2)) == reflexio.Counts(stored=2)
    assert set(server.requests) == {"1"}


def test_packed_requests_reach_a_real_server_in_order(server_of: LocalServer, publish: Any) -> None:
    caller = server_of.new_caller()
    requests = numbered(250)
    url = f"http://{server_of.address}/"
    assert publish(url, caller.api_key, requests) == reflexio.Counts(stored=250)
    stored = everything(caller, order=pb.ORDER_OLDEST_FIRST)
    assert sorted((item.sequence, item.content) for item in stored) == [
        (number + 1, str(number)) for number in range(250)
    ]


@pytest.fixture
def server_of(start: Callable[..., LocalServer]) -> LocalServer:
    return start()


# ---- No place for streams


@pytest.fixture
def crowded(start: Callable[..., LocalServer]) -> Iterator[tuple[Caller, list[OpenStream]]]:
    """A caller of a server whose places for streams others hold, one each, and these streams."""
    server = start(max_streams=4, workers=32)
    with ExitStack() as opened:
        streams = []
        for _ in range(4):
            other = server.new_caller()
            stream = OpenStream(other)
            stream.send("r")
            opened.callback(stream.call.cancel)
            streams.append(stream)
            wait_until(lambda other=other: len(everything(other)) == 1, "its stream to be open")  # type: ignore[misc]
        yield server.new_caller(), streams


def test_others_hold_all_places_and_everything_arrives(crowded: tuple[Caller, list[OpenStream]], publish: Any) -> None:
    caller, streams = crowded
    assert publish(f"http://{caller.address}/", caller.api_key, numbered(40)) == reflexio.Counts(stored=40)
    stored = everything(caller, order=pb.ORDER_OLDEST_FIRST)
    assert [item.content for item in sorted(stored, key=lambda item: item.sequence)] == [str(i) for i in range(40)]
    assert not any(stream.call.done() for stream in streams)


def test_a_stream_is_tried_again_when_the_server_said(server: ScriptedServer) -> None:
    server.script(STREAM, no_place(0.3))
    with reflexio.ReflexioClient(KEY, server.url) as client:
        client.publish_interaction(**items("a")[0])
        eventually(lambda: "a" in server.requests)
        assert [call.method for call in server.calls] == [STREAM, UNARY]
        asyncio.run(asyncio.sleep(0.35))
        client.publish_interaction(**items("b")[0])
        eventually(lambda: "b" in server.requests)
    assert [call.method for call in server.calls] == [STREAM, UNARY, STREAM]


def test_the_rest_of_a_batch_goes_by_the_next_stream(server: ScriptedServer) -> None:
    """One by one only until streams may be tried again."""
    server.script(STREAM, no_place(0))
    with reflexio.ReflexioClient(KEY, server.url) as client:
        assert client.publish_many(numbered(30)).requests == reflexio.Counts(stored=30)
    assert (server.count(STREAM), server.count(UNARY)) == (2, 1)


def test_what_unary_calls_meet_is_a_verdict_like_a_streams(server: ScriptedServer, publish: Any) -> None:
    """Refused ones are told by their position; what may pass ends the batch and is sent again."""
    for _ in range(2):  # by either publish_many
        server.script(STREAM, no_place(30))
    requests = numbered(9)
    wrong = fail(Code.INVALID_ARGUMENT, "wrong", info("INVALID_FIELD"))
    server.erased.add("4")
    away = fail(Code.UNAVAILABLE, "away")

    def act(sent: pb.PublishInteractionsRequest, context: grpc.ServicerContext) -> Any:
        if sent.request_id == "6":
            return wrong(sent, context)
        if sent.request_id == "7" and away_left:
            return away_left.pop()(sent, context)
        became = server.store(sent)
        if became == "rejected":
            return ERASED(sent, context)
        return pb.PublishInteractionsResponse(request_id=sent.request_id, interaction_ids=["i"])

    away_left = [away]
    server.always(UNARY, act)
    assert publish(server.url, KEY, requests) == reflexio.Counts(stored=7, rejected=2)
    assert set(server.requests) == {one["request_id"] for one in requests} - {"4", "6"}


def test_a_channel_that_is_closed_between_two_calls_leaves_a_verdict_on_those_before(server: ScriptedServer) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:

        def payloads() -> Iterator[bytes]:
            for name in "abc":
                if name == "c":
                    channel.close()
                yield pb.PublishInteractionStreamRequest(request=say(name)).SerializeToString()

        verdict = wire._one_by_one(channel, payloads(), 20, ())  # type: ignore[arg-type]
        assert verdict.requests == pb.PublishCounts(stored=2)


def test_another_thing_there_is_too_much_of_is_waited_for(server: ScriptedServer) -> None:
    server.script(STREAM, fail(Code.RESOURCE_EXHAUSTED, "busy", info("TOO_BUSY", limit="calls"), retry_after(0.05)))
    server.script(STREAM, verdict(3))
    with reflexio.ReflexioClient(KEY, server.url) as client:
        assert client.publish_many(numbered(3)).requests.stored == 3
    assert (server.count(STREAM), server.count(UNARY)) == (2, 0)
