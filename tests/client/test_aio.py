import asyncio
import inspect
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest

import reflexio
from reflexio.v1 import interaction_service_pb2 as pb
from tests.client.scripted_server import KEY, ScriptedServer, answer, fail, info, make_key, verdict

Code = grpc.StatusCode
STREAM = "PublishInteractionStream"


def run(server: ScriptedServer, story: Callable[[reflexio.AsyncReflexioClient], Awaitable[None]]) -> None:
    async def main() -> None:
        async with reflexio.AsyncReflexioClient(KEY, server.url, timeout=20) as client:
            await story(client)

    asyncio.run(main())


def test_it_has_the_same_methods_with_the_same_parameters() -> None:
    for name, method in inspect.getmembers(reflexio.ReflexioClient, inspect.isfunction):
        if not name.startswith("_"):
            other = getattr(reflexio.AsyncReflexioClient, name)
            assert list(inspect.signature(method).parameters) == list(inspect.signature(other).parameters), name
            assert inspect.iscoroutinefunction(other) or inspect.isasyncgenfunction(other), name


def test_publish_and_read(server: ScriptedServer) -> None:
    async def story(client: reflexio.AsyncReflexioClient) -> None:
        receipts = [await client.publish_interaction("ada", [{"content": str(i)}]) for i in range(20)]
        response = await client.publish_interaction("ada", [{"content": "w"}], wait_for_response=True)
        assert response.interaction_ids
        assert (await receipts[-1].wait(30)).success
        assert receipts[-1].done
        assert len((await client.search_interactions(user_id="ada", query="x", top_k=100)).interactions) == 21
        assert len((await client.get_interactions(user_id="ada", top_k=5)).interactions) == 5
        assert len([i async for i in client.iter_interactions(user_id="ada")]) == 21
        assert (await client.flush()).delivered
        assert (await client.stats()).delivered == 20
        assert (await client.who_am_i()).account.email == "a@b.c"

    run(server, story)


def test_login(server: ScriptedServer) -> None:
    async def story(client: reflexio.AsyncReflexioClient) -> None:
        await client.login("a@b.c", "pw")
        assert client.api_key == make_key(fill="n")

    run(server, story)


def test_errors_come_as_in_the_blocking_client(server: ScriptedServer) -> None:
    server.script("WhoAmI", fail(Code.UNAVAILABLE), fail(Code.NOT_FOUND, "nowhere", info("NOT_FOUND", resource="x")))
    server.script("PublishInteractions", fail(Code.UNAVAILABLE))

    async def story(client: reflexio.AsyncReflexioClient) -> None:
        with pytest.raises(reflexio.NotFoundError, match="nowhere") as caught:
            await client.who_am_i()
        assert (caught.value.reason, caught.value.metadata) == ("NOT_FOUND", {"resource": "x"})
        assert (await client.publish_interaction("ada", [{"content": "x"}], wait_for_response=True)).success
        with pytest.raises(reflexio.UnimplementedError):
            await client.get_requests(user_id="ada")
        with pytest.raises(reflexio.InvalidArgumentError):
            await client.publish_interaction("ada", [{"x": 1}])
        server.always("SearchInteractions", lambda _request, _context: time.sleep(2))
        with pytest.raises(reflexio.DeadlineExceededError):
            await client.search_interactions(query="x", timeout=0.2)

    run(server, story)
    assert server.count("PublishInteractions") == 2


def test_a_rejection_reaches_the_receipt(server: ScriptedServer) -> None:
    server.script(STREAM, verdict(0, 0, (0, "INVALID_FIELD")))

    async def story(client: reflexio.AsyncReflexioClient) -> None:
        receipt = await client.publish_interaction("ada", [{"content": "x"}])
        with pytest.raises(reflexio.InvalidArgumentError):
            await receipt.wait(30)

    run(server, story)


def test_waiting_does_not_block_the_loop_and_giving_up_does_not_cancel(server: ScriptedServer) -> None:
    free = threading.Event()

    def slow(sent: Any, context: grpc.ServicerContext) -> Any:
        free.wait(30)
        return verdict(len(sent))(sent, context)

    server.script(STREAM, slow)

    async def story(client: reflexio.AsyncReflexioClient) -> None:
        receipt = await client.publish_interaction("ada", [{"content": "x"}])
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        with pytest.raises(reflexio.DeadlineExceededError):
            await receipt.wait(0.05)
        begin = time.monotonic()
        reads = [client.get_interactions(user_id="ada") for _ in range(50)]
        assert {r.pending_count for r in await asyncio.gather(*reads)} == {1}
        assert time.monotonic() - begin < 10, "the reads wait their 2 seconds side by side"
        assert (await client.flush(0.1)).pending == 1
        assert ticks > 20
        ticking.cancel()
        free.set()
        assert (await receipt.wait(30)).success

    run(server, story)


