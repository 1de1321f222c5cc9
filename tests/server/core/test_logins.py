"""Logging in under attack: nobody is locked out from elsewhere, nothing is told, and it stays cheap."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import auth_service_pb2_grpc as auth_grpc
from reflexio_server.core import accounts as core
from reflexio_server.core import audit, logins
from reflexio_server.core.logins import Logins, TriesHere
from reflexio_server.errors import TooBusy, Unauthenticated
from reflexio_server.logs import TextFormatter, extra_fields
from reflexio_server.rpc.peer import address_of
from tests.support import PASSWORD, Caller, LocalServer, failure_of, log_in
from tests.wire import expect, failure, seeded, wait_until
from tools.faults.logins import login_times, time_auc
from tools.relay import Relay

pytestmark = pytest.mark.store

Start = Callable[..., LocalServer]


class Clock:
    """Seconds that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fail(bound: Logins, email: str = "a@b.c", address: str = "1.2.3.4") -> None:
    with pytest.raises(Unauthenticated), bound.attempt(email, address):
        raise Unauthenticated


def succeed(bound: Logins, email: str = "a@b.c", address: str = "1.2.3.4") -> None:
    with bound.attempt(email, address):
        pass


def wait_of(bound: Logins, email: str = "a@b.c", address: str = "1.2.3.4") -> float:
    """Seconds that a refused login is told to wait."""
    with pytest.raises(TooBusy) as caught, bound.attempt(email, address):
        pytest.fail("it was let in")
    assert caught.value.limit == "logins"
    return caught.value.retry_after


# ---- The numbers


def test_an_account_at_an_address_has_ten_tries_and_then_one_a_minute(clock: Clock) -> None:
    bound = Logins(clock=clock)
    for _ in range(10):
        fail(bound)
    assert wait_of(bound) == 60
    clock.now += 20
    assert wait_of(bound) == 40
    clock.now += 40
    fail(bound)
    assert wait_of(bound) == 60
    clock.now += 24 * 3600
    for _ in range(10):
        fail(bound)
    assert wait_of(bound) == 60, "no more than ten, however long it was quiet"


def test_another_address_and_another_account_have_their_own(clock: Clock) -> None:
    bound = Logins(tries_per_address=100, clock=clock)
    for _ in range(10):
        fail(bound)
    wait_of(bound)
    succeed(bound, address="5.6.7.8")
    succeed(bound, email="other@b.c")
    wait_of(bound)


def test_a_success_begins_anew(clock: Clock) -> None:
    bound = Logins(tries_per_address=100, clock=clock)
    for _ in range(50):
        for _ in range(9):
            fail(bound, address="9.9.9.9")
        succeed(bound, address="9.9.9.9")
        clock.now += 10
    for _ in range(500):
        succeed(bound)


def test_an_address_has_thirty_tries_a_minute_whatever_the_account_and_a_third_of_them_at_once(clock: Clock) -> None:
    bound = Logins(clock=clock)
    for number in range(10):
        fail(bound, f"{number}@b.c")
    assert wait_of(bound, "another@b.c") == 2
    clock.now += 6
    for number in range(3):
        fail(bound, f"more {number}@b.c")
    wait_of(bound, "another@b.c")
    succeed(bound, "another@b.c", "5.6.7.8")


def test_what_fails_for_another_reason_costs_no_try(clock: Clock) -> None:
    bound = Logins(tries=1, clock=clock)
    for _ in range(5):
        with pytest.raises(OSError, match="disk"), bound.attempt("a@b.c", "1.2.3.4"):
            raise OSError("disk")
    succeed(bound)


def test_memory_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "REMEMBERED", 50)
    here = TriesHere(10, 30, clock)
    bound = Logins(shared=here)
    for number in range(500):
        fail(bound, f"{number}@b.c", f"10.0.{number // 250}.{number % 250}")
    assert len(here._accounts._buckets) == len(here._addresses._buckets) == 50
    assert not bound._places


