"""Erasing: what goes, what stays, what a late retry is told, and that nothing of it is left on disk."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.core import erasing
from tests.state import rows
from tests.support import Caller, LocalServer
from tests.wire import blocked_writer, everything, expect, failure, publish, say, timestamp, wait_until

pytestmark = pytest.mark.store

Say = noun.InteractionData
PNG = b"\x89PNG\r\n\x1a\n "
GONE = grpc.StatusCode.NOT_FOUND
TAKEN = grpc.StatusCode.ALREADY_EXISTS


def counts(erased: pb.ErasedCounts) -> tuple[int, int, int]:
    return erased.requests, erased.interactions, erased.images


def get_image(caller: Caller, interaction_id: str) -> bytes:
    request = pb.GetImageRequest(interaction_id=interaction_id)
    answers = caller.interactions.GetImage(request, metadata=caller.metadata, timeout=30)
    return b"".join(part.data for part in answers)


def test_an_interaction_goes_and_its_request_stays(caller: Caller) -> None:
    fields: dict[str, Any] = {"request_id": "r", "request_group": "g", "source": "chat"}
    first = caller.publish("ann", "a violet umbrella", "a cat", "a dog", **fields)
    gone, *rest = first.interaction_ids
    assert caller.search(user_id="ann", query="umbrella").hits[0].interaction.interaction_id == gone
    assert counts(caller.delete_interaction(gone, user_id="ann")) == (0, 1, 0)

    assert [item.interaction_id for item in everything(caller)] == rest[::-1]
    assert list(caller.get(interaction_ids=[gone]).missing_interaction_ids) == [gone]
    for query in ("umbrella", "a violet umbrella", ""):
        for user in ({}, {"user_id": "ann"}):
            found = caller.search(query=query, top_k=1000, **user).hits
            assert gone not in [hit.interaction.interaction_id for hit in found]
    (group,) = caller.get_requests(user_id="ann").request_groups
    assert [item.interaction_id for item in group.requests[0].interactions] == rest
    expect(failure(caller.delete_interaction, gone), GONE, "NOT_FOUND", resource="interaction")


def test_a_partly_erased_request_replays_its_first_ids(caller: Caller) -> None:
    contents = [f"turn {number}" for number in range(5)]
    first = caller.publish("ann", *contents, request_id="r")
    for gone in (first.interaction_ids[3], first.interaction_ids[0]):
        caller.delete_interaction(gone)
        again = caller.publish("ann", *contents, request_id="r", wait_until=pb.WAIT_UNTIL_SEARCHABLE)
        assert again.replayed
        assert again.searchable, "what is left has its vectors"
        assert again.interaction_ids == first.interaction_ids
        verdict = caller.stream([say("r", contents[0], "ann")])
        assert [one.reason for one in verdict.rejections] == ["REQUEST_ID_REUSED"]
    expect(failure(caller.publish, "ann", "other", request_id="r"), TAKEN, "REQUEST_ID_REUSED", request_id="r")
    assert len(everything(caller)) == 3
    whole = pb.PublishInteractionsRequest(
        user_id="ann", request_id="r", interactions=[Say(content=content) for content in contents]
    )
    assert caller.stream([whole]).interactions.duplicate == 5


def refuses(caller: Caller, request_id: str, *contents: str) -> None:
    """Whatever the body, alone or in a stream."""
    for body in (contents, ("something else",)):
        found = failure(caller.publish, "ann", *body, request_id=request_id)
        expect(found, TAKEN, "REQUEST_ERASED", request_id=request_id)
        assert request_id in found.text
        verdict = caller.stream([say(request_id, body[0], "ann"), say(f"beside {request_id} {body[0]}", "x", "zoe")])
        assert [(one.reason, one.request_id, one.field) for one in verdict.rejections] == [
            ("REQUEST_ERASED", request_id, "request_id")
        ]
        assert (verdict.requests.stored, verdict.requests.rejected) == (1, 1)
    assert not caller.get(user_id="ann").interactions


def test_a_late_retry_of_an_erased_request_is_refused(caller: Caller) -> None:
    caller.publish("ann", "hello", "again", request_id="r")
    assert counts(caller.delete_request("r")) == (1, 2, 0)
    refuses(caller, "r", "hello", "again")
    for user in ({}, {"user_id": "ann"}):
        expect(failure(caller.delete_request, "r", **user), GONE, "NOT_FOUND", resource="request")


def test_the_last_interaction_of_a_request_erases_it(caller: Caller) -> None:
    stored = caller.publish("ann", "hello", "again", request_id="r")
    erased = [counts(caller.delete_interaction(one)) for one in stored.interaction_ids]
    assert erased == [(0, 1, 0), (1, 1, 0)]
    refuses(caller, "r", "hello", "again")
    assert not caller.get_requests(user_id="ann").request_groups
    expect(failure(caller.delete_user, "ann"), GONE, "NOT_FOUND", resource="user")


def test_a_thread_goes_of_one_user_only(caller: Caller) -> None:
    for user in ("ann", "bob"):
        for number in range(3):
            caller.publish(user, "x", "y", request_group="trip", request_id=f"{user} {number}")
        caller.publish(user, "alone", request_id=f"{user} alone")
    assert counts(caller.delete_request_group("ann", "trip")) == (3, 6, 0)
    assert [item.content for item in everything(caller, user_id="ann")] == ["alone"]
    assert len(everything(caller, user_id="bob")) == 7
    missing = failure(caller.delete_request_group, "ann", "trip")
    expect(missing, GONE, "NOT_FOUND", resource="request_group")
    assert failure(caller.delete_request_group, "nobody", "trip") == missing


def test_a_user_goes_and_may_come_again_as_another(server: LocalServer, caller: Caller) -> None:
    stored = caller.publish("ann@example.com", "a grey kitten", "a dog", request_id="r")
    caller.publish("bob", "a kitten too")
    assert caller.search(user_id="ann@example.com", query="young cat").hits
    assert counts(caller.delete_user("ann@example.com")) == (1, 2, 0)
    assert not caller.search(user_id="ann@example.com", query="kitten").hits
    assert [hit.interaction.user_id for hit in caller.search(query="kitten", top_k=1000).hits] == ["bob"]
    expect(failure(caller.delete_user, "ann@example.com"), GONE, "NOT_FOUND", resource="user")
    kept = rows(
        server.data_dir,
        "SELECT user_ref, request_group, source, agent_version, stored_at, created_at,"
        " published_ids FROM requests WHERE request_id = 'r' AND erased_at > 0",
    )
    assert (None, "", "", "", 0, 0, None) in kept
    later = caller.publish("ann@example.com", "I am new here", request_id="another", wait_until=2)
    assert not set(later.interaction_ids) & set(stored.interaction_ids)
    hits = caller.search(user_id="ann@example.com", query="kitten", top_k=1000).hits
    assert [hit.interaction.content for hit in hits] == ["I am new here"]
    numbers = [row[0] for row in rows(server.data_dir, "SELECT id FROM users ORDER BY id")]
    assert len(numbers) == len(set(numbers))


def test_whose_it_must_be(caller: Caller) -> None:
    stored = caller.publish("ann", "hello", request_id="r")
    (item,) = stored.interaction_ids
    caller.publish("bob", "hello")
    for user_id in ("bob", "nobody"):
        expect(failure(caller.delete_interaction, item, user_id=user_id), GONE, "NOT_FOUND", resource="interaction")
        expect(failure(caller.delete_request, "r", user_id=user_id), GONE, "NOT_FOUND", resource="request")
    assert len(everything(caller)) == 2
    assert counts(caller.delete_request("r", user_id="ann")) == (1, 1, 0)


@pytest.mark.parametrize(
    ("call", "fields"),
    [
        ("DeleteInteraction", {"interaction_id": ""}),
        ("DeleteInteraction", {"interaction_id": "x" * 65}),
        ("DeleteInteraction", {"interaction_id": "x", "user_id": ""}),
        ("DeleteInteraction", {"interaction_id": "x", "user_id": "u" * 257}),
        ("DeleteRequest", {"request_id": ""}),
        ("DeleteRequest", {"request_id": "x" * 257}),
        ("DeleteRequest", {"request_id": "a\0b"}),
        ("DeleteRequest", {"request_id": "x", "user_id": ""}),
        ("DeleteRequestGroup", {"user_id": "", "request_group": "g"}),
        ("DeleteRequestGroup", {"user_id": "u", "request_group": ""}),
        ("DeleteRequestGroup", {"user_id": "u", "request_group": "g" * 257}),
        ("DeleteUser", {"user_id": ""}),
        ("DeleteUser", {"user_id": "u" * 257}),
    ],
)
def test_what_names_nothing_is_refused(caller: Caller, call: str, fields: dict[str, str]) -> None:
    request = getattr(pb, f"{call}Request")(**fields)
    found = failure(getattr(caller.interactions, call), request, metadata=caller.metadata, timeout=30)
    assert found.code is grpc.StatusCode.INVALID_ARGUMENT
    assert len(found.violations) == 1
    assert found.violations[0][0] in fields


def test_pictures_go_with_the_last_that_has_them(server: LocalServer, caller: Caller) -> None:
    other = server.new_caller()
    shared, own = PNG + caller.email.encode(), PNG + b"own " + caller.email.encode()
    stored = publish(caller, "ann", Say(image=shared), Say(image=own), Say(image=shared), request_id="r")
    elsewhere = publish(caller, "bob", Say(image=shared), request_id="elsewhere")
    theirs = publish(other, "ann", Say(image=shared))
    first, second, third = stored.interaction_ids
    assert counts(caller.delete_interaction(first)) == (0, 1, 0)
    assert get_image(caller, third) == shared
    assert counts(caller.delete_interaction(second)) == (0, 1, 1)
    expect(failure(get_image, caller, second), GONE, "NOT_FOUND", resource="image")
    assert counts(caller.delete_user("ann")) == (1, 1, 0)
    assert get_image(caller, elsewhere.interaction_ids[0]) == shared
    assert counts(caller.delete_request("elsewhere")) == (1, 1, 1)
    assert get_image(other, theirs.interaction_ids[0]) == shared
    again = publish(caller, "cleo", Say(image=shared))
    assert get_image(caller, again.interaction_ids[0]) == shared


def test_the_place_of_a_partly_erased_request_stays(caller: Caller) -> None:
    """Pages that were begun go on; what a time means is told by what is left."""
    for number in range(4):
        items = [Say(content=f"{number} {step}", created_at=timestamp(10_000_000 * number + step)) for step in (1, 9)]
        publish(caller, "ann", *items, request_id=f"r{number}", request_group="g")
    page = caller.get_requests(user_id="ann", page_size=1)
    ids = {item.content: item.interaction_id for item in everything(caller)}
    caller.delete_interaction(ids["1 1"])
    caller.delete_interaction(ids["2 9"])
    seen = []
    while True:
        seen += [one for group in page.request_groups for one in group.requests]
        if not page.next_page_token:
            break
        page = caller.get_requests(user_id="ann", page_size=1, page_token=page.next_page_token)
    assert [[item.content for item in one.interactions] for one in seen] == [
        ["3 1", "3 9"],
        ["2 1"],
        ["1 9"],
        ["0 1", "0 9"],
    ]

    def until(micros: int) -> list[str]:
        found = caller.get_requests(user_id="ann", end_time=timestamp(micros)).request_groups
        return [one.request.request_id for group in found for one in group.requests]

    assert until(10_000_009) == ["r0"], "what was left of r1 happened at that moment"
    assert until(10_000_010) == ["r1", "r0"]
    assert until(20_000_002) == ["r2", "r1", "r0"]


def test_pages_go_on_while_it_is_erased(caller: Caller) -> None:
    for number in range(30):
        caller.publish("ann", f"{number} a", f"{number} b", request_id=f"r{number}")
    for listing in ("interactions", "requests"):
        seen: list[str] = []
        token, number = "", 29
        while True:
            if listing == "interactions":
                page: Any = caller.get(user_id="ann", page_size=2, page_token=token)
                seen += [item.request_id for item in page.interactions]
            else:
                page = caller.get_requests(user_id="ann", page_size=1, page_token=token)
                seen += [one.request.request_id for group in page.request_groups for one in group.requests]
            token = page.next_page_token
            if not token:
                break
            if number % 3 == 0 and f"r{number}" not in seen[:-1]:
                caller.delete_request(f"r{number}")  # what the token points at
            number -= 1
        left = {item.request_id for item in everything(caller, user_id="ann")}
        assert left <= set(seen)
        assert [name for name in dict.fromkeys(seen)] == sorted(set(seen), key=lambda name: -int(name[1:]))
        if listing == "requests":
            assert len(seen) == len(set(seen))


def test_much_goes_in_steps_and_what_comes_meanwhile_stays(
    server: LocalServer, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "STEP", 20)
    requests = [
        pb.PublishInteractionsRequest(
            user_id="ann",
            request_id=f"r{number}",
            interactions=[Say(user_action=noun.USER_ACTION_CLICK)] * (number % 7 + 1),
        )
        for number in range(100)
    ]
    requests.append(
        pb.PublishInteractionsRequest(
            user_id="ann", request_id="large", interactions=[Say(user_action=noun.USER_ACTION_CLICK)] * 90
        )
    )
    assert caller.stream(requests).requests.stored == 101
    stored = sum(len(request.interactions) for request in requests)
    stop, kept = threading.Event(), []

    def keep_publishing() -> None:
        while not stop.is_set():
            kept.append(publish(caller, "ann", Say(user_action=noun.USER_ACTION_SCROLL)).interaction_ids[0])

    before = {item.interaction_id for item in everything(caller)}
    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(keep_publishing)
        wait_until(lambda: len(kept) > 2, "publishes")
        erased = caller.delete_user("ann")
        so_far = len(kept)
        wait_until(lambda: len(kept) > so_far, "more publishes")
        stop.set()
        publishing.result(30)
    left = {item.interaction_id for item in everything(caller)}
    assert not left & before
    assert left <= set(kept)
    assert kept[-1] in left, "what was published after the call"
    assert erased.interactions + len(left) == stored + len(kept)
    assert erased.requests + len(left) == len(requests) + len(kept)


def test_two_who_erase_the_same_at_once_share_it(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "STEP", 5)
    publishing = [say(f"r{number}", user_id="ann") for number in range(100)]
    caller.stream(publishing)
    with ThreadPoolExecutor(4) as pool:
        erased = list(pool.map(lambda _: _erased_or_missing(caller), range(4)))
    assert sum(erased) == 100
    assert not everything(caller)


def _erased_or_missing(caller: Caller) -> int:
    try:
        return caller.delete_user("ann").interactions
    except grpc.RpcError as error:
        assert error.code() is GONE
        return 0


def test_it_ends_between_steps_when_the_server_shuts_down_or_the_caller_goes(
    start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "STEP", 1)
    server = start()
    caller = server.new_caller()
    caller.stream([say(f"r{number}", user_id="ann") for number in range(300)])
    request = pb.DeleteUserRequest(user_id="ann")
    with blocked_writer(server):
        call = caller.interactions.DeleteUser.future(request, metadata=caller.metadata, timeout=0.5)
        assert failure(call.result).code is grpc.StatusCode.DEADLINE_EXCEEDED
    time.sleep(0.2)
    left = len(everything(caller))
    assert 290 < left <= 300, "at most the step at hand"

    with blocked_writer(server):
        call = caller.interactions.DeleteUser.future(request, metadata=caller.metadata, timeout=30)
        time.sleep(0.3)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        time.sleep(0.3)
    expect(failure(call.result), grpc.StatusCode.UNAVAILABLE, "DRAINING")
    stopping.join()
    again = start(server.data_dir)
    caller = Caller(again.address, caller.email, caller.api_key)
    left_then = len(everything(caller))
    assert 0 < left - left_then <= 10
    assert caller.delete_user("ann").interactions == left_then
