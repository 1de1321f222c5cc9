"""Questionable 14: a query beyond its limit is cut to what counts, not refused. N10: a wrong password says so."""

import grpc
import pytest

import reflexio
from reflexio_server.rpc.convert import _beginning
from tests.support import PASSWORD, Caller, LocalServer

pytestmark = pytest.mark.store

MOST = 4096


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("short", "short"),
        ("a" * MOST, "a" * MOST),
        ("a" * 5000, "a" * MOST),
        ("ab " * 2000, ("ab " * 2000)[: MOST - 2].rstrip()),
        ("ä" * 3000, "ä" * 2048),
        ("x" + "発" * 2000, "x" + "発" * 1365),
    ],
)
def test_the_beginning_of_a_text(text: str, kept: str) -> None:
    assert _beginning(text, MOST) == kept
    assert len(_beginning(text, MOST).encode()) <= MOST


def test_a_whole_turn_as_the_query(caller: Caller) -> None:
    caller.publish("ada", "my parcel never arrived", "the weather is fine")
    query = "where is my parcel? " + "and please do be so kind " * 2000
    with reflexio.ReflexioClient(caller.api_key, f"http://{caller.address}/") as client:
        hits = client.search_interactions(user_id="ada", query=query).hits
    assert hits[0].interaction.content == "my parcel never arrived"
    assert caller.search(query="parcel " * 20_000).hits
    with pytest.raises(grpc.RpcError, match="U\\+0000"):
        caller.search(query="a\0b")


@pytest.mark.parametrize("wrong", ["email", "password"])
def test_a_wrong_password_says_so(server: LocalServer, wrong: str) -> None:
    caller = server.new_caller()
    email, password = caller.email, PASSWORD
    with reflexio.ReflexioClient(url_endpoint=f"http://{server.address}/") as client:
        given = (f"x{email}", password) if wrong == "email" else (email, f"{password}x")
        with pytest.raises(reflexio.AuthenticationError, match="the email and the password do not fit") as caught:
            client.login(*given)
        assert caught.value.reason == "UNAUTHENTICATED"
        assert client.login(email, password).api_key
