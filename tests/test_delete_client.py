"""The Python client's deletes against a real server; their place among publishes is tested in tests/client."""

import asyncio
import base64
from collections.abc import Callable, Iterator

import pytest

import reflexio
from tests.support import Caller, LocalServer

PICTURE = base64.b64encode(b"not looked at, only kept").decode()


@pytest.fixture
def client(caller: Caller) -> Iterator[reflexio.ReflexioClient]:
    with reflexio.ReflexioClient(caller.api_key, f"http://{caller.address}/") as client:
        yield client


def contents(client: reflexio.ReflexioClient, user_id: str = "ada") -> list[str]:
    return [i.content for i in client.iter_interactions(user_id=user_id, order="oldest")]


def test_counts_are_what_went(client: reflexio.ReflexioClient) -> None:
    two = [{"content": "one", "image_encoding": PICTURE}, {"content": "two", "image_encoding": PICTURE}]
    first = client.publish_interaction("ada", two, request_id="r", wait_for_response=True)
    for i in range(3):
        client.publish_interaction("ada", [{"content": f"of the thread {i}"}], request_group="g")
    client.publish_interaction("ada", [{"content": "rest"}])
    gone = client.delete_interaction("ada", first.interaction_ids[0], True)
    assert (gone.requests, gone.interactions, gone.images) == (0, 1, 0), "another interaction has the picture"
    again = client.publish_interaction("ada", two, request_id="r", wait_for_response=True)
    assert (again.replayed, again.interaction_ids) == (True, first.interaction_ids)
    assert contents(client)[0] == "two"
    gone = client.delete_request("r", True)
    assert (gone.requests, gone.interactions, gone.images) == (1, 1, 1)
    gone = client.delete_request_group("g", "ada", True)
    assert (gone.deleted_requests_count, gone.interactions, gone.images) == (3, 3, 0)
    assert contents(client) == ["rest"]
    assert client.delete_user("ada", True).requests == 1
    assert client.search_interactions(query="rest").hits == []


def test_without_waiting_everything_comes_in_its_order(client: reflexio.ReflexioClient) -> None:
    for i in range(50):
        client.publish_interaction("ada", [{"content": f"before {i}"}], request_group="g")
    thread = client.delete_request_group("g", "ada")
    client.publish_interaction("ada", [{"content": "between"}], request_group="g")
    user = client.delete_user("ada")
    client.publish_interaction("ada", [{"content": "after"}])
    nobody = client.delete_user("nobody")
    assert contents(client) == ["after"], "a read waits for deletes too"
    assert client.flush().delivered
    assert (thread.wait(0).requests, user.wait(0).requests) == (50, 1)
    with pytest.raises(reflexio.NotFoundError) as caught:
        nobody.wait(0)
    assert caught.value.metadata == {"resource": "user"}
    assert client.stats().rejected == 0


def test_an_erased_request_id_stays_taken(client: reflexio.ReflexioClient) -> None:
    said = [{"content": "x"}]
    client.publish_interaction("ada", said, request_id="r", wait_for_response=True)
    client.delete_request("r", True, user_id="ada")
    with pytest.raises(reflexio.RequestErasedError) as caught:
        client.publish_interaction("ada", said, request_id="r", wait_for_response=True)
    assert caught.value.metadata == {"request_id": "r"}
    late = client.publish_interaction("ada", said, request_id="r")
    with pytest.raises(reflexio.RequestErasedError):
        late.wait(30)
    bulk = client.publish_many([{"user_id": "ada", "interactions": said, "request_id": one} for one in ("r", "s")])
    assert (bulk.requests.stored, bulk.requests.rejected, bulk.rejections[0].reason) == (1, 1, "REQUEST_ERASED")
    assert (client.stats().rejected, client.stats().dead) == (1, 0)


def test_what_is_anothers_is_not_there(client: reflexio.ReflexioClient, server: LocalServer) -> None:
    theirs = server.new_caller().publish("ada", "theirs", request_id="r", request_group="g")
    mine = client.publish_interaction("bob", [{"content": "mine"}], request_id="mine", wait_for_response=True)
    deletes: list[Callable[[], object]] = [
        lambda: client.delete_interaction(None, theirs.interaction_ids[0], True),
        lambda: client.delete_interaction("ada", mine.interaction_ids[0], True),
        lambda: client.delete_request("r", True),
        lambda: client.delete_request("mine", True, user_id="ada"),
        lambda: client.delete_request_group("g", "ada", True),
        lambda: client.delete_user("ada", True),
    ]
    for delete in deletes:
        with pytest.raises(reflexio.NotFoundError):
            delete()
    assert contents(client, "bob") == ["mine"]


def test_the_awaitable_client(caller: Caller) -> None:
    async def story() -> None:
        async with reflexio.AsyncReflexioClient(caller.api_key, f"http://{caller.address}/") as client:
            await client.publish_interaction("ada", [{"content": "before"}])
            receipt = await client.delete_user("ada")
            await client.publish_interaction("ada", [{"content": "after"}])
            assert [i.content async for i in client.iter_interactions(user_id="ada")] == ["after"]
            assert (await receipt.wait(30)).requests == 1
            assert (await client.delete_user("ada", True)).interactions == 1
            with pytest.raises(reflexio.NotFoundError):
                await client.delete_user("ada", True)

    asyncio.run(story())


def test_a_server_that_stops_in_between_gets_the_rest_when_it_is_back(start: Callable[..., LocalServer]) -> None:
    server = start()
    caller = server.new_caller()
    with reflexio.ReflexioClient(caller.api_key, f"http://{server.address}/") as client:
        client.publish_interaction("ada", [{"content": "stored"}]).wait(30)
        server.stop()
        client.publish_interaction("ada", [{"content": "meanwhile"}])
        receipt = client.delete_user("ada")
        client.publish_interaction("ada", [{"content": "after"}])
        port = int(server.address.rpartition(":")[2])
        start(server.data_dir, port=port)
        assert receipt.wait(60).requests == 2
        assert client.flush(60).delivered
        assert contents(client) == ["after"]
