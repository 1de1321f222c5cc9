"""Reading in the order of time: order, pages, filters, ids, sizes, pictures."""

import hashlib
import random
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.core.listing import PAGE_BYTES
from tests.reference import fill, newest_first, random_scope, selected
from tests.support import Caller, LocalServer
from tests.wire import MIB, MICROS, NEVER_STORED, everything, expect, failure, publish, seeded, timestamp

pytestmark = pytest.mark.store

Say = noun.InteractionData
CLICK = noun.USER_ACTION_CLICK  # an interaction without text makes no work for the index
MOST = 3 * MIB


def ids(items: Any) -> list[str]:
    return [item.interaction_id for item in items]


def pages(caller: Caller, **fields: Any) -> list[pb.GetInteractionsResponse]:
    """Every page, each at most as large as any client can receive."""
    found = [caller.get(**fields)]
    while found[-1].next_page_token:
        found.append(caller.get(page_token=found[-1].next_page_token, **fields))
    assert max(page.ByteSize() for page in found) <= MOST
    return found


def test_order_is_by_time_and_ties_by_id(caller: Caller) -> None:
    times = [MICROS, MICROS + 5, MICROS, MICROS - 5, MICROS + 5, MICROS]
    for number in range(3):
        items = [Say(user_action=CLICK, created_at=timestamp(when)) for when in times]
        publish(caller, f"user {number}", *items)
    newest = list(caller.get(page_size=100).interactions)
    assert newest == sorted(newest, key=newest_first)
    assert len(newest) == 18
    assert list(caller.get(page_size=100, order=pb.ORDER_NEWEST_FIRST).interactions) == newest
    assert list(caller.get(page_size=100, order=pb.ORDER_OLDEST_FIRST).interactions) == newest[::-1]


def test_a_page_has_30_unless_asked_otherwise_and_an_empty_one_is_the_last(caller: Caller) -> None:
    assert caller.get() == caller.get(user_id="nobody") == pb.GetInteractionsResponse()
    publish(caller, "u", *[Say(user_action=CLICK)] * 30)
    assert len(caller.get().interactions) == 30
    assert not caller.get().next_page_token
    publish(caller, "u", Say(user_action=CLICK))
    assert [len(page.interactions) for page in pages(caller)] == [30, 1]
    assert [len(page.interactions) for page in pages(caller, page_size=31)] == [31]


@pytest.mark.parametrize("oldest", [False, True], ids=["newest first", "oldest first"])
def test_2500_in_pages_that_stay_as_they_were_while_more_arrive(caller: Caller, oldest: bool) -> None:
    order = pb.ORDER_OLDEST_FIRST if oldest else pb.ORDER_NEWEST_FIRST
    source = random.Random(1)
    times = [MICROS + source.randrange(500) for _ in range(2500)]
    for start in range(0, 2500, 500):
        publish(caller, "u", *[Say(user_action=CLICK, created_at=timestamp(when)) for when in times[start:][:500]])
    before = everything(caller, user_id="u", order=order)
    assert len(set(ids(before))) == 2500
    assert before == sorted(before, key=newest_first, reverse=oldest)

    found: list[noun.Interaction] = []
    token = ""
    while len(found) < 2500:
        page = caller.get(user_id="u", order=order, page_size=source.choice((1, 100, 1000)), page_token=token)
        assert page.interactions
        found += page.interactions
        token = page.next_page_token
        publish(caller, "u", *[Say(user_action=CLICK, created_at=timestamp(MICROS + step)) for step in (-1, 250, 999)])
    assert not token
    assert ids(found) == ids(before)
    assert len(everything(caller, user_id="u")) > 2500


def test_the_most_recent_stay_the_same_from_page_to_page(caller: Caller) -> None:
    publish(caller, "u", *[Say(user_action=CLICK) for _ in range(60)])
    wanted = {"user_id": "u", "filter": pb.InteractionFilter(most_recent_k=50), "page_size": 20}
    expected = ids(everything(caller, user_id="u"))[:50]
    page = caller.get(**wanted)
    found = ids(page.interactions)
    while page.next_page_token:
        publish(caller, "u", Say(user_action=CLICK))
        page = caller.get(page_token=page.next_page_token, **wanted)
        found += ids(page.interactions)
    assert found == expected


