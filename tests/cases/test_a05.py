"""A5: refused tries do not push a bucket out of the throttle of logins, so that the victim's still holds after them."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio_server.core.logins import REMEMBERED, Logins, TriesHere
from reflexio_server.errors import TooBusy, Unauthenticated
from tests.support import LocalServer
from tests.wire import code_of

VICTIM = "victim@example.com"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def attempt(bound: Logins, email: str, address: str) -> bool:
    """A wrong try: whether its password was checked."""
    try:
        with bound.attempt(email, address):
            raise Unauthenticated
    except TooBusy:
        return False
    except Unauthenticated:
        return True


@pytest.mark.parametrize("addresses", [1, 7, 250])
def test_a_flood_of_refused_tries_forgets_nobody(addresses: int) -> None:
    here = TriesHere(10, 30, Clock())
    bound = Logins(shared=here)
    assert [attempt(bound, VICTIM, "1.2.3.4") for _ in range(12)] == [True] * 10 + [False] * 2
    checked = sum(
        attempt(bound, f"{number}@example.com", f"10.0.0.{number % addresses}") for number in range(REMEMBERED + 5000)
    )
    assert checked == 10 * addresses, "as many as an address may try at once"
    assert not any(attempt(bound, VICTIM, "1.2.3.4") for _ in range(12))
    assert len(here._accounts._buckets) == 1 + checked, "a refused try leaves nothing"


def test_an_address_without_tries_keeps_what_it_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The victim's own address floods, with emails of other people."""
    clock = Clock()
    bound = Logins(clock=clock)
    for _ in range(10):
        attempt(bound, VICTIM, "1.2.3.4")
    for number in range(REMEMBERED + 1):
        assert not attempt(bound, f"{number}@example.com", "1.2.3.4")
    clock.now += 59
    assert not attempt(bound, VICTIM, "1.2.3.4")
    clock.now += 1
    assert [attempt(bound, VICTIM, "1.2.3.4") for _ in range(3)] == [True, False, False]


def test_the_server_refuses_the_victim_after_the_flood(start: Callable[..., LocalServer]) -> None:
    server = start(login_tries_per_address=30)
    caller = server.new_caller()

    def codes(email: str, count: int) -> list[Any]:
        request = auth_pb.LoginRequest(email=email, password="not the password")
        return [code_of(lambda: caller.auth.Login(request, timeout=30)) for _ in range(count)]

    refused = grpc.StatusCode.RESOURCE_EXHAUSTED
    assert codes(caller.email, 14).count(refused) == 4
    logins = server.app.accounts._logins
    for number in range(REMEMBERED):
        attempt(logins, f"{number}@example.com", "127.0.0.1")
    assert set(codes("another@example.com", 3)) | set(codes(caller.email, 2)) <= {
        refused,
        grpc.StatusCode.UNAUTHENTICATED,
    }
    assert codes(caller.email, 3) == [refused] * 3
