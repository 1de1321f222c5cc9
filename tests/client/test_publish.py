import threading
import time

import grpc
import pytest

import reflexio
from reflexio.v1 import auth_pb2
from reflexio.v1 import auth_service_pb2 as auth
from reflexio.v1 import interaction_service_pb2 as pb
from tests.client.scripted_server import KEY, ScriptedServer, answer, fail, info, retry_after

Code = grpc.StatusCode
PUBLISH = "PublishInteractions"


def publish(
    client: reflexio.ReflexioClient, request_id: str | None = None, timeout: float | None = None
) -> reflexio.PublishUserInteractionResponse:
    return client.publish_interaction(
        "ada", [{"content": "x"}], "chat", "v1", "group", wait_for_response=True, request_id=request_id, timeout=timeout
    )


def test_waiting_gives_the_ids(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    response = publish(client)
    (sent,) = server.sent(PUBLISH)
    assert (response.success, response.searchable, response.replayed) == (True, True, False)
    assert response.request_id == sent.request_id
    assert response.interaction_ids == [f"{sent.request_id}/0"]
    assert (sent.source, sent.agent_version, sent.request_group) == ("chat", "v1", "group")
    assert sent.wait_until == pb.WAIT_UNTIL_SEARCHABLE


def test_stored_but_not_searchable_yet_is_said(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    server.script(PUBLISH, answer(pb.PublishInteractionsResponse(request_id="r", searchable=False)))
    response = publish(client)
    assert response.success
    assert response.searchable is False
    assert "not all" in response.message


def test_it_is_repeated_with_the_same_request_id(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    server.script(PUBLISH, fail(Code.UNAVAILABLE), fail(Code.UNAVAILABLE, "d", info("DRAINING"), retry_after(0.1)))
    assert publish(client).success
    first, second, third = server.sent(PUBLISH)
    assert first == second == third


def test_repeating_ends_with_the_timeout() -> None:
    with reflexio.ReflexioClient(KEY, "http://127.0.0.1:1/") as client:
        begin = time.monotonic()
        with pytest.raises(reflexio.UnavailableError, match=r"http://127\.0\.0\.1:1/"):
            publish(client, timeout=0.5)
        assert time.monotonic() - begin < 10


def test_other_errors_are_not_repeated(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    server.script(PUBLISH, fail(Code.ALREADY_EXISTS, "used", info("REQUEST_ID_REUSED", request_id="mine")))
    with pytest.raises(reflexio.AlreadyExistsError) as caught:
        publish(client, request_id="mine")
    assert caught.value.metadata["request_id"] == "mine"
    assert server.count(PUBLISH) == 1


def test_a_request_id_of_ones_own_makes_the_call_repeatable(
    server: ScriptedServer, client: reflexio.ReflexioClient
) -> None:
    assert not publish(client, request_id="mine").replayed
    assert publish(client, request_id="mine").replayed
    first, second = server.sent(PUBLISH)
    assert first == second


def test_reads_wait_for_own_publishes(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    for i in range(30):
        client.publish_interaction("ada", [{"content": str(i)}])
    assert len(client.get_interactions(user_id="ada", top_k=100).interactions) == 30
    client.publish_interaction("ada", [{"content": "more"}])
    response = client.search_interactions(query="more", top_k=1000)
    assert len(response.interactions) == 31
    assert (response.pending_count, response.msg) == (0, "")


def test_reads_wait_2_seconds_at_most_and_only_for_their_user(
    server: ScriptedServer, client: reflexio.ReflexioClient
) -> None:
    free = threading.Event()
    server.always("PublishInteractionStream", lambda _sent, _context: free.wait(60))
    client.publish_interaction("ada", [{"content": "x"}])
    begin = time.monotonic()
    assert client.get_interactions(user_id="bob").pending_count == 0
    assert time.monotonic() - begin < 1.5
    response = client.get_interactions(user_id="ada")
    assert 1.9 < time.monotonic() - begin < 10
    assert response.pending_count == 1
    assert "1 of this client's own publishes" in response.msg
    assert client.search_interactions(query="x").pending_count == 1
    free.set()


def test_the_account(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    keys = [auth_pb2.ApiKey(key_id=str(i), hint="rflx_") for i in range(3)]
    keys[2].revoked_at.seconds = 7
    server.script(
        "ListApiKeys",
        answer(auth.ListApiKeysResponse(api_keys=keys[:2], next_page_token="n")),
        answer(auth.ListApiKeysResponse(api_keys=keys[2:])),
    )
    found = client.list_api_keys()
    assert [(key.key_id, key.revoked_at) for key in found] == [("0", None), ("1", None), ("2", 7)]
    assert [request.page_token for request in server.sent("ListApiKeys")] == ["", "n"]
    server.script("RevokeApiKey", answer(auth.RevokeApiKeyResponse(api_key=keys[2])))
    assert client.revoke_api_key("2").revoked_at == 7
    with pytest.raises(reflexio.InvalidArgumentError, match="key_id"):
        client.revoke_api_key("")
