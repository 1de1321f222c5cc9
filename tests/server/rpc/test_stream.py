"""Publishing through a client stream: the verdict, whatever was sent, and however the stream ends."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.rpc.publish_messages import MOST_FIELDS, MOST_REQUESTS, Batch
from reflexio_server.rpc.publish_stream import READ_AHEAD_BYTES, READ_AHEAD_REQUESTS, ReadAhead
from tests.support import Caller, LocalServer, log_in
from tests.wire import MIB, RPCS, OpenStream, blocked_writer, call_raw, everything, say, seeded, wait_until

pytestmark = pytest.mark.store

Say = noun.InteractionData
STREAM = RPCS["reflexio.v1.InteractionService.PublishInteractionStream"]
Start = Callable[..., LocalServer]


def wire(request: pb.PublishInteractionsRequest) -> bytes:
    return pb.PublishInteractionStreamRequest(request=request).SerializeToString()


def packed(raws: list[bytes], source: random.Random) -> list[bytes]:
    """The same requests, several in a message where that can be."""
    messages: list[bytes] = []
    room = 0  # in the last of them
    for raw in raws:
        if not raw.startswith(b"\x0a") or raw == BROKEN:
            messages.append(raw)
            room = 0
            continue
        if not room:
            messages.append(b"")
            room = source.choice([1, 2, 7, MOST_REQUESTS])
        messages[-1] += b"\x12" + raw[1:]  # the other field, of the same type
        room -= 1
    return messages


def verdict_on(caller: Caller, raws: list[bytes]) -> pb.PublishInteractionStreamResponse:
    (answer,) = call_raw(caller.channel, STREAM, raws, caller.metadata)
    verdict = pb.PublishInteractionStreamResponse.FromString(answer)
    assert verdict.end_reason == pb.END_REASON_COMPLETE
    assert len(answer) < 3 * MIB
    return verdict


def counts(counted: pb.PublishCounts) -> tuple[int, int, int]:
    return counted.stored, counted.duplicate, counted.rejected


def good(number: int) -> pb.PublishInteractionsRequest:
    request = say(f"good {number}", user_id=f"user {number % 7}")
    request.interactions.extend([Say(content="more")] * (number % 3))
    return request


def bad(**fields: object) -> pb.PublishInteractionsRequest:
    request = say(f"bad {sorted(fields)}")
    for name, value in fields.items():
        setattr(request, name, value)
    return request


Expected = tuple[str, str, str]  # request_id, reason, field


BROKEN = wire(good(0))[:-1]


def refused() -> list[tuple[bytes, Expected, int]]:
    """Messages that must be refused: bytes, what is said of them, how many interactions they hold."""
    empty = say("carries nothing")
    empty.interactions.append(Say(role="Agent"))
    long = say("over a limit")
    long.interactions[0].role = "x" * 129
    requests = [
        (bad(user_id=""), "INVALID_FIELD", "user_id"),
        (empty, "INVALID_FIELD", "interactions[1]"),
        (long, "LIMIT_EXCEEDED", "interactions[0].role"),
        (bad(request_id=""), "INVALID_FIELD", "request_id"),
        (bad(wait_until=pb.WAIT_UNTIL_SEARCHABLE), "INVALID_FIELD", "wait_until"),
        (bad(wait_until=pb.WAIT_UNTIL_STORED), "INVALID_FIELD", "wait_until"),
        (pb.PublishInteractionsRequest(user_id="u", request_id="none"), "INVALID_FIELD", "interactions"),
        (say("good 0", "another body"), "REQUEST_ID_REUSED", "request_id"),
    ]
    made = [(wire(one), (one.request_id, reason, field), len(one.interactions)) for one, reason, field in requests]
    made.append((b"", ("", "INVALID_FIELD", "request"), 0))
    made.append((wire(pb.PublishInteractionsRequest()), ("", "INVALID_FIELD", "user_id"), 0))
    for raw in (b"\xff" * 9, b"\x0a\x03\x0a\x01\xff", BROKEN):
        made.append((raw, ("", "MALFORMED_MESSAGE", ""), 0))
    return made


@pytest.mark.parametrize("pack", [False, True], ids=["one in a message", "several in a message"])
def test_2000_requests_with_bad_ones_and_duplicates_among_them(caller: Caller, pack: bool) -> None:
    source = seeded()
    items: list[tuple[bytes, Expected | None, int]] = [
        (wire(good(number)), None, 1 + number % 3) for number in range(2000)
    ]
    twice = [items[source.randrange(2000)] for _ in range(10)]
    for item in refused():
        items.insert(source.randrange(1, len(items)), item)
    items += twice
    raws = [raw for raw, _, _ in items]
    verdict = verdict_on(caller, packed(raws, source) if pack else raws)

    rejected = {index: expected for index, (_, expected, _) in enumerate(items) if expected}
    assert {one.index: (one.request_id, one.reason, one.field) for one in verdict.rejections} == rejected
    assert [one.index for one in verdict.rejections] == sorted(rejected)
    assert all(one.message for one in verdict.rejections)
    assert counts(verdict.requests) == (2000, 10, len(rejected))
    in_good = sum(1 + number % 3 for number in range(2000))
    in_twice = sum(size for _, _, size in twice)
    assert counts(verdict.interactions) == (in_good, in_twice, sum(size for _, expected, size in items if expected))

    again = verdict_on(caller, raws if pack else packed(raws, source))
    assert counts(again.requests) == (0, 2010, len(rejected))
    assert again.rejections == verdict.rejections
    stored = Counter(item.request_id for item in everything(caller))
    assert stored == {f"good {number}": 1 + number % 3 for number in range(2000)}


def test_one_id_twice_in_a_stream_the_first_body_counts(caller: Caller) -> None:
    verdict = verdict_on(caller, [wire(say("a", "one")), wire(say("a", "one")), wire(say("a", "two"))])
    assert counts(verdict.requests) == (1, 1, 1)
    assert [(one.index, one.reason) for one in verdict.rejections] == [(2, "REQUEST_ID_REUSED")]
    assert [item.content for item in everything(caller)] == ["one"]


def test_several_in_a_message_are_requests_like_any_other(caller: Caller) -> None:
    both = pb.PublishInteractionStreamRequest(request=good(1), requests=[good(2)])
    many = pb.PublishInteractionStreamRequest(requests=[good(number) for number in range(MOST_REQUESTS + 1)])
    fine = pb.PublishInteractionStreamRequest(requests=many.requests[1:])
    verdict = verdict_on(caller, [one.SerializeToString() for one in (both, many, fine)])
    assert verdict.requests_per_message == MOST_REQUESTS
    assert [(one.index, one.reason, one.field) for one in verdict.rejections] == [
        (0, "INVALID_FIELD", "requests"),
        (1, "LIMIT_EXCEEDED", "requests"),
    ]
    assert "combined with request" in verdict.rejections[0].message
    assert f"at most {MOST_REQUESTS}" in verdict.rejections[1].message
    assert counts(verdict.requests) == (MOST_REQUESTS, 0, 2)
    listed = everything(caller, order=pb.ORDER_OLDEST_FIRST)
    assert list(dict.fromkeys(item.request_id for item in listed)) == [one.request_id for one in fine.requests]


def test_what_one_request_of_a_message_holds_too_much_costs_no_neighbour(caller: Caller) -> None:
    """Fields are bounded by request: together they may have more."""
    full = [good(number) for number in range(2 + MOST_FIELDS // 999)]
    for one in full:
        one.interactions.extend([Say(content="x")] * (999 - len(one.interactions)))
    many = say("many")
    many.interactions.extend([Say()] * 2 * MOST_FIELDS)
    message = pb.PublishInteractionStreamRequest(requests=full).SerializeToString()
    verdict = verdict_on(caller, [message, *packed([wire(say("a")), wire(many), wire(say("b"))], seeded())])
    assert counts(verdict.requests) == (len(full) + 2, 0, 1)
    assert [(one.index, one.reason, one.field) for one in verdict.rejections] == [
        (len(full) + 1, "LIMIT_EXCEEDED", "interactions")
    ]


def test_an_empty_stream_is_complete(caller: Caller) -> None:
    verdict = verdict_on(caller, [])
    assert counts(verdict.requests) == counts(verdict.interactions) == (0, 0, 0)


def test_of_more_than_1000_rejections_the_first_1000_are_listed_and_all_counted(caller: Caller) -> None:
    longest = "\U0001f642" * 20_000  # itself over the limit: what comes back of it is cut
    verdict = verdict_on(caller, [wire(say(longest))] * 1200 + [wire(say("good"))])
    assert counts(verdict.requests) == counts(verdict.interactions) == (1, 0, 1200)
    assert [one.index for one in verdict.rejections] == list(range(1000))
    assert {one.field for one in verdict.rejections} == {"request_id"}
    assert all(longest.startswith(one.request_id) and one.request_id for one in verdict.rejections)


def test_streams_at_once_share_their_request_ids(start: Start) -> None:
    """Also with a write queue of one: a stream waits where a unary call would be refused."""
    caller = start(write_queue=1).new_caller()
    requests = [good(number) for number in range(150)]
    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(lambda _: caller.stream(requests), range(8)))
    assert sum(verdict.requests.stored for verdict in verdicts) == 150
    assert sum(verdict.requests.duplicate for verdict in verdicts) == 150 * 7
    assert not any(verdict.rejections for verdict in verdicts)
    assert len(everything(caller)) == sum(len(request.interactions) for request in requests)


def count_of(caller: Caller) -> int:
    return len(everything(caller))


def test_a_stream_that_sends_nothing_for_too_long_ends_idle(start: Start) -> None:
    caller = start(stream_idle_seconds=0.5).new_caller()
    stream = OpenStream(caller)
    stream.send("one", "two", "two")
    verdict = stream.call.result(30)
    assert verdict.end_reason == pb.END_REASON_IDLE
    assert counts(verdict.requests) == (2, 1, 0)
    assert count_of(caller) == 2
    assert verdict_on(caller, [wire(say("two")), wire(say("three"))]).requests.stored == 1


def test_a_stream_gets_its_verdict_when_the_server_stops(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "data")
    caller = server.new_caller()
    ids = [str(number) for number in range(20)]
    stream = OpenStream(caller)
    stream.send(*ids)
    wait_until(lambda: count_of(caller) == 20, "the requests to be stored")
    server.stop()
    verdict = stream.call.result(0)
    assert verdict.end_reason == pb.END_REASON_DRAINING
    assert counts(verdict.requests) == (20, 0, 0)

    caller = log_in(start(tmp_path / "data").address, caller.email)
    verdict = verdict_on(caller, [wire(say(request_id)) for request_id in (*ids, "rest")])
    assert counts(verdict.requests) == (1, 20, 0)


def test_a_cancelled_stream_keeps_what_was_committed(caller: Caller) -> None:
    ids = [str(number) for number in range(50)]
    stream = OpenStream(caller)
    stream.send(*ids)
    wait_until(lambda: count_of(caller) == 50, "the requests to be stored")
    assert stream.call.cancel()
    verdict = verdict_on(caller, [wire(say(request_id)) for request_id in (*ids, "rest")])
    assert counts(verdict.requests) == (1, 50, 0)


@pytest.mark.parametrize(
    ("size", "most"), [(1, READ_AHEAD_REQUESTS // 2 + 1), (READ_AHEAD_BYTES // 4, 5)], ids=["requests", "bytes"]
)
def test_reading_ahead_is_bounded(size: int, most: int) -> None:
    """`most`: how many pairs of requests wait for the handler, and one more in the reader's hand."""
    batch = Batch([pb.PublishInteractionsRequest()] * 2, size)
    seen = SimpleNamespace(read=0, allowed=most)
    beyond = threading.Event()

    def batches() -> Iterator[Batch]:
        for _ in range(3 * most):
            seen.read += 1
            if seen.read > seen.allowed:
                beyond.set()
            yield batch

    ahead = ReadAhead(batches())
    taken = 0
    while taken < 3 * most:
        wait_until(lambda: seen.read == min(seen.allowed, 3 * most), "the reader to fill its room")
        assert not beyond.wait(0.05)
        seen.allowed = 3 * most  # while taking, it may read on
        taken += len(ahead.take(10) or []) // 2
        seen.allowed = max(seen.read, taken + most)
    assert ahead.take(10) is None
    ahead.abandon()


def test_a_server_that_cannot_write_slows_its_client_down(start: Start) -> None:
    server = start()
    caller = server.new_caller()
    sent = 0

    def messages() -> Iterator[pb.PublishInteractionStreamRequest]:
        nonlocal sent
        for number in range(500):
            sent += 1
            picture = Say(image=number.to_bytes(2, "big") * 50_000)
            request = pb.PublishInteractionsRequest(user_id="u", request_id=str(number), interactions=[picture])
            yield pb.PublishInteractionStreamRequest(request=request)

    with blocked_writer(server):
        call = caller.interactions.PublishInteractionStream.future(messages(), metadata=caller.metadata, timeout=60)
        paused = threading.Event()
        before = -1
        while before != sent:
            before = sent
            paused.wait(0.3)
        assert sent * 100_000 < 4 * READ_AHEAD_BYTES, "what is in hand, what waits, and what grpc buffers"
    assert counts(call.result().requests) == (500, 0, 0)