def test_many_at_once_get_no_more_tries_than_one_after_the_other() -> None:
    bound = Logins(tries=3)
    let_in = 0
    lock = threading.Lock()

    def attempt(_: int) -> None:
        nonlocal let_in
        try:
            with bound.attempt("a@b.c", "1.2.3.4"):
                with lock:
                    let_in += 1
                time.sleep(0.01)
                raise Unauthenticated
        except (TooBusy, Unauthenticated):
            pass

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(attempt, range(100)))
    assert let_in == 3


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:127.0.0.1:5000", "127.0.0.1"),
        ("ipv6:[::1]:5000", "::/64"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:5000", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2:ffff::]:1", "2001:db8:1:2::/64"),
        ("ipv6:[::ffff:192.0.2.7]:5000", "192.0.2.7"),
        ("ipv6:[fe80::1%25eth0]:5000", "fe80::/64"),
        ("unix:/run/socket", "local"),
        ("unix:", "local"),
        ("ipv4:nonsense", "unknown"),
    ],
)
def test_where_a_call_comes_from(peer: str, address: str) -> None:
    assert address_of(cast(Any, SimpleNamespace(peer=lambda: peer))) == address


# ---- A server


def wrong_tries(address: str, email: str, count: int) -> list[Any]:
    """Failures of logins with a wrong password, one after the other over one connection."""
    with grpc.insecure_channel(address) as channel:
        stub = auth_grpc.AuthServiceStub(channel)
        request = auth_pb.LoginRequest(email=email, password="not the password")
        return [failure(stub.Login, request, timeout=30) for _ in range(count)]


