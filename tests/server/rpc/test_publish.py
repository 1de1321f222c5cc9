"""Publishing one request: what is stored, what is filled in, and what a repetition gives."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import func, select

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.storage.tables import accounts, images
from tests.support import Caller, LocalServer
from tests.wire import MIB, RPCS, call_raw, everything, expect, failure, micros_of, publish, timestamp

pytestmark = pytest.mark.store

Say = noun.InteractionData
PUBLISH = RPCS["reflexio.v1.InteractionService.PublishInteractions"]
PNG = bytes.fromhex("89504e470d0a1a0a0000000d494844520000001e0000000a0806000000")


def stored(caller: Caller, response: pb.PublishInteractionsResponse, **fields: Any) -> list[noun.Interaction]:
    """What was stored, in the order it was sent."""
    found = caller.get(interaction_ids=list(response.interaction_ids), page_size=1000, **fields)
    by_id = {item.interaction_id: item for item in found.interactions}
    return [by_id[interaction_id] for interaction_id in response.interaction_ids]


def test_all_fields_come_back_as_they_were_sent(caller: Caller) -> None:
    contents = ["  kept as it is \r\n\t", "\x01\x7f\u200b\ufeff", "e\u0301 é שלום 🙂👩‍👩‍👧 𝕏", "x" * 65_536]
    sent = [
        Say(
            role="Agent ✓",
            content=content,
            user_action=noun.USER_ACTION_SCROLL,
            user_action_description="scrolled to the prices",
            interacted_image_url="https://example.com/a?b=c#d",
            created_at=timestamp(1_700_000_000_123_456 + number),
        )
        for number, content in enumerate(contents)
    ]
    names = {"request_id": "all/fields ✓", "request_group": "group", "source": "chat", "agent_version": "v2"}
    answer = publish(caller, "person", *sent, **names)
    assert answer.request_id == names["request_id"]
    assert not answer.replayed
    for item, found in zip(sent, stored(caller, answer), strict=True):
        for field in item.DESCRIPTOR.fields:
            if field.name != "image":
                assert getattr(found, field.name) == getattr(item, field.name)
        assert {name: getattr(found, name) for name in names} == names
        assert found.user_id == "person"
        assert not found.HasField("image")


def test_ids_follow_the_order_that_was_sent(caller: Caller) -> None:
    answer = caller.publish("u", *(str(number) for number in range(300)))
    assert list(answer.interaction_ids) == sorted(set(answer.interaction_ids))
    assert [item.content for item in stored(caller, answer)] == [str(number) for number in range(300)]
    listed = caller.get(user_id="u", order=pb.ORDER_OLDEST_FIRST, page_size=300).interactions
    assert [item.interaction_id for item in listed] == list(answer.interaction_ids)


def test_what_is_not_said_is_filled_in(caller: Caller) -> None:
    answer = caller.publish("u", "hello")
    (found,) = stored(caller, answer)
    assert (found.role, found.user_action) == ("User", noun.USER_ACTION_NONE)
    assert found.created_at == found.stored_at
    assert (found.request_group, found.source, found.agent_version) == ("", "", "")


@pytest.mark.parametrize(
    ("source", "prefix"), [("", "request"), ("chat", "chat"), ("support_chat_2", "support-chat-2"), ("é ✓", "é ✓")]
)
def test_a_request_without_an_id_gets_one_that_names_its_source(caller: Caller, source: str, prefix: str) -> None:
    ids = [caller.publish("u", "hello", source=source).request_id for _ in range(2)]
    assert ids[0] < ids[1], "they sort by time"
    for request_id in ids:
        assert request_id.split("_")[0] == prefix
        assert len(request_id.split("_")) == 2
        assert len(caller.get(filter=pb.InteractionFilter(request_id=request_id)).interactions) == 1


@pytest.mark.parametrize(
    ("seconds", "nanos", "kept"),
    [
        (1_700_000_000, 123_456_789, 123_456_000),
        (1_700_000_000, 999_999_999, 999_999_000),
        (0, 0, 0),
        (-1, 1_000, 1_000),
        (-62_135_596_800, 0, 0),
        (253_402_300_799, 999_999_000, 999_999_000),
    ],
)
def test_created_at_is_kept_to_the_microsecond(caller: Caller, seconds: int, nanos: int, kept: int) -> None:
    when = Timestamp(seconds=seconds, nanos=nanos)
    (found,) = stored(caller, publish(caller, "u", Say(content="x", created_at=when)))
    assert (found.created_at.seconds, found.created_at.nanos) == (seconds, kept)
    assert micros_of(found.stored_at) > 1_700_000_000_000_000


BODY = pb.PublishInteractionsRequest(
    user_id="u",
    request_group="g",
    source="s",
    agent_version="v",
    request_id="id",
    interactions=[
        Say(content="one", image=PNG, created_at=timestamp(1_000)),
        Say(role="Agent", user_action=noun.USER_ACTION_CLICK, user_action_description="d", interacted_image_url="u"),
    ],
)


def send(caller: Caller, request: pb.PublishInteractionsRequest) -> pb.PublishInteractionsResponse:
    return caller.interactions.PublishInteractions(request, metadata=caller.metadata, timeout=30)


def test_the_same_request_again_gives_the_first_answer_by_whatever_way(caller: Caller) -> None:
    first = send(caller, BODY)
    for _ in range(2):
        again = send(caller, BODY)
        assert again.replayed
        assert (again.request_id, again.interaction_ids) == (first.request_id, first.interaction_ids)
        counts = caller.stream([BODY, BODY]).requests
        assert (counts.stored, counts.duplicate, counts.rejected) == (0, 2, 0)
    waiting = pb.PublishInteractionsRequest(wait_until=pb.WAIT_UNTIL_SEARCHABLE)
    waiting.MergeFrom(BODY)
    assert send(caller, waiting).replayed, "how long to wait is not part of what is said"
    assert len(caller.get().interactions) == 2


def test_a_request_of_a_stream_is_known_to_the_unary_call(caller: Caller) -> None:
    assert caller.stream([BODY]).requests.stored == 1
    answer = send(caller, BODY)
    assert answer.replayed
    assert [item.interaction_id for item in reversed(caller.get().interactions)] == sorted(answer.interaction_ids)


def encoded(number: int, value: bytes | int) -> bytes:
    """A field on the wire, with a length of more bytes than it needs."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 2, len(value) & 127 | 128, len(value) >> 7 | 128, 0]) + value


