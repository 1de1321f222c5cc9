"""Deletes of the client: what is sent and answered, and their place among publishes, against a scripted server."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

import reflexio
from reflexio import retry
from reflexio.v1 import interaction_service_pb2 as pb
from tests.client.scripted_server import (
    KEY,
    NOT_FOUND,
    ScriptedServer,
    answer,
    eventually,
    fail,
    foreign,
    info,
    retry_after,
    verdict,
)

Code = grpc.StatusCode
STREAM = "PublishInteractionStream"
Delete = Callable[..., Any]


def publish(client: reflexio.ReflexioClient, content: str, user_id: str = "ada", **more: Any) -> Any:
    return client.publish_interaction(user_id, [{"content": content}], **more)


def order(server: ScriptedServer) -> list[Any]:
    """What the server was sent: the contents of each stream, or the name of a delete."""
    return [
        [i.content for request in call.sent for i in request.interactions] if call.method == STREAM else call.method
        for call in server.calls
    ]


@pytest.fixture
def held(server: ScriptedServer, client: reflexio.ReflexioClient) -> Iterator[threading.Event]:
    """The sender is busy with a first publish until the event is set: what comes behind it lies in the spool."""
    busy, free = threading.Event(), threading.Event()

    def wait(sent: Any, context: grpc.ServicerContext) -> Any:
        busy.set()
        free.wait(60)
        return verdict(stored=len(sent))(sent, context)

    server.script_first(STREAM, wait)
    publish(client, "first", "nobody")
    assert busy.wait(30)
    yield free
    free.set()


DELETES: dict[str, tuple[Callable[..., Any], Any]] = {
    "DeleteInteraction": (
        lambda client, **more: client.delete_interaction("ada", "r/0", **more),
        pb.DeleteInteractionRequest(user_id="ada", interaction_id="r/0"),
    ),
    "DeleteRequest": (
        lambda client, **more: client.delete_request("r", user_id="ada", **more),
        pb.DeleteRequestRequest(request_id="r", user_id="ada"),
    ),
    "DeleteRequestGroup": (
        lambda client, **more: client.delete_request_group("g", "ada", **more),
        pb.DeleteRequestGroupRequest(user_id="ada", request_group="g"),
    ),
    "DeleteUser": (lambda client, **more: client.delete_user("ada", **more), pb.DeleteUserRequest(user_id="ada")),
}


@pytest.mark.parametrize("method", DELETES)
@pytest.mark.parametrize("wait", [True, False])
def test_each_sends_its_message_and_counts_what_went(
    server: ScriptedServer, client: reflexio.ReflexioClient, method: str, wait: bool
) -> None:
    publish(client, "x", request_group="g", request_id="r", wait_for_response=True)
    delete, message = DELETES[method]

    def outcome() -> reflexio.DeleteResponse:
        done: Any = delete(client, wait_for_response=wait)
        response: reflexio.DeleteResponse = done if wait else done.wait(30)
        return response

    response = outcome()
    assert server.sent(method) == [message]
    whole = method != "DeleteInteraction"
    assert (response.success, response.requests, response.interactions) == (True, int(whole), 1)
    assert response.deleted_requests_count == response.requests
    assert "1 interactions" in response.message
    assert client.get_interactions(user_id="ada").interactions == []
    with pytest.raises(reflexio.NotFoundError, match="not there") as caught:
        outcome()
    assert (caught.value.reason, caught.value.metadata) == ("NOT_FOUND", {"resource": "scripted"})
    assert client.stats().dead == 0


def test_without_a_user_it_is_anybodys(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    publish(client, "x", request_id="r", wait_for_response=True)
    client.delete_interaction(None, "r/0", True)
    client.delete_request("r", True)
    assert not server.sent("DeleteInteraction")[0].HasField("user_id")
    assert not server.sent("DeleteRequest")[0].HasField("user_id")


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("interaction_id", lambda client: client.delete_interaction("ada", "")),
        ("user_id", lambda client: client.delete_interaction("", "i")),
        ("request_id", lambda client: client.delete_request(7)),
        ("wait_for_response", lambda client: client.delete_request("r", "ada")),
        ("user_id", lambda client: client.delete_request("r", user_id="")),
        ("user_id", lambda client: client.delete_request_group("g", True)),
        ("request_group", lambda client: client.delete_request_group("", "ada")),
        ("user_id", lambda client: client.delete_user("a\0")),
        ("user_id", lambda client: client.delete_user(None)),
        ("timeout", lambda client: client.delete_user("ada", True, timeout=0)),
    ],
)
def test_what_cannot_be_meant_is_refused_here(
    server: ScriptedServer, client: reflexio.ReflexioClient, field: str, call: Delete
) -> None:
    with pytest.raises(reflexio.InvalidArgumentError) as caught:
        call(client)
    assert caught.value.violations[0][0] == field
    assert (server.calls, client.stats().pending) == ([], 0)


def test_without_a_key_nothing_is_taken(server: ScriptedServer) -> None:
    client = reflexio.ReflexioClient(url_endpoint=server.url)
    for wait in (True, False):
        with pytest.raises(reflexio.AuthenticationError, match="no API key"):
            client.delete_user("ada", wait)
    client.close()
    for wait in (True, False):
        with pytest.raises(reflexio.ClosedError):
            client.delete_user("ada", wait)


def test_a_delete_keeps_its_place_among_publishes(
    server: ScriptedServer, client: reflexio.ReflexioClient, held: threading.Event
) -> None:
    publish(client, "a")
    publish(client, "b", "bob")
    gone = client.delete_user("ada")
    publish(client, "c")
    publish(client, "d", "bob")
    nothing = client.delete_request("unknown")
    publish(client, "e")
    held.set()
    assert client.flush(30).delivered, "a flush covers deletes"
    assert order(server) == [["first"], ["a", "b"], "DeleteUser", ["c", "d"], "DeleteRequest", ["e"]]
    assert sorted(server.stored_contents()) == ["b", "c", "d", "e"]
    assert gone.wait(0).requests == 1
    with pytest.raises(reflexio.NotFoundError):
        nothing.wait(0)
    stats = client.stats()
    assert (stats.delivered, stats.rejected, stats.pending, stats.dead) == (8, 0, 0, 0)


def test_a_publish_that_has_to_be_repeated_still_comes_before_the_delete(
    server: ScriptedServer, client: reflexio.ReflexioClient, held: threading.Event
) -> None:
    """It goes behind other publishes then, but not behind the delete, which would let it stay."""
    server.script(STREAM, verdict(1, 0, (0, "INTERNAL")), verdict(0, 0, (0, "INTERNAL")))
    publish(client, "poison")
    publish(client, "good")
    client.delete_user("ada")
    publish(client, "later")
    held.set()
    assert client.flush(60).delivered
    assert order(server) == [["first"], ["poison", "good"], ["poison"], ["poison"], "DeleteUser", ["later"]]
    assert server.stored_contents() == ["later"]


def test_one_that_waits_lets_earlier_publishes_arrive_first(
    server: ScriptedServer, client: reflexio.ReflexioClient, held: threading.Event
) -> None:
    publish(client, "x")
    threading.Timer(0.2, held.set).start()
    assert client.delete_user("ada", True).requests == 1
    assert server.stored_contents("ada") == []
    assert order(server)[-2:] == [["x"], "DeleteUser"]


def test_one_that_cannot_wait_any_longer_deletes_nothing(
    server: ScriptedServer, client: reflexio.ReflexioClient, held: threading.Event
) -> None:
    publish(client, "x")
    with pytest.raises(reflexio.DeadlineExceededError, match="nothing was deleted, for 1 earlier requests"):
        client.delete_user("ada", True, timeout=0.1)
    with pytest.raises(reflexio.DeadlineExceededError, match="nothing was deleted, for 2 earlier requests"):
        client.delete_request("r", True, timeout=0.1)
    publish(client, "other", "bob", wait_for_response=True)
    assert client.delete_user("bob", True, timeout=20).requests == 1, "it does not wait for other users"
    assert server.count("DeleteUser") == 1
    assert server.count("DeleteRequest") == 0


def test_a_publish_that_waits_does_not_overtake_a_delete_that_would_take_it(
    server: ScriptedServer, client: reflexio.ReflexioClient, held: threading.Event
) -> None:
    publish(client, "old", wait_for_response=True)
    client.delete_user("ada")
    many = [{"user_id": "ada", "interactions": [{"content": "many"}]}]
    with pytest.raises(reflexio.DeadlineExceededError, match="nothing was published, for 1 earlier requests"):
        publish(client, "new", wait_for_response=True, timeout=0.1)
    with pytest.raises(reflexio.DeadlineExceededError, match="nothing was published, for 2 earlier requests"):
        client.publish_many(many, timeout=0.1)
    publish(client, "other", "bob", wait_for_response=True)  # it goes past the deletes of others
    threading.Timer(0.2, held.set).start()
    publish(client, "new", wait_for_response=True)
    client.delete_user("bob")
    client.publish_many(many)
    assert sorted(server.stored_contents()) == ["many", "new"]


def test_closing_ends_the_waiting(
    server: ScriptedServer, client: reflexio.ReflexioClient, held: threading.Event
) -> None:
    publish(client, "x")
    threading.Timer(0.2, client.close, (0,)).start()
    with pytest.raises(reflexio.ClosedError):
        client.delete_user("ada", True, timeout=60)
    assert server.count("DeleteUser") == 0


def test_a_refused_key_is_said_at_once(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    server.always(STREAM, fail(Code.UNAUTHENTICATED, "no such key", info("UNAUTHENTICATED")))
    publish(client, "x")
    with pytest.raises(reflexio.AuthenticationError, match=r"nothing was deleted.*no such key"):
        client.delete_user("ada", True, timeout=60)
    assert server.count("DeleteUser") == 0


def test_reads_wait_for_deletes_too(
    server: ScriptedServer, client: reflexio.ReflexioClient, held: threading.Event
) -> None:
    publish(client, "x", request_id="r", wait_for_response=True)
    client.delete_request("r")
    threading.Timer(0.2, held.set).start()
    assert client.get_interactions(user_id="ada").interactions == []


def test_an_outage_is_survived(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    publish(client, "old").wait(30)
    server.stop()
    publish(client, "before")
    receipt = client.delete_user("ada")
    publish(client, "after")
    assert client.flush(0.3).pending == 3
    assert not receipt.done
    server.start()
    assert receipt.wait(60).requests == 2
    assert client.flush(60).delivered
    assert server.stored_contents() == ["after"]


def test_it_is_repeated_while_the_server_is_not_available(
    server: ScriptedServer, client: reflexio.ReflexioClient
) -> None:
    publish(client, "x").wait(30)
    server.script("DeleteUser", *[fail(Code.UNAVAILABLE)] * 6)
    assert client.delete_user("ada", True, timeout=60).requests == 1
    publish(client, "y").wait(30)
    server.script("DeleteUser", *[fail(code) for code in (Code.ABORTED, Code.UNKNOWN, Code.DEADLINE_EXCEEDED)])
    server.script("DeleteUser", fail(Code.RESOURCE_EXHAUSTED, "busy", info("TOO_BUSY"), retry_after(0.1)))
    assert client.delete_user("ada").wait(60).requests == 1


@pytest.mark.parametrize("error", [fail(Code.UNIMPLEMENTED), fail(Code.INTERNAL, "oh", info("INTERNAL"))])
def test_one_the_server_cannot_do_is_given_up_and_what_waits_behind_it_goes_on(
    server: ScriptedServer, client: reflexio.ReflexioClient, monkeypatch: pytest.MonkeyPatch, error: Any
) -> None:
    monkeypatch.setattr(retry, "_MAYBE_POISON", retry.Plan(split=True, attempts=3))
    monkeypatch.setitem(retry._PLANS, "INTERNAL", retry.Plan(split=True, attempts=3))
    server.always("DeleteUser", error)
    receipt = client.delete_user("ada")
    publish(client, "behind")
    with pytest.raises((reflexio.UnimplementedError, reflexio.InternalError)):
        receipt.wait(60)
    assert client.flush(60).delivered
    assert server.stored_contents() == ["behind"]
    assert (client.stats().dead, client.stats().rejections[0].request_id) == (1, receipt.request_id)


def test_a_not_found_that_is_not_the_servers_is_no_end(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    publish(client, "x").wait(30)
    server.script("DeleteUser", fail(Code.NOT_FOUND, "some proxy"), fail(Code.NOT_FOUND, "another", foreign()))
    assert client.delete_user("ada").wait(30).requests == 1
    assert client.flush(30).delivered
    assert client.stats().dead == 0


def test_a_late_retry_of_what_was_erased_is_dropped_and_said(
    server: ScriptedServer, client: reflexio.ReflexioClient, held: threading.Event
) -> None:
    server.erased.add("r")
    receipts = [publish(client, "old", request_id="r"), publish(client, "new")]
    held.set()
    with pytest.raises(reflexio.RequestErasedError) as caught:
        receipts[0].wait(30)
    assert (caught.value.code, caught.value.reason) == ("ALREADY_EXISTS", "REQUEST_ERASED")
    assert isinstance(caught.value, reflexio.AlreadyExistsError)
    assert receipts[1].wait(30).success
    assert client.flush(30).delivered
    stats = client.stats()
    assert (stats.rejected, [r.reason for r in stats.rejections]) == (1, ["REQUEST_ERASED"])
    assert stats.dead == 0, "of what is erased nothing is kept"
    with pytest.raises(reflexio.RequestErasedError):
        publish(client, "old", request_id="r", wait_for_response=True)
    bulk = client.publish_many([{"user_id": "ada", "interactions": [{"content": "x"}], "request_id": "r"}])
    assert (bulk.requests.rejected, bulk.rejections[0].reason) == (1, "REQUEST_ERASED")


def test_on_delivery_hears_of_deletes(server: ScriptedServer) -> None:
    heard: list[reflexio.Delivery] = []
    with reflexio.ReflexioClient(KEY, server.url, on_delivery=heard.append) as client:
        publish(client, "x")
        gone = client.delete_user("ada")
        nothing = client.delete_request("r")
        client.flush(30)
    assert [(d.method, d.request_id, d.user_id, d.stored) for d in heard[1:]] == [
        ("delete_user", gone.request_id, "ada", False),
        ("delete_request", nothing.request_id, "", False),
    ]
    assert (heard[0].method, heard[0].stored, heard[1].error) == ("publish_interaction", True, None)
    assert isinstance(heard[2].error, reflexio.NotFoundError)


def test_the_awaitable_client(server: ScriptedServer) -> None:
    async def story() -> None:
        async with reflexio.AsyncReflexioClient(KEY, server.url, timeout=20) as client:
            await client.publish_interaction("ada", [{"content": "x"}])
            receipt = await client.delete_user("ada")
            await client.publish_interaction("ada", [{"content": "y"}], request_group="g", request_id="r")
            assert (await receipt.wait(30)).requests == 1
            assert (await client.flush()).delivered
            assert server.stored_contents() == ["y"]
            assert (await client.delete_interaction("ada", "r/0", True)).interactions == 1
            assert (await client.delete_request_group("g", "ada", True)).deleted_requests_count == 1
            with pytest.raises(reflexio.NotFoundError):
                await client.delete_request("r", True)
            with pytest.raises(reflexio.NotFoundError):
                await (await client.delete_request("r")).wait(30)
            with pytest.raises(reflexio.InvalidArgumentError):
                await client.delete_user("")
            await client.publish_interaction("ada", [{"content": "x"}])
            await client.delete_user("ada")
            await client.publish_interaction("ada", [{"content": "y"}], wait_for_response=True)
            await client.delete_user("ada")
            await client.publish_many([{"user_id": "ada", "interactions": [{"content": "many"}]}])
            assert server.stored_contents() == ["many"]
            server.script("DeleteUser", fail(Code.UNAVAILABLE), fail(Code.UNAVAILABLE))
            await client.publish_interaction("ada", [{"content": "z"}])
            assert (await client.delete_user("ada", True)).requests == 2

    asyncio.run(story())


def test_cancelling_who_waits_cancels_no_delete_that_was_accepted(server: ScriptedServer) -> None:
    free = threading.Event()

    def slow(_request: Any, _context: Any) -> Any:
        free.wait(60)
        return pb.DeleteUserResponse(erased=pb.ErasedCounts(requests=3))

    async def story() -> None:
        async with reflexio.AsyncReflexioClient(KEY, server.url, timeout=60) as client:
            server.script("DeleteUser", slow)
            receipt = await client.delete_user("ada")
            waiting = asyncio.create_task(receipt.wait())
            await asyncio.to_thread(eventually, lambda: server.count("DeleteUser") == 1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            held_up = asyncio.create_task(client.delete_user("ada", True))  # waits behind the first
            await asyncio.sleep(0.1)
            held_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await held_up
            free.set()
            assert (await receipt.wait(30)).requests == 3
            assert server.count("DeleteUser") == 1, "the cancelled one was never sent"

    asyncio.run(story())


def test_an_answer_that_comes_too_late_is_repeated_and_then_not_found(
    server: ScriptedServer, client: reflexio.ReflexioClient
) -> None:
    """As the docstrings say: what an attempt without an answer did is not known."""
    publish(client, "x").wait(30)

    def erase_and_break(request: pb.DeleteUserRequest, context: grpc.ServicerContext) -> Any:
        server.erase(lambda stored: stored.user_id == request.user_id)
        return fail(Code.ABORTED)(request, context)

    server.script("DeleteUser", erase_and_break)
    with pytest.raises(reflexio.NotFoundError):
        client.delete_user("ada").wait(30)
    assert server.stored_contents() == []


def test_counts_of_pictures(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    counts = pb.ErasedCounts(requests=2, interactions=5, images=3)
    server.script("DeleteRequestGroup", answer(pb.DeleteRequestGroupResponse(erased=counts)), NOT_FOUND)
    response = client.delete_request_group("g", "ada", True)
    assert response == reflexio.DeleteResponse(True, "deleted: 2 requests, 5 interactions, 3 images", 2, 5, 3)
    begin = time.monotonic()
    with pytest.raises(reflexio.NotFoundError):
        client.delete_request_group("g", "ada", True)
    assert time.monotonic() - begin < 15, "it is not repeated"
