"""Reading requests by thread: order, pages, filters, sizes, pictures; and an older store."""

import base64
import itertools
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

import reflexio
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from tests.reference import Threads, fill, pages, random_requests_scope, selected_requests, threads
from tests.support import Caller, LocalServer
from tests.wire import MIB, MICROS, expect, failure, publish, seeded, timestamp, to_first_schema

pytestmark = pytest.mark.store

Say = noun.InteractionData
CLICK = noun.USER_ACTION_CLICK  # an interaction without text makes no work for the index


def names(found: Threads) -> list[tuple[str, list[str]]]:
    return [(name, [request_id for request_id, _ in requests]) for name, requests in found]


def say(caller: Caller, request_id: str, step: int, group: str = "", items: int = 1, user_id: str = "u") -> None:
    """A request whose interactions happened from `step` microseconds on."""
    actions = [Say(user_action=CLICK, created_at=timestamp(MICROS + step + number)) for number in range(items)]
    publish(caller, user_id, *actions, request_id=request_id, request_group=group)


def test_threads_by_their_newest_request_and_requests_newest_first(caller: Caller) -> None:
    for request_id, step, group in (
        ("a", 10, "trip"),
        ("b", 20, ""),
        ("c", 30, "order"),
        ("d", 15, ""),
        ("e", 25, "trip"),
        ("f", 5, "order"),
        ("g", 20, ""),
    ):
        say(caller, request_id, step, group, items=2)
    say(caller, "other", 100, "trip", user_id="v")
    expected = [("order", ["c", "f"]), ("trip", ["e", "a"]), ("", ["g"]), ("", ["b"]), ("", ["d"])]
    assert names(threads(pages(caller, user_id="u"))) == expected
    for size in (1, 2, 3, 1000):
        found = pages(caller, user_id="u", page_size=size)
        assert names(threads(found)) == expected
        counts = [sum(len(group.requests) for group in page.request_groups) for page in found]
        assert counts == [size] * (7 // size) + [7 % size] * (7 % size > 0)
    assert names(threads(pages(caller, user_id="v"))) == [("trip", ["other"])]
    assert caller.get_requests(user_id="nobody") == pb.GetRequestsResponse()


def test_a_request_says_what_it_is_and_has_its_interactions_in_order(caller: Caller) -> None:
    items = [
        Say(role="Agent", content="two", created_at=timestamp(MICROS + 2)),
        Say(content="one", created_at=timestamp(MICROS + 1)),
        Say(content="two again", created_at=timestamp(MICROS + 2)),
    ]
    names = {"request_id": "r", "request_group": "g", "source": "chat", "agent_version": "7"}
    publish(caller, "u", *items, **names)
    (group,) = caller.get_requests(user_id="u").request_groups
    (one,) = group.requests
    assert group.request_group == "g"
    assert not one.continues
    head = one.request
    assert (head.user_id, head.request_id, head.request_group) == ("u", "r", "g")
    assert (head.source, head.agent_version) == ("chat", "7")
    assert head.created_at == timestamp(MICROS + 1)
    assert head.stored_at == one.interactions[0].stored_at
    stored = caller.get(user_id="u", order=pb.ORDER_OLDEST_FIRST)
    assert list(one.interactions) == list(stored.interactions)
    assert [item.content for item in one.interactions] == ["one", "two", "two again"]


def test_filters_mean_what_a_plain_model_says(caller: Caller) -> None:
    source = seeded()
    stored = fill(caller, source, 120)
    sizes = set()
    for _ in range(150):
        scope = random_requests_scope(source, 120)
        expected = selected_requests(stored, scope)
        found = pages(caller, page_size=source.choice((1000, 7, 2, 1)), **scope)
        assert threads(found) == expected, scope
        sizes.add(len(expected))
    assert len(sizes) > 5, "the filters must not all mean everything or nothing"


def test_pages_stay_as_they_were_while_more_arrives(caller: Caller) -> None:
    source = random.Random(1)
    for number in range(60):
        say(caller, f"r{number}", source.randrange(100), source.choice(("", "trip", "order")))
    expected = threads(pages(caller, user_id="u", page_size=1000))
    found = [caller.get_requests(user_id="u", page_size=7)]
    while token := found[-1].next_page_token:
        number = len(found)
        say(caller, f"later {number}", source.randrange(200), ("", "trip", "order", "new")[number % 4])
        found.append(caller.get_requests(user_id="u", page_size=7, page_token=token))
    assert len(found) == 9
    assert threads(found) == expected
    assert len(threads(pages(caller, user_id="u"))) > len(expected)


def test_a_page_has_30_unless_asked_otherwise(caller: Caller) -> None:
    for number in range(31):
        say(caller, f"r{number}", number)
    assert [len(page.request_groups) for page in pages(caller, user_id="u")] == [30, 1]


def test_a_request_larger_than_a_page_goes_on_on_the_next(start: Callable[..., LocalServer]) -> None:
    caller = start().new_caller()  # its index would be busy for long
    small, large = ["x" * 60_000] * 10, ["y" * 65_000] * 110
    for name, contents, step in (("old", small, 0), ("large", large, 1), ("middle", small, 2), ("new", small * 4, 3)):
        items = [Say(content=content, created_at=timestamp(MICROS + step * 1000)) for content in contents]
        publish(caller, "u", *items, request_id=name, request_group="g")
    found = pages(caller, user_id="u", page_size=3)
    parts = [[(one.request.request_id, one.continues) for one in page.request_groups[0].requests] for page in found]
    assert parts == [
        [("new", False), ("middle", False)],  # whole requests only, as long as each fits onto a page
        [("large", True)],
        [("large", True)],
        [("large", False), ("old", False)],
    ]
    ((_, requests),) = threads(found)
    assert [(name, len(ids)) for name, ids in requests] == [("new", 40), ("middle", 10), ("large", 110), ("old", 10)]
    everything = [
        item for page in found for group in page.request_groups for one in group.requests for item in one.interactions
    ]
    assert len({item.interaction_id for item in everything}) == 170
    client = reflexio.ReflexioClient(caller.api_key, f"http://{caller.address}/")
    (group,) = client.get_requests(user_id="u", top_k=3).request_groups
    assert [len(one.interactions) for one in group.requests] == [40, 10, 110]
    client.close()


def test_pictures_come_as_far_as_there_is_room(caller: Caller) -> None:
    pictures = [bytes([number]) * MIB for number in range(5)]
    publish(caller, "u", *[Say(image=picture) for picture in pictures], request_id="many")
    publish(caller, "u", Say(image=b"z" * (3 * MIB)), Say(image=b"small"), request_id="large")
    found = pages(caller, user_id="u", include_images=True)
    items = [
        (one.request.request_id, item.image)
        for page in found
        for group in page.request_groups
        for one in group.requests
        for item in one.interactions
    ]
    assert [image.data for name, image in items if name == "many"] == pictures
    assert [(image.data, image.data_omitted) for name, image in items if name == "large"] == [
        (b"", True),
        (b"small", False),
    ]
    (without,) = pages(caller, user_id="u")
    for group in without.request_groups:
        assert not any(item.image.data or item.image.data_omitted for item in group.requests[0].interactions)


def test_what_is_asked_wrongly_is_named(caller: Caller) -> None:
    bad: list[tuple[dict[str, Any], str]] = [
        ({}, "user_id"),
        ({"user_id": "u", "page_size": 1001}, "page_size"),
        ({"user_id": "u", "request_group": "x" * 257}, "request_group"),
        ({"user_id": "u", "request_id": "\0"}, "request_id"),
        ({"user_id": "u", "start_time": Timestamp(seconds=10**12)}, "start_time"),
        ({"user_id": "u", "end_time": Timestamp(nanos=-1)}, "end_time"),
        ({"user_id": "u", "page_token": "junk"}, "page_token"),
    ]
    for fields, field in bad:
        found = failure(caller.get_requests, **fields)
        assert found.code is grpc.StatusCode.INVALID_ARGUMENT
        assert [name for name, _ in found.violations] == [field]


def test_page_tokens_belong_to_their_query(caller: Caller) -> None:
    for number in range(3):
        say(caller, f"r{number}", number, "g")
    token = caller.get_requests(user_id="u", page_size=1).next_page_token
    others: list[dict[str, Any]] = [{"user_id": "v"}, {"user_id": "u", "request_group": "g"}]
    for other in others:
        found = failure(caller.get_requests, page_token=token, **other)
        expect(found, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", violations="1")
        assert "another query" in found.violations[0][1]
    of_interactions = caller.get(user_id="u", page_size=1).next_page_token
    for call, wrong in ((caller.get_requests, of_interactions), (caller.get, token)):
        assert [name for name, _ in failure(call, user_id="u", page_token=wrong).violations] == ["page_token"]
    assert names(threads([caller.get_requests(user_id="u", page_size=9, include_images=True, page_token=token)])) == [
        ("g", ["r1", "r0"])
    ]


def test_a_place_that_nobody_was_given_is_a_place_too(caller: Caller) -> None:
    """Tokens are no secret: who makes one up gets a page of the own requests, or none."""
    for number in range(3):
        say(caller, f"r{number}", number, "g")
    for order, extreme in itertools.product((pb.ORDER_NEWEST_FIRST, pb.ORDER_OLDEST_FIRST), (-(2**63), 2**63 - 1)):
        token = caller.get_requests(user_id="u", page_size=1, order=order).next_page_token
        packed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))[:9]  # whose query it is of
        for places in ((extreme,) * 5, (MICROS, extreme, MICROS, extreme, 2**63 - 1)):
            made = base64.urlsafe_b64encode(packed + struct.pack(">5q", *places)).decode().rstrip("=")
            found = caller.get_requests(user_id="u", page_token=made, order=order)
            assert {group.request_group for group in found.request_groups} <= {"g"}


@pytest.mark.sqlite
def test_a_store_of_the_first_schema_lists_its_requests(tmp_path: Path, start: Callable[..., LocalServer]) -> None:
    """The first one lacks the columns that put requests in an order."""
    server = start(tmp_path)
    caller = server.new_caller()
    for request_id, step, group in (("a", 10, "trip"), ("b", 20, ""), ("c", 5, "trip"), ("d", 10, "")):
        say(caller, request_id, step, group, items=3)
    expected = pages(caller, user_id="u")
    server.stop()
    to_first_schema(tmp_path)
    server = start(tmp_path)
    assert pages(Caller(server.address, caller.email, caller.api_key), user_id="u") == expected
