"""N2 and F15: a busy application is slowed, not refused, with the default settings of server and client."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

import reflexio
from reflexio.places import MOST_CALLS
from reflexio.retry import is_refusal
from tests.client.scripted_server import KEY, ScriptedServer, fail, info, retry_after, verdict
from tests.support import Caller, LocalServer

Code = grpc.StatusCode
BUSY = fail(Code.RESOURCE_EXHAUSTED, "busy", info("TOO_BUSY", limit="calls"), retry_after(0.05))
RESET = fail(Code.UNAVAILABLE, "Stream removed (RST_STREAM from remote peer with error code 7)")
PROXY = fail(Code.RESOURCE_EXHAUSTED, "rate limit of a proxy")
TOO_LARGE = fail(Code.RESOURCE_EXHAUSTED, "SERVER: Received message larger than max (20 vs. 10)")

ASYNC_CALLS: dict[str, Callable[[reflexio.AsyncReflexioClient, int], Awaitable[Any]]] = {
    "search": lambda client, i: client.search_interactions(user_id="ada", query=f"parcel {i}"),
    "get": lambda client, _: client.get_interactions(user_id="ada"),
    "publish": lambda client, i: client.publish_interaction("ada", [{"content": f"{i}"}], wait_for_response=True),
}


def outcomes(results: list[Any]) -> Counter[str]:
    return Counter(type(result).__name__ for result in results if isinstance(result, BaseException))


@pytest.fixture
def url(caller: Caller) -> str:
    caller.publish("ada", "my parcel never arrived", "it came today")
    return f"http://{caller.address}/"


@pytest.mark.parametrize("kind", ASYNC_CALLS)
def test_500_gathered_calls_of_one_client(caller: Caller, url: str, kind: str) -> None:
    async def main() -> list[Any]:
        async with reflexio.AsyncReflexioClient(caller.api_key, url, timeout=120) as client:
            calls = [ASYNC_CALLS[kind](client, i) for i in range(500)]
            return await asyncio.gather(*calls, return_exceptions=True)

    assert not outcomes(asyncio.run(main()))


def test_100_threads_of_one_client(caller: Caller, url: str) -> None:
    with reflexio.ReflexioClient(caller.api_key, url, timeout=120) as client, ThreadPoolExecutor(100) as threads:

        def work(number: int) -> Exception | None:
            try:
                client.search_interactions(user_id="ada", query=f"parcel {number}")
                client.get_interactions(user_id="ada")
                client.publish_interaction("ada", [{"content": f"{number}"}], wait_for_response=True)
            except reflexio.ReflexioError as error:
                return error
            return None

        assert not outcomes(list(threads.map(work, range(200))))


def test_an_account_with_few_places_is_slowed_too(start: Callable[..., LocalServer]) -> None:
    caller = start(account_calls=2, account_streams=1).new_caller()
    url = f"http://{caller.address}/"
    with reflexio.ReflexioClient(caller.api_key, url, timeout=120) as client, ThreadPoolExecutor(24) as threads:
        requests = [[{"user_id": "ada", "interactions": [{"content": f"{i}"}]}] for i in range(24)]
        assert sum(result.requests.stored for result in threads.map(client.publish_many, requests)) == 24
        found = threads.map(lambda _: len(client.get_interactions(user_id="ada").interactions), range(48))
        assert set(found) == {24}


@pytest.mark.parametrize("refusal", [BUSY, RESET, PROXY])
def test_every_call_is_repeated_within_its_timeout(scripted: ScriptedServer, refusal: Any) -> None:
    with reflexio.ReflexioClient(KEY, scripted.url) as client:
        for method in ("WhoAmI", "SearchInteractions", "GetInteractions", "PublishInteractions", "DeleteUser"):
            scripted.script(method, *[refusal] * 3)
        scripted.script("PublishInteractionStream", *[refusal] * 3)
        scripted.script("Login", *[refusal] * 3)
        client.login("a@b.c", "secret")
        client.who_am_i()
        client.publish_interaction("ada", [{"content": "x"}], wait_for_response=True)
        client.search_interactions(user_id="ada", query="x")
        client.get_interactions(user_id="ada")
        client.delete_user("ada", wait_for_response=True)
        result = client.publish_many([{"user_id": "ada", "interactions": [{"content": "y"}]}])
        assert result.requests.stored == 1


def test_what_will_never_fit_is_refused_at_once(scripted: ScriptedServer) -> None:
    with reflexio.ReflexioClient(KEY, scripted.url) as client:
        scripted.script("WhoAmI", TOO_LARGE)
        with pytest.raises(reflexio.ResourceExhaustedError):
            client.who_am_i()
        assert scripted.count("WhoAmI") == 1


def test_refusals_end_with_the_timeout(scripted: ScriptedServer) -> None:
    scripted.always("WhoAmI", fail(Code.RESOURCE_EXHAUSTED, "busy", info("TOO_BUSY"), retry_after(60)))
    with reflexio.ReflexioClient(KEY, scripted.url, timeout=5) as client:
        with pytest.raises(reflexio.ResourceExhaustedError) as caught:
            client.who_am_i()
        assert caught.value.retry_after == 60
        assert scripted.count("WhoAmI") == 1


def test_calls_beyond_the_places_wait_in_their_order(scripted: ScriptedServer) -> None:
    """And one that finds no place in time says so, not that the server is slow."""

    async def main() -> None:
        async with reflexio.AsyncReflexioClient(KEY, scripted.url) as client:
            client._open()
            for _ in range(MOST_CALLS):
                await client._places.acquire()
            with pytest.raises(reflexio.DeadlineExceededError, match="100 calls of this client were under way"):
                await client.who_am_i(timeout=0.1)
            client._places.release()
            assert (await client.who_am_i()).account.email == "a@b.c"

    asyncio.run(main())
    with reflexio.ReflexioClient(KEY, scripted.url) as client:
        held = [client._places.one(0) for _ in range(MOST_CALLS)]
        assert all(place.__enter__() for place in held)
        with pytest.raises(reflexio.DeadlineExceededError, match="100 calls of this client were under way"):
            client.who_am_i(timeout=0.1)
        held[0].__exit__(None, None, None)
        assert client.who_am_i().account.email == "a@b.c"


def test_what_a_refusal_is() -> None:
    too_busy = reflexio.ResourceExhaustedError("x", reason="TOO_BUSY", retry_after=1.0)
    refusals = [too_busy, reflexio.ResourceExhaustedError("enhance your calm")]
    others = [
        reflexio.ResourceExhaustedError("CLIENT: Sent message larger than max"),
        reflexio.ResourceExhaustedError("gRPC message exceeds maximum size 4194304: 5000000"),
        reflexio.UnavailableError("connection refused"),
        reflexio.InternalError("x"),
        reflexio.DeadlineExceededError("x"),
    ]
    assert [is_refusal(error) for error in (*refusals, *others)] == [True] * 2 + [False] * 5


def test_bulk_is_not_given_up_after_eight_refusals_or_outages(scripted: ScriptedServer) -> None:
    down = fail(Code.UNAVAILABLE, "away", info("DRAINING"), retry_after(0.01))
    scripted.script("PublishInteractionStream", *[down] * 9, verdict(1))
    with reflexio.ReflexioClient(KEY, scripted.url, timeout=120) as client:
        result = client.publish_many([{"user_id": secrets.token_hex(2), "interactions": [{"content": "x"}]}])
        assert result.requests.stored == 1