def test_another_encoding_is_the_same_body(caller: Caller) -> None:
    """Other languages order fields in another way, write defaults, and carry fields this server does not know."""
    first = send(caller, BODY)
    one = encoded(2, b"one") + encoded(7, encoded(2, 0) + bytes([2 << 3, 0xC0, 0x84, 0x3D])) + encoded(6, PNG)
    one += encoded(3, 1) + encoded(1, b"User") + encoded(4, b"") + encoded(15, b"from a later version")
    two = encoded(5, b"u") + encoded(3, 3) + encoded(4, b"d") + encoded(3, 2) + encoded(1, b"Agent")
    raw = encoded(7, 0) + encoded(6, b"id") + encoded(5, b"v") + encoded(3, b"g") + encoded(4, b"s")
    raw += encoded(2, one) + encoded(1, b"u") + encoded(2, two)
    (answer,) = call_raw(caller.channel, PUBLISH, [raw], caller.metadata)
    again = pb.PublishInteractionsResponse.FromString(answer)
    assert again.replayed
    assert again.interaction_ids == first.interaction_ids


def test_any_difference_makes_another_body(caller: Caller) -> None:
    send(caller, BODY)
    others: list[pb.PublishInteractionsRequest] = []
    for field in ("user_id", "request_group", "source", "agent_version"):
        others.append(pb.PublishInteractionsRequest(**{field: "other"}))  # type: ignore[arg-type]
    for field in ("role", "content", "user_action_description", "interacted_image_url"):
        others.append(pb.PublishInteractionsRequest(interactions=[Say(**{field: "other"})]))  # type: ignore[arg-type]
    for item in (Say(user_action=noun.USER_ACTION_TYPE), Say(image=PNG + b"x"), Say(created_at=timestamp(1_001))):
        others.append(pb.PublishInteractionsRequest(interactions=[item]))
    bodies: list[pb.PublishInteractionsRequest] = []
    for other in others:
        body = pb.PublishInteractionsRequest()
        body.CopyFrom(BODY)
        for item in other.interactions:
            body.interactions[0].MergeFrom(item)
        other.ClearField("interactions")
        body.MergeFrom(other)
        bodies.append(body)
    for change in ("ClearField", "swap", "drop", "repeat"):
        body = pb.PublishInteractionsRequest()
        body.CopyFrom(BODY)
        match change:
            case "ClearField":
                body.interactions[0].ClearField("created_at")
            case "swap":
                body.interactions.reverse()
            case "drop":
                del body.interactions[1]
            case "repeat":
                body.interactions.append(body.interactions[1])
        bodies.append(body)
    assert len(bodies) == 15
    for body in bodies:
        expect(failure(send, caller, body), grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED", request_id="id")
    assert len(caller.get().interactions) == 2, "nothing of them was stored"


def test_a_bad_interaction_keeps_all_of_its_request_out(caller: Caller) -> None:
    failure(publish, caller, "new user", Say(content="good"), Say(), request_id="half")
    assert not caller.get().interactions
    publish(caller, "new user", Say(content="good"), request_id="half")
    assert [item.sequence for item in caller.get().interactions] == [1]


def test_searchable_means_found_by_meaning_at_once(caller: Caller) -> None:
    texts = ("The plumber comes on Tuesday", "We adopted a grey kitten", "Interest rates rose again")
    answer = publish(
        caller, "u", *[Say(content=text) for text in texts], Say(image=PNG), wait_until=pb.WAIT_UNTIL_SEARCHABLE
    )
    assert answer.searchable, "the picture without words does not count"
    for user in ({}, {"user_id": "u"}):
        found = caller.search(query="a young cat", **user)
        assert found.unindexed_count == 0
        assert found.hits[0].interaction.content == texts[1]
        assert found.hits[0].lexical == 0
    again = publish(caller, "v", Say(image=PNG), wait_until=pb.WAIT_UNTIL_SEARCHABLE)
    assert again.searchable


def test_a_deadline_too_short_for_the_vectors_is_no_error(tmp_path: Path, model_dir: Path) -> None:
    server = LocalServer(tmp_path, model_dir)
    try:
        caller = server.new_caller()
        words = " ".join(f"word{number}" for number in range(150))
        items = [Say(content=f"{number} {words}") for number in range(1000)]
        request = pb.PublishInteractionsRequest(
            user_id="u", request_id="large", interactions=items, wait_until=pb.WAIT_UNTIL_SEARCHABLE
        )
        answer = caller.interactions.PublishInteractions(request, metadata=caller.metadata, timeout=4)
        assert not answer.searchable
        assert len(answer.interaction_ids) == 1000
        assert [item.interaction_id for item in everything(caller, order=pb.ORDER_OLDEST_FIRST)] == list(
            answer.interaction_ids
        )
    finally:
        server.stop()


def test_pictures_come_back_byte_for_byte(caller: Caller) -> None:
    source = random.Random(7)
    pictures = [PNG, b"\0", b"\xff\xd8\xff", source.randbytes(MIB), bytes(2 * MIB)]
    answer = publish(caller, "u", *[Say(image=picture) for picture in pictures])
    for picture, item in zip(pictures, stored(caller, answer), strict=True):
        assert item.image.size_bytes == len(picture)
        assert item.image.data == b"", "not asked for"
        assert not item.image.data_omitted
    for picture, interaction_id in zip(pictures, answer.interaction_ids, strict=True):
        (item,) = caller.get(interaction_ids=[interaction_id], include_images=True).interactions
        assert item.image.data == picture
    first = stored(caller, answer)[0].image
    assert (first.media_type, first.width, first.height) == ("image/png", 30, 10)


def test_the_same_picture_is_stored_once_an_account(caller: Caller, server: LocalServer) -> None:
    for number in range(3):
        publish(caller, f"user {number}", Say(image=PNG), Say(content="again", image=PNG))
    publish(server.new_caller(), "u", Say(image=PNG))
    with server.app.database.read() as conn:
        query = select(func.count()).join_from(images, accounts).where(accounts.c.email == caller.email)
        assert conn.execute(query).scalar_one() == 1
    assert {item.image.data for item in caller.get(include_images=True).interactions} == {PNG}


def test_many_callers_at_once_are_all_stored_once(caller: Caller) -> None:
    def run(thread: int) -> list[str]:
        answers = [caller.publish(f"user {thread}", "a", "b", request_id=f"{thread}-{number}") for number in range(20)]
        assert not any(answer.replayed for answer in answers)
        return [interaction_id for answer in answers for interaction_id in answer.interaction_ids]

    with ThreadPoolExecutor(32) as pool:
        ids = [interaction_id for part in pool.map(run, range(32)) for interaction_id in part]
    found = everything(caller)
    assert sorted(ids) == sorted(item.interaction_id for item in found)
    assert len(set(ids)) == 32 * 20 * 2
    assert sorted(item.sequence for item in found) == list(range(1, len(ids) + 1))


def test_one_request_from_many_callers_at_once_is_stored_once(caller: Caller) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: send(caller, BODY), range(64)))
    assert sum(not answer.replayed for answer in answers) == 1
    assert len({tuple(answer.interaction_ids) for answer in answers}) == 1
    assert len(caller.get().interactions) == 2


def test_sequences_have_no_gaps_whatever_was_refused(caller: Caller) -> None:
    for number in range(5):
        caller.publish("u", "a", "b", request_id=str(number))
        caller.publish("u", "a", "b", request_id=str(number))
        failure(caller.publish, "u", "other", request_id=str(number))
        failure(caller.publish, "u", "")
    assert [item.sequence for item in caller.get(order=pb.ORDER_OLDEST_FIRST).interactions] == list(range(1, 11))