def test_wrong_tries_at_one_address_do_not_lock_out_the_owner_at_another(start: Start) -> None:
    server = start(login_tries_per_address=30)
    owner = server.new_caller()
    before = wrong_tries(server.address, owner.email, 10)
    for found in before:
        expect(found, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    after = wrong_tries(server.address, owner.email, 190)
    for found in after:
        expect(found, grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_BUSY", limit="logins")
        assert found.retry_seconds
        assert 0 < found.retry_seconds <= 60
    here = failure(log_in, server.address, owner.email)
    expect(here, grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_BUSY", limit="logins")
    with Relay(server.address, source="127.0.0.2") as elsewhere:
        assert log_in(elsewhere.address, owner.email).api_key
    assert owner.auth.WhoAmI(auth_pb.WhoAmIRequest(), metadata=owner.metadata, timeout=10), "keys go on working"


def test_throttling_does_not_tell_an_unknown_account(start: Start) -> None:
    server = start()
    known = wrong_tries(server.address, server.new_caller().email, 14)
    unknown = wrong_tries(server.address, "nobody@example.com", 14)
    assert [found.code for found in known] == [found.code for found in unknown]
    assert known[:10] == unknown[:10]
    texts = [{(found.text, str(found.info)) for found in some[10:]} for some in (known, unknown)]
    assert texts[0] == texts[1]


def test_refused_logins_make_no_hash(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start()
    made = 0
    verify = core._password_hash.verify

    def counting(password: str, stored: str) -> bool:
        nonlocal made
        made += 1
        return bool(verify(password, stored))

    monkeypatch.setattr(core, "_password_hash", SimpleNamespace(verify=counting))
    wrong_tries(server.address, "nobody@example.com", 60)
    assert made == 10


@pytest.fixture
def slow_hash(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Checking a password waits for the test; "most" is how many were checked at once."""
    seen = {"running": 0, "most": 0}
    verify, lock, go_on = core._password_hash.verify, threading.Lock(), threading.Event()

    def slow(password: str, stored: str) -> bool:
        with lock:
            seen["running"] += 1
            seen["most"] = max(seen["most"], seen["running"])
        go_on.wait(5)
        with lock:
            seen["running"] -= 1
        return bool(verify(password, stored))

    monkeypatch.setattr(core, "_password_hash", SimpleNamespace(verify=slow, hash=core._password_hash.hash))
    yield seen
    go_on.set()


def test_logins_at_once_are_bounded_and_hold_few_workers(start: Start, slow_hash: dict[str, int]) -> None:
    server = start(workers=400, max_streams=1)  # an eighth may wait for their client: none is taken for a silent one
    email = "a@example.com"
    caller = Caller(server.address, email, "")
    request = auth_pb.LoginRequest(email=email, password=PASSWORD)
    calls = [caller.auth.Login.future(request, timeout=30) for _ in range(50)]
    wait_until(lambda: sum(call.done() for call in calls) >= 50 - logins.PLACES_PER_ADDRESS, "refusals")
    refused = [call for call in calls if call.done()]
    assert len(refused) == 50 - logins.PLACES_PER_ADDRESS
    for call in refused:
        error = call.exception()
        assert isinstance(error, grpc.RpcError)
        found = failure_of(error)
        expect(found, grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_BUSY", limit="logins")
        assert found.retry_seconds is not None
    assert slow_hash["most"] == core.CHECKS_AT_ONCE


def test_one_address_leaves_places_to_others(start: Start, slow_hash: dict[str, int]) -> None:
    server = start()
    request = auth_pb.LoginRequest(email="a@example.com", password=PASSWORD)
    with Relay(server.address, source="127.0.0.2") as elsewhere:
        here, there = Caller(server.address, "", ""), Caller(elsewhere.address, "", "")
        flood = [here.auth.Login.future(request, timeout=30) for _ in range(20)]
        wait_until(lambda: sum(call.done() for call in flood) >= 20 - logins.PLACES_PER_ADDRESS, "refusals")
        one = there.auth.Login.future(request, timeout=30)
        with pytest.raises(grpc.FutureTimeoutError):
            one.result(timeout=0.5)  # it waits for its turn, and is not refused
        one.cancel()


# ---- Time tells nothing


def test_an_unknown_account_takes_no_other_time(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The full measurement is `scripts/faults login-timing`; this shows that it would see the usual fault."""
    server = start(login_tries=10_000)
    caller = server.new_caller()
    source = seeded()
    known, unknown = login_times(server.address, caller.email, 40, source)
    assert 0.2 < time_auc(known, unknown) < 0.8

    cheap = core._password_hash.using(memory_cost=8, rounds=1)
    monkeypatch.setattr(server.app.accounts, "_nobody", cheap.hash("x"))
    known, unknown = login_times(server.address, caller.email, 40, source)
    assert time_auc(known, unknown) > 0.9


# ---- Audit


def audited(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """What the audit log got, field by field."""
    records = [one for one in caplog.records if one.name == "reflexio.audit"]
    return [{"event": one.getMessage()} | extra_fields(one) for one in records]


def test_every_login_and_revocation_is_audited(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    server = start()
    caplog.set_level(logging.INFO, "reflexio.audit")
    caller = server.new_caller()
    me = caller.auth.WhoAmI(auth_pb.WhoAmIRequest(), metadata=caller.metadata)
    tag, key_id = me.account.tag, me.api_key.key_id
    wrong_tries(server.address, caller.email, 1)
    secret_typed_as_email = "hunter2-hunter2"
    wrong_tries(server.address, secret_typed_as_email, 1)
    revoke = auth_pb.RevokeApiKeyRequest(key_id=key_id)
    caller.auth.RevokeApiKey(revoke, metadata=caller.metadata)
    here = {"address": "127.0.0.1"}
    assert audited(caplog) == [
        {"event": "account created", "account": tag},
        {"event": "login ok", "account": tag, "key_id": key_id, **here},
        {"event": "login refused", "account": tag, **here},
        {"event": "login refused", "account": "-", **here},
        {"event": "key revoked", "account": tag, "key_id": key_id, **here},
    ]
    lines = "\n".join(map(TextFormatter().format, caplog.records))
    assert f"login ok account={tag} address=127.0.0.1 key_id={key_id}\n" in lines
    for secret in (PASSWORD, caller.api_key, secret_typed_as_email, "not the password"):
        assert secret not in lines


def test_a_flood_of_logins_fills_no_log(
    start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "THROTTLED_SECONDS", 3600.0)
    server = start(login_tries=1)
    caplog.set_level(logging.INFO, "reflexio.audit")
    wrong_tries(server.address, "a@example.com", 100)
    assert [one["event"] for one in audited(caplog)] == ["login refused", "login throttled"]
    monkeypatch.setattr(audit, "THROTTLED_SECONDS", 0.0)
    wrong_tries(server.address, "a@example.com", 1)
    assert audited(caplog)[-1] == {"event": "login throttled", "account": "-", "address": "127.0.0.1", "tries": 99}