def test_publish_many_from_both_kinds_of_iterables(server: ScriptedServer) -> None:
    def item(i: int) -> dict[str, Any]:
        return {"user_id": "ada", "interactions": [{"content": str(i)}]}

    async def many() -> AsyncIterator[dict[str, Any]]:
        for i in range(1_200):
            yield item(i)
            if i % 100 == 0:
                await asyncio.sleep(0)
        yield {"user_id": ""}

    async def story(client: reflexio.AsyncReflexioClient) -> None:
        seen: list[int] = []
        server.script(STREAM, fail(Code.UNAVAILABLE))
        result = await client.publish_many(many(), on_progress=lambda p: seen.append(p.requests.total))
        assert result.requests == reflexio.Counts(stored=1_200, rejected=1)
        assert result.rejections[0].index == 1_200
        assert seen == [1_000, 1_201]
        assert (await client.publish_many([item(0)])).requests.stored == 1

    run(server, story)


def test_a_picture(server: ScriptedServer) -> None:
    server.script("GetImage", answer([pb.GetImageResponse(data=b"ab"), pb.GetImageResponse(data=b"c")]))

    async def story(client: reflexio.AsyncReflexioClient) -> None:
        assert await client.get_image("i") == b"abc"

    run(server, story)


def test_requests_by_thread(server: ScriptedServer) -> None:
    def page(token: str, request_id: str, content: str, continues: bool) -> pb.GetRequestsResponse:
        found = pb.GetRequestsResponse(next_page_token=token)
        one = found.request_groups.add(request_group="g").requests.add(continues=continues)
        one.request.request_id, one.request.request_group = request_id, "g"
        one.interactions.add(content=content)
        return found

    pages = [page("b", "1", "a", True), page("c", "1", "b", False), page("", "2", "c", False)]

    async def story(client: reflexio.AsyncReflexioClient) -> None:
        server.script("GetRequests", *map(answer, pages))
        (group,) = (await client.get_requests(user_id="ada")).request_groups
        assert [[i.content for i in r.interactions] for r in group.requests] == [["a", "b"], ["c"]]
        server.script("GetRequests", *map(answer, pages))
        found = [r.request.request_id async for r in client.iter_requests({"user_id": "ada", "top_k": 1})]
        assert found == ["1"]

    run(server, story)
    assert [r.page_size for r in server.sent("GetRequests")] == [30, 30, 29, 1, 1]


def test_one_client_in_several_loops_and_delivery_after_the_loop(server: ScriptedServer) -> None:
    client = reflexio.AsyncReflexioClient(KEY, server.url)

    async def use() -> None:
        await client.who_am_i()
        await client.publish_interaction("ada", [{"content": "x"}])

    asyncio.run(use())
    asyncio.run(use())
    asyncio.run(client.close())
    assert len(server.stored_contents()) == 2


def test_closing_ends_calls_in_flight(server: ScriptedServer) -> None:
    free = threading.Event()
    server.always("SearchInteractions", lambda _request, _context: free.wait(30))

    async def main() -> None:
        client = reflexio.AsyncReflexioClient(KEY, server.url)
        search = asyncio.create_task(client.search_interactions(query="x"))
        while not server.count("SearchInteractions"):
            await asyncio.sleep(0.01)
        await client.close()
        with pytest.raises(reflexio.ClosedError):
            await search
        with pytest.raises(reflexio.ClosedError):
            await client.who_am_i()

    asyncio.run(main())
    free.set()


def test_a_cancelled_task_is_cancelled(server: ScriptedServer) -> None:
    free = threading.Event()
    server.always("SearchInteractions", lambda _request, _context: free.wait(30))

    async def story(client: reflexio.AsyncReflexioClient) -> None:
        search = asyncio.create_task(client.search_interactions(query="x"))
        await asyncio.sleep(0.1)
        search.cancel()
        with pytest.raises(asyncio.CancelledError):
            await search

    run(server, story)
    free.set()
