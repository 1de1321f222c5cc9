"""Whatever is published, read and erased, in whatever order, an account holds what a plain dict says, and no more."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from passlib.hash import argon2

from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.core import accounts as account_module
from tests.account_reference import CALLS, Checked
from tests.soundness import faults
from tests.support import Caller, LocalServer
from tests.wire import NEVER_STORED, RPCS, seeded
from tests.words import Words, use

pytestmark = pytest.mark.store

RUNS, STEPS, RESTART_EVERY = 200, 15, 25
ACCOUNTS, OPERATIONS = 5, 2_000
OFTEN = ("PublishInteractions", "PublishInteractions", "PublishInteractions", *sorted(CALLS))
NAMES = {name.rpartition(".")[2] for name in RPCS}


@pytest.fixture
def server(start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    use(monkeypatch, Words())
    quick = argon2.using(type="ID", memory_cost=8, rounds=1, parallelism=1)
    monkeypatch.setattr(account_module, "_password_hash", quick)  # hundreds of accounts are made here
    return start()


@pytest.mark.timeout(300)
def test_an_account_is_a_dict(server: LocalServer, start: Callable[..., LocalServer]) -> None:
    """Random runs of publish, replay, reuse, reads and erases of each kind; now and then the server starts anew."""
    running = [server]
    counted: Counter[str] = Counter()

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.checked = Checked(running[-1].new_caller())
            counted["runs"] += 1
            self.may_restart = counted["runs"] % RESTART_EVERY == 0  # a start takes a second

        @initialize(number=st.integers(0, 2**32 - 1))
        def begin_with_something(self, number: int) -> None:
            for step in range(4):
                self.checked.publish(random.Random(number + step))

        @rule(name=st.sampled_from(OFTEN), number=st.integers(0, 2**32 - 1))
        def call(self, name: str, number: int) -> None:
            CALLS[name](self.checked, random.Random(number))
            counted[name] += 1

        @rule()
        def restart(self) -> None:
            if not self.may_restart:
                return
            self.may_restart = False
            running[-1].stop()
            running.append(start(server.data_dir))
            caller = self.checked.caller
            self.checked.caller = Caller(running[-1].address, caller.email, caller.api_key)
            counted["restarts"] += 1

        @invariant()
        def holds_what_the_dict_says(self) -> None:
            self.checked.everything()

    seed(seeded().getrandbits(32))(Machine)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(dict(counted))
    assert counted["runs"] >= RUNS
    assert all(counted[name] for name in (*CALLS, "restarts"))
    assert faults(server.data_dir) == {}


@pytest.fixture
def accounts(server: LocalServer) -> Iterator[list[Checked]]:
    callers = [server.new_caller() for _ in range(ACCOUNTS)]
    yield [Checked(caller) for caller in callers]
    for caller in callers:
        caller.channel.close()


def bytes_of(call: Callable[[], Any]) -> tuple[Any, ...]:
    """A failure as it was on the wire: code, message, details."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error = caught.value
    details = [item.value for item in error.trailing_metadata() or () if item.key == "grpc-status-details-bin"]
    return error.code(), error.details(), details


def foreign_calls(mine: Caller, theirs: Checked, source: random.Random) -> Iterator[str]:
    """Calls that name what only another account has; each must fail like one that names what nobody has."""
    item = source.choice(theirs.held.items)
    me: dict[str, Any] = {"metadata": mine.metadata, "timeout": 30}

    def image(interaction_id: str) -> list[pb.GetImageResponse]:
        return list(mine.interactions.GetImage(pb.GetImageRequest(interaction_id=interaction_id), **me))

    def revoke(key_id: str) -> Any:
        return mine.auth.RevokeApiKey(auth_pb.RevokeApiKeyRequest(key_id=key_id), **me)

    asked = [item.interaction_id, NEVER_STORED]
    found = mine.get(interaction_ids=asked)
    assert (len(found.interactions), list(found.missing_interaction_ids)) == (0, asked)
    yield "GetInteractions"
    assert bytes_of(lambda: image(item.interaction_id)) == bytes_of(lambda: image(NEVER_STORED))
    yield "GetImage"
    by_id = mine.delete_interaction
    for user in ({}, {"user_id": item.user_id}):
        not_theirs = bytes_of(lambda user=user: by_id(NEVER_STORED, **user))  # type: ignore[misc]
        assert bytes_of(lambda user=user: by_id(item.interaction_id, **user)) == not_theirs  # type: ignore[misc]
    yield "DeleteInteraction"
    own = f"only {source.getrandbits(64)}"
    theirs.caller.publish(own, "mine alone", request_id=own, request_group=own)
    assert bytes_of(lambda: mine.delete_request(own)) == bytes_of(lambda: mine.delete_request("never"))
    yield "DeleteRequest"
    by_group = mine.delete_request_group
    assert bytes_of(lambda: by_group(own, own)) == bytes_of(lambda: by_group("never", "never"))
    yield "DeleteRequestGroup"
    assert bytes_of(lambda: mine.delete_user(own)) == bytes_of(lambda: mine.delete_user("never"))
    yield "DeleteUser"
    key = theirs.caller.auth.WhoAmI(auth_pb.WhoAmIRequest(), metadata=theirs.caller.metadata).api_key.key_id
    assert bytes_of(lambda: revoke(key)) == bytes_of(lambda: revoke(NEVER_STORED))
    yield "RevokeApiKey"
    for fields in ({"user_id": own}, {"filter": pb.InteractionFilter(request_id=own)}):
        assert not mine.search(query="mine alone", **fields).hits
    yield "SearchInteractions"
    assert mine.get_requests(user_id=own) == pb.GetRequestsResponse()
    yield "GetRequests"
    theirs.caller.delete_user(own)


@pytest.mark.timeout(300)
def test_five_accounts_of_the_same_names_never_meet(server: LocalServer, accounts: list[Checked]) -> None:
    """Each answer is what the account's own reference says; what is not yours cannot be told from what is not there."""
    source = seeded()
    counted: Counter[str] = Counter()
    while sum(counted.values()) < OPERATIONS:
        mine, theirs = source.sample(accounts, 2)
        if source.random() < 0.02 and theirs.held.items:
            for name in foreign_calls(mine.caller, theirs, source):
                counted[f"foreign {name}"] += 1
        else:
            name = source.choice(OFTEN)
            CALLS[name](mine, source)
            counted[name] += 1
        if sum(counted.values()) % 100 == 0:
            for one in accounts:
                one.everything()
    for one in accounts:
        one.everything()
    print(dict(counted))
    assert {name.removeprefix("foreign ") for name in counted} >= NAMES - {
        "PublishInteractionStream",  # by "replay" and "PublishInteractions"
        "Login",
        "WhoAmI",
        "ListApiKeys",
    }
    ids = [item.interaction_id for one in accounts for item in one.held.items]
    assert len(ids) == len(set(ids)) > 0
    assert faults(server.data_dir) == {}
