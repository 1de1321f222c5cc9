"""Two accounts never see each other's anything: one check for every RPC of the contract."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.storage.collections import lagging_accounts
from tests.support import PASSWORD, Caller, LocalServer, log_in
from tests.wire import NEVER_STORED, RPCS, expect, failure, publish, wait_until

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("every_account")]

Say = noun.InteractionData
SHARED_PICTURE = b"\x89PNG\r\n\x1a\n the same picture in both accounts"
TEXT = "The {} keeps the violet umbrella in the cellar"


@dataclass
class Side:
    """An account that holds the same as the other one, but for the word `own`."""

    caller: Caller
    own: str
    ids: list[str]
    picture_id: str
    key_id: str


def fill(caller: Caller, own: str) -> Side:
    """Everything that is a name is the same on both sides."""
    names: dict[str, Any] = {"request_id": "same", "request_group": "group", "source": "chat", "agent_version": "1"}
    items = [Say(image=own.encode()), Say(content=own, image=SHARED_PICTURE), Say(content=TEXT.format(own))]
    stored = publish(caller, "same user", *items, wait_until=pb.WAIT_UNTIL_SEARCHABLE, **names)
    assert not stored.replayed
    assert stored.searchable
    me = caller.auth.WhoAmI(auth_pb.WhoAmIRequest(), metadata=caller.metadata)
    return Side(caller, own, list(stored.interaction_ids), stored.interaction_ids[0], me.api_key.key_id)


@pytest.fixture(scope="module")
def sides(server: LocalServer) -> tuple[Side, Side]:
    return fill(server.new_caller(), "gardener"), fill(server.new_caller(), "butler")


def check_publish(mine: Side, theirs: Side) -> None:
    assert not set(mine.ids) & set(theirs.ids)
    item = Say(content=f"again {mine.own}")
    first = publish(mine.caller, "same user", item, request_id=f"once {theirs.own}")
    assert not first.replayed
    second = publish(theirs.caller, "same user", item, request_id=f"once {theirs.own}")
    assert not second.replayed, "the other account's request_id is not this one's"
    assert first.interaction_ids != second.interaction_ids
    for side in (mine, theirs):
        numbers = sorted(item.sequence for item in side.caller.get(page_size=1000).interactions)
        assert numbers == list(range(1, len(numbers) + 1)), "each account counts for itself"


def check_stream(mine: Side, theirs: Side) -> None:
    requests = [
        pb.PublishInteractionsRequest(user_id="streamed", request_id=f"s{number}", interactions=[Say(content="x")])
        for number in range(5)
    ]
    mine.caller.stream(requests)
    before = len(theirs.caller.get(user_id="streamed", page_size=100).interactions)
    verdict = theirs.caller.stream(requests)
    assert verdict.requests.rejected == 0
    assert len(theirs.caller.get(user_id="streamed", page_size=100).interactions) == before + verdict.requests.stored
    again = mine.caller.stream(requests)
    assert again.requests.duplicate == 5


def reads() -> list[dict[str, Any]]:
    """Every way to narrow a reading; none of them may reach into the other account."""
    filters: list[dict[str, Any]] = [
        {},
        {"request_id": "same"},
        {"request_group": "group"},
        {"sources": ["chat"]},
        {"roles": ["User"]},
        {"agent_version": "1"},
        {"user_actions": [noun.USER_ACTION_NONE]},
        {"most_recent_k": 1000},
        {"request_id": "same", "most_recent_k": 1},
    ]
    narrowed = [{"filter": pb.InteractionFilter(**fields)} if fields else {} for fields in filters]
    return [one | user for one in narrowed for user in ({}, {"user_id": "same user"})]


def is_mine(found: list[noun.Interaction], mine: Side, theirs: Side) -> None:
    own = {item.interaction_id for item in mine.caller.get(page_size=1000).interactions}
    assert {item.interaction_id for item in found} <= own
    assert not {item.interaction_id for item in found} & set(theirs.ids)


def check_search(mine: Side, theirs: Side) -> None:
    for fields in reads():
        for query in ("", TEXT.format(theirs.own), theirs.own, "where do I leave my parasol?"):
            answer = mine.caller.search(query=query, top_k=1000, include_images=True, **fields)
            is_mine([hit.interaction for hit in answer.hits], mine, theirs)
            assert theirs.own.encode() not in [hit.interaction.image.data for hit in answer.hits]
            assert answer.hits
    assert not mine.caller.search(user_id=f"only {theirs.own}", query="hello").hits


def check_get(mine: Side, theirs: Side) -> None:
    for fields in reads():
        is_mine(list(mine.caller.get(page_size=1000, **fields).interactions), mine, theirs)
    theirs_and_none = [*theirs.ids, NEVER_STORED]
    answer = mine.caller.get(interaction_ids=theirs_and_none)
    assert not answer.interactions
    assert list(answer.missing_interaction_ids) == theirs_and_none, "theirs are missing like one that never was"
    token = theirs.caller.get(user_id="same user", page_size=1).next_page_token
    found = failure(mine.caller.get, user_id="same user", page_size=1, page_token=token)
    assert found.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [field for field, _ in found.violations] == ["page_token"]


def check_get_requests(mine: Side, theirs: Side) -> None:
    narrowed: list[dict[str, Any]] = [{}, {"request_id": "same"}, {"request_group": "group"}]
    for fields in narrowed:
        answer = mine.caller.get_requests(user_id="same user", page_size=1000, include_images=True, **fields)
        found = [one for group in answer.request_groups for one in group.requests]
        items = [item for one in found for item in one.interactions]
        is_mine(items, mine, theirs)
        assert set(mine.ids) <= {item.interaction_id for item in items}
        assert mine.own.encode() in [item.image.data for item in items]
        assert theirs.own.encode() not in [item.image.data for item in items]
    assert not mine.caller.get_requests(user_id=f"only {theirs.own}").request_groups
    theirs.caller.publish("same user", "one more")
    token = theirs.caller.get_requests(user_id="same user", page_size=1).next_page_token
    refused = failure(mine.caller.get_requests, user_id="same user", page_size=1, page_token=token)
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [field for field, _ in refused.violations] == ["page_token"]


def check_get_image(mine: Side, theirs: Side) -> None:
    def image(interaction_id: str) -> bytes:
        request = pb.GetImageRequest(interaction_id=interaction_id)
        return b"".join(part.data for part in mine.caller.interactions.GetImage(request, metadata=mine.caller.metadata))

    assert image(mine.picture_id) == mine.own.encode()
    made_up = failure(image, NEVER_STORED)
    expect(made_up, grpc.StatusCode.NOT_FOUND, "NOT_FOUND", resource="image")
    for interaction_id in theirs.ids:
        assert failure(image, interaction_id) == made_up


def check_login(mine: Side, theirs: Side) -> None:
    key = log_in(mine.caller.address, mine.caller.email)
    assert len(key.get(interaction_ids=mine.ids).interactions) == 3
    assert not key.get(interaction_ids=theirs.ids).interactions
    assert failure(log_in, mine.caller.address, mine.caller.email, PASSWORD + theirs.own).code


def check_who_am_i(mine: Side, theirs: Side) -> None:
    me = mine.caller.auth.WhoAmI(auth_pb.WhoAmIRequest(), metadata=mine.caller.metadata)
    assert me.account.email == mine.caller.email
    assert mine.caller.api_key.startswith(f"rflx_{me.account.tag}_")
    assert mine.caller.api_key.startswith(me.api_key.hint)


def list_keys(side: Side) -> list[str]:
    answer = side.caller.auth.ListApiKeys(auth_pb.ListApiKeysRequest(page_size=1000), metadata=side.caller.metadata)
    return [key.key_id for key in answer.api_keys]


def check_list_keys(mine: Side, theirs: Side) -> None:
    assert mine.key_id in list_keys(mine)
    assert not set(list_keys(mine)) & set(list_keys(theirs))
    log_in(theirs.caller.address, theirs.caller.email)
    first = auth_pb.ListApiKeysRequest(page_size=1)
    token = theirs.caller.auth.ListApiKeys(first, metadata=theirs.caller.metadata).next_page_token
    assert token
    request = auth_pb.ListApiKeysRequest(page_token=token)
    answer = mine.caller.auth.ListApiKeys(request, metadata=mine.caller.metadata)
    assert {key.key_id for key in answer.api_keys} <= set(list_keys(mine)), "at most a place in the own list"


def check_revoke_key(mine: Side, theirs: Side) -> None:
    def revoke(key_id: str) -> Any:
        request = auth_pb.RevokeApiKeyRequest(key_id=key_id)
        return mine.caller.auth.RevokeApiKey(request, metadata=mine.caller.metadata)

    made_up = failure(revoke, NEVER_STORED)
    expect(made_up, grpc.StatusCode.NOT_FOUND, "NOT_FOUND", resource="api_key")
    assert failure(revoke, theirs.key_id) == made_up
    theirs.caller.get()


def alike(mine: Side, theirs: Side, erase: Callable[[Caller], Any], resource: str) -> None:
    """What both have under the same name goes on one side only, and then it is as if it never was."""
    name = f"{mine.own} {resource}"  # a request_id is never free again
    for side in (mine, theirs):
        for number in range(2):
            names: dict[str, Any] = {"request_id": f"{name} {number}", "request_group": "to go"}
            items = [Say(content=TEXT.format(side.own)), Say(content=side.own, image=SHARED_PICTURE)]
            publish(side.caller, "to go", *items, **names)

    def left() -> list[str]:
        return [item.interaction_id for item in theirs.caller.get(user_id="to go", page_size=1000).interactions]

    before = left()
    while True:
        try:
            erase(mine.caller)
        except grpc.RpcError:
            break
    expect(failure(erase, mine.caller), grpc.StatusCode.NOT_FOUND, "NOT_FOUND", resource=resource)
    assert left() == before
    for side in (mine, theirs):
        with contextlib.suppress(grpc.RpcError):
            side.caller.delete_user("to go")


def check_delete_interaction(mine: Side, theirs: Side) -> None:
    made_up = failure(mine.caller.delete_interaction, NEVER_STORED)
    expect(made_up, grpc.StatusCode.NOT_FOUND, "NOT_FOUND", resource="interaction")
    for interaction_id in theirs.ids:
        assert failure(mine.caller.delete_interaction, interaction_id) == made_up
        assert failure(mine.caller.delete_interaction, interaction_id, user_id="same user") == made_up
    assert not theirs.caller.get(interaction_ids=theirs.ids).missing_interaction_ids

    def erase(caller: Caller) -> None:
        (item, *_) = caller.get(filter=pb.InteractionFilter(request_id=f"{mine.own} interaction 0")).interactions or [
            None
        ]
        caller.delete_interaction(item.interaction_id if item else NEVER_STORED)

    alike(mine, theirs, erase, "interaction")


def check_delete_request(mine: Side, theirs: Side) -> None:
    own = f"only {theirs.own}"
    if not theirs.caller.get(filter=pb.InteractionFilter(request_id=own)).interactions:
        theirs.caller.publish("same user", "mine alone", request_id=own)
    assert failure(mine.caller.delete_request, own) == failure(mine.caller.delete_request, "never stored")
    alike(mine, theirs, lambda caller: caller.delete_request(f"{mine.own} request 0"), "request")


def check_delete_request_group(mine: Side, theirs: Side) -> None:
    own = f"only {theirs.own}"
    theirs.caller.publish("same user", "mine alone", request_group=own)
    made_up = failure(mine.caller.delete_request_group, "same user", "never stored")
    assert failure(mine.caller.delete_request_group, "same user", own) == made_up
    alike(mine, theirs, lambda caller: caller.delete_request_group("to go", "to go"), "request_group")


def check_delete_user(mine: Side, theirs: Side) -> None:
    own = f"user of {theirs.own}"
    theirs.caller.publish(own, "mine alone")
    assert failure(mine.caller.delete_user, own) == failure(mine.caller.delete_user, "never stored")
    alike(mine, theirs, lambda caller: caller.delete_user("to go"), "user")
    theirs.caller.delete_user(own)


CHECKS: dict[str, Callable[[Side, Side], None]] = {
    "reflexio.v1.InteractionService.PublishInteractions": check_publish,
    "reflexio.v1.InteractionService.PublishInteractionStream": check_stream,
    "reflexio.v1.InteractionService.SearchInteractions": check_search,
    "reflexio.v1.InteractionService.GetInteractions": check_get,
    "reflexio.v1.InteractionService.GetRequests": check_get_requests,
    "reflexio.v1.InteractionService.GetImage": check_get_image,
    "reflexio.v1.InteractionService.DeleteInteraction": check_delete_interaction,
    "reflexio.v1.InteractionService.DeleteRequest": check_delete_request,
    "reflexio.v1.InteractionService.DeleteRequestGroup": check_delete_request_group,
    "reflexio.v1.InteractionService.DeleteUser": check_delete_user,
    "reflexio.v1.AuthService.Login": check_login,
    "reflexio.v1.AuthService.WhoAmI": check_who_am_i,
    "reflexio.v1.AuthService.ListApiKeys": check_list_keys,
    "reflexio.v1.AuthService.RevokeApiKey": check_revoke_key,
}


def test_every_rpc_has_a_check() -> None:
    assert set(CHECKS) == set(RPCS), "a new RPC needs a check here that it keeps the accounts apart"


@pytest.mark.parametrize("name", CHECKS)
def test_the_accounts_are_apart(sides: tuple[Side, Side], name: str) -> None:
    mine, theirs = sides
    CHECKS[name](mine, theirs)
    CHECKS[name](theirs, mine)


def test_the_index_holds_only_the_own_account_too(sides: tuple[Side, Side], server: LocalServer) -> None:
    """Once Chroma has followed, a search over the whole account asks it."""

    def followed() -> bool:
        with server.app.database.read() as conn:
            lagging = set(lagging_accounts(conn, server.live_model()))
        server.app.follower.follow(lagging)  # when they were published, so few needed no collection
        return not lagging

    wait_until(followed, "Chroma to follow")
    for mine, theirs in (sides, sides[::-1]):
        hits = mine.caller.search(query=TEXT.format(theirs.own), top_k=1000).hits
        is_mine([hit.interaction for hit in hits], mine, theirs)
        assert hits[0].interaction.content == TEXT.format(mine.own)