def test_filters_mean_what_a_plain_model_says(caller: Caller) -> None:
    source = seeded()
    stored = fill(caller, source, 100)
    sizes = set()
    for _ in range(250):
        scope = random_scope(source, 100)
        expected = selected(stored, scope)
        oldest = source.random() < 0.5
        order = pb.ORDER_OLDEST_FIRST if oldest else pb.ORDER_UNSPECIFIED
        size = source.choice((1000, max(1, len(expected)), max(1, len(expected) - 1), max(20, len(expected) // 3)))
        found = [item for page in pages(caller, order=order, page_size=size, **scope) for item in page.interactions]
        assert ids(found) == ids(expected[::-1] if oldest else expected), (scope, order, size)
        sizes.add(len(expected))
    assert len(sizes) > 20, "the filters must not all mean everything or nothing"


def test_start_is_inclusive_and_end_is_exclusive(caller: Caller) -> None:
    publish(caller, "u", *[Say(user_action=CLICK, created_at=timestamp(MICROS + step)) for step in range(5)])
    wanted = pb.InteractionFilter(start_time=timestamp(MICROS + 1), end_time=timestamp(MICROS + 3))
    found = caller.get(user_id="u", filter=wanted, order=pb.ORDER_OLDEST_FIRST).interactions
    assert [item.sequence for item in found] == [2, 3]


def test_by_ids_those_that_are_there_in_order_and_the_others_named(caller: Caller) -> None:
    mine = list(publish(caller, "u", *[Say(user_action=CLICK)] * 5).interaction_ids)
    others = list(publish(caller, "v", *[Say(user_action=CLICK)] * 5).interaction_ids)
    asked = [mine[3], "no id at all", others[0], mine[1], NEVER_STORED, mine[3]]
    answer = caller.get(interaction_ids=asked)
    assert ids(answer.interactions) == [others[0], mine[3], mine[1]]
    assert list(answer.missing_interaction_ids) == ["no id at all", NEVER_STORED]
    oldest = caller.get(interaction_ids=asked, order=pb.ORDER_OLDEST_FIRST)
    assert ids(oldest.interactions) == [mine[1], mine[3], others[0]]

    answer = caller.get(user_id="u", interaction_ids=asked)
    assert ids(answer.interactions) == [mine[3], mine[1]]
    assert list(answer.missing_interaction_ids) == ["no id at all", others[0], NEVER_STORED]
    answer = caller.get(user_id="nobody", interaction_ids=mine)
    assert list(answer.missing_interaction_ids) == mine

    first, *later = pages(caller, interaction_ids=asked, page_size=1)
    assert list(first.missing_interaction_ids) == ["no id at all", NEVER_STORED]
    assert [ids(page.interactions) for page in (first, *later)] == [[others[0]], [mine[3]], [mine[1]]]
    assert not any(page.missing_interaction_ids for page in later)


def largest(number: int) -> pb.PublishInteractionsRequest:
    """A request with one interaction whose every text is as long as it may be."""
    item = Say(
        role="é" * 64,
        content=f"{number:5}" + "x" * (65_536 - 5),
        user_action=CLICK,
        user_action_description="d" * 4096,
        interacted_image_url="u" * 2048,
        created_at=timestamp(-62_135_596_800_000_000 + number),
    )
    name = f"{number:5}" + "n" * 251
    return pb.PublishInteractionsRequest(
        user_id=name, request_id=name, request_group=name, agent_version=name, source="s" * 128, interactions=[item]
    )


def test_pages_of_large_interactions_stay_below_3_mib(start: Any) -> None:
    caller = start().new_caller()  # its index would be busy for long
    assert caller.stream([largest(number) for number in range(100)]).requests.stored == 100
    found = pages(caller, page_size=1000)
    assert [item.sequence for page in found for item in page.interactions] == list(range(100, 0, -1))
    assert len(found) == 3, "pages are full"
    some = ids(found[0].interactions)[:7]
    made_up = [f"{number:064}" for number in range(993)]
    (page,) = pages(caller, interaction_ids=some + made_up, page_size=1000)
    assert (len(page.interactions), len(page.missing_interaction_ids)) == (7, 993)


def test_pictures_end_a_page_where_it_would_grow_over_3_mib(caller: Caller) -> None:
    pictures = [bytes([number]) * MIB for number in range(5)]
    publish(caller, "u", *[Say(image=picture) for picture in pictures])
    found = pages(caller, include_images=True, order=pb.ORDER_OLDEST_FIRST)
    assert [item.image.data for page in found for item in page.interactions] == pictures
    assert [len(page.interactions) for page in found] == [2, 2, 1]
    (without,) = pages(caller)
    assert not any(item.image.data or item.image.data_omitted for item in without.interactions)


@pytest.mark.parametrize("size", [PAGE_BYTES - 1000, PAGE_BYTES - 450, PAGE_BYTES - 400, PAGE_BYTES, 3 * MIB, 8 * MIB])
def test_a_picture_that_fits_no_page_is_streamed(caller: Caller, size: int) -> None:
    picture = random.Random(size).randbytes(size)
    small = publish(caller, "u", Say(user_action=CLICK)).interaction_ids[0]
    large = publish(caller, "u", Say(image=picture)).interaction_ids[0]
    found = [item for page in pages(caller, include_images=True) for item in page.interactions]
    assert ids(found) == [large, small]
    asked = [large, small, *(f"{number:064}" for number in range(998))]
    pages(caller, interaction_ids=asked, include_images=True)
    image = found[0].image
    assert image.data_omitted == (size > PAGE_BYTES - 450)
    assert image.data == (b"" if image.data_omitted else picture)
    assert (image.size_bytes, image.sha256) == (size, hashlib.sha256(picture).digest())

    request = pb.GetImageRequest(interaction_id=large)
    parts = list(caller.interactions.GetImage(request, metadata=caller.metadata))
    assert b"".join(part.data for part in parts) == picture
    assert {len(part.data) for part in parts[:-1]} <= {MIB}
    assert len(parts[-1].data) <= MIB
    assert [part.HasField("image") for part in parts] == [True] + [False] * (len(parts) - 1)
    assert (parts[0].image.sha256, parts[0].image.size_bytes, parts[0].image.data) == (image.sha256, size, b"")


def test_an_interaction_without_a_picture_has_none_to_stream(caller: Caller, server: LocalServer) -> None:
    (without,) = publish(caller, "u", Say(user_action=CLICK)).interaction_ids
    for interaction_id in (without, NEVER_STORED, "no id at all"):
        request = pb.GetImageRequest(interaction_id=interaction_id)
        found = failure(lambda asked=request: list(caller.interactions.GetImage(asked, metadata=caller.metadata)))
        expect(found, grpc.StatusCode.NOT_FOUND, "NOT_FOUND", resource="image")


def test_a_bound_between_two_microseconds_means_the_upper_one(caller: Caller) -> None:
    publish(caller, "finer", Say(content="at", created_at=timestamp(MICROS)))
    between = Timestamp(seconds=MICROS // 1_000_000, nanos=500)
    assert not caller.get(user_id="finer", filter=pb.InteractionFilter(start_time=between)).interactions
    assert caller.get(user_id="finer", filter=pb.InteractionFilter(end_time=between)).interactions
