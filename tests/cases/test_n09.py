"""N9: a conversation reads forward, and roles are matched whatever their case ("not this thread" comes later)."""

import random
from typing import Any

import grpc
import pytest

import reflexio
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from tests.reference import pages, threads
from tests.support import Caller
from tests.wire import MICROS, failure, publish, seeded, timestamp

pytestmark = pytest.mark.store

Say = noun.InteractionData
CLICK = noun.USER_ACTION_CLICK


def act(caller: Caller, request_id: str, step: int, group: str = "", items: int = 2) -> None:
    actions = [Say(user_action=CLICK, created_at=timestamp(MICROS + step + n)) for n in range(items)]
    publish(caller, "u", *actions, request_id=request_id, request_group=group)


def names(found: Any) -> list[tuple[str, list[str]]]:
    return [(name, [request_id for request_id, _ in requests]) for name, requests in found]


def test_threads_and_their_requests_come_oldest_first(caller: Caller) -> None:
    for request_id, step, group in (
        ("a", 10, "trip"),
        ("b", 20, ""),
        ("c", 30, "order"),
        ("d", 15, ""),
        ("e", 25, "trip"),
        ("f", 5, "order"),
    ):
        act(caller, request_id, step, group)
    expected = [("order", ["f", "c"]), ("trip", ["a", "e"]), ("", ["d"]), ("", ["b"])]
    for size in (1, 2, 3, 1000):
        assert names(threads(pages(caller, user_id="u", page_size=size, order=pb.ORDER_OLDEST_FIRST))) == expected
    newest = [("order", ["c", "f"]), ("trip", ["e", "a"]), ("", ["b"]), ("", ["d"])]
    for order in (pb.ORDER_UNSPECIFIED, pb.ORDER_NEWEST_FIRST):
        assert names(threads(pages(caller, user_id="u", order=order))) == newest


def test_the_order_is_the_mirror_whatever_is_stored(caller: Caller) -> None:
    source = seeded()
    for number in range(60):
        act(caller, f"r{number}", source.randrange(1000) * 10, source.choice(("", "a", "b")), source.randrange(1, 4))
    requests = [
        one.request for page in pages(caller, user_id="u") for group in page.request_groups for one in group.requests
    ]
    by_place = sorted(requests, key=lambda one: (one.created_at.seconds, one.created_at.nanos))
    found = pages(caller, user_id="u", page_size=7, order=pb.ORDER_OLDEST_FIRST)
    read = [one for page in found for group in page.request_groups for one in group.requests]
    assert sorted(one.request.request_id for one in read) == sorted(one.request_id for one in requests)
    for name in ("a", "b"):
        assert [one.request.created_at for one in read if one.request.request_group == name] == [
            one.created_at for one in by_place if one.request_group == name
        ]
    for one in read:
        times = [(item.created_at.seconds, item.created_at.nanos) for item in one.interactions]
        assert times == sorted(times)
    heads = [
        group.requests[0].request
        for page in pages(caller, user_id="u", page_size=1000, order=pb.ORDER_OLDEST_FIRST)
        for group in page.request_groups
    ]
    assert [one.created_at.ToMicroseconds() for one in heads] == sorted(
        one.created_at.ToMicroseconds() for one in heads
    )


def test_a_page_token_keeps_its_order_and_its_snapshot(caller: Caller) -> None:
    for number in range(9):
        act(caller, f"r{number}", number * 10)
    first = caller.get_requests(user_id="u", page_size=4, order=pb.ORDER_OLDEST_FIRST)
    found = failure(caller.get_requests, user_id="u", page_size=4, page_token=first.next_page_token)
    assert found.code is grpc.StatusCode.INVALID_ARGUMENT
    act(caller, "later", 1000)
    rest = caller.get_requests(user_id="u", page_size=9, order=pb.ORDER_OLDEST_FIRST, page_token=first.next_page_token)
    read = [one.request.request_id for page in (first, rest) for group in page.request_groups for one in group.requests]
    assert read == [f"r{number}" for number in range(9)]


def test_a_conversation_reads_forward_with_the_client(caller: Caller) -> None:
    with reflexio.ReflexioClient(caller.api_key, f"http://{caller.address}/") as client:
        said = [f"turn {number}" for number in range(10)]
        for number in range(0, 10, 2):
            turns = [
                Say(content=text, created_at=timestamp(MICROS + number * 10 + n))
                for n, text in enumerate(said[number : number + 2])
            ]
            publish(caller, "u", *turns, request_id=f"r{number}", request_group="talk")
        found = client.iter_requests(user_id="u", request_group="talk", order="oldest")
        assert [item.content for one in found for item in one.interactions] == said
        (group,) = client.get_requests(user_id="u", order="oldest", top_k=3).request_groups
        assert [one.request.request_id for one in group.requests] == ["r0", "r2", "r4"]
        (group,) = client.get_requests(user_id="u", top_k=2).request_groups
        assert [one.request.request_id for one in group.requests] == ["r8", "r6"]
        with pytest.raises(reflexio.InvalidArgumentError, match="order"):
            client.get_requests(user_id="u", order="sideways")  # type: ignore[arg-type]


ROLES = [
    "User",
    "user",
    "AGENT",
    "Kundin",
    "ÄRZTIN",
    "Ärztin",
    "ärztin",
    "Straße",
    "STRASSE",
    "Σοφός",
    "ΣΟΦΌΣ",
    "К\u212a",
    "кk",
]


def test_roles_are_matched_whatever_their_case(caller: Caller) -> None:
    publish(
        caller,
        "u",
        *(Say(role=role, content=f"said {n}") for n, role in enumerate(ROLES)),
        wait_until=pb.WAIT_UNTIL_SEARCHABLE,
    )
    source = random.Random(1)
    for asked in [*({role.lower() for role in ROLES}), *({role.upper() for role in ROLES}), "uSeR", "other"]:
        expected = sorted(role for role in ROLES if role.casefold() == asked.casefold())
        chosen = pb.InteractionFilter(roles=[asked])
        whose = {"user_id": "u"} if source.random() < 0.5 else {}
        assert sorted(item.role for item in caller.get(filter=chosen, **whose).interactions) == expected, asked
        for query in ("", "said"):
            hits = caller.search(filter=chosen, query=query, top_k=100, **whose).hits
            assert sorted(hit.interaction.role for hit in hits) == expected, asked
    both = caller.get(filter=pb.InteractionFilter(roles=["USER", "straSSe"])).interactions
    assert sorted(item.role for item in both) == ["STRASSE", "Straße", "User", "user"]
