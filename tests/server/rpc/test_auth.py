"""Logging in, keys, and what is kept of secrets."""

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy import select

from reflexio.ids import account_tag, checksum
from reflexio.v1 import auth_pb2
from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio_server.storage.tables import accounts
from tests.support import PASSWORD, Caller, LocalServer, log_in
from tests.wire import code_of, expect, failure, micros_of

pytestmark = pytest.mark.store


def who_am_i(caller: Caller) -> auth_pb.WhoAmIResponse:
    return caller.auth.WhoAmI(auth_pb.WhoAmIRequest(), metadata=caller.metadata, timeout=10)


def list_keys(caller: Caller, **fields: Any) -> auth_pb.ListApiKeysResponse:
    return caller.auth.ListApiKeys(auth_pb.ListApiKeysRequest(**fields), metadata=caller.metadata, timeout=10)


def revoke(caller: Caller, key_id: str) -> auth_pb2.ApiKey:
    request = auth_pb.RevokeApiKeyRequest(key_id=key_id)
    return caller.auth.RevokeApiKey(request, metadata=caller.metadata, timeout=10).api_key


def test_a_key_has_the_form_that_the_contract_promises(caller: Caller) -> None:
    me = who_am_i(caller)
    prefix, tag, rest = caller.api_key.split("_", 2)
    assert (prefix, tag) == ("rflx", me.account.tag)
    assert len(tag) == 10
    assert len(rest) == 43 + 6
    assert rest[-6:] == checksum(caller.api_key[:-6])
    assert account_tag(caller.api_key) == tag


@pytest.mark.parametrize("change", [str.upper, str.title, lambda email: f"  {email}\n"])
def test_the_case_of_an_email_does_not_matter(caller: Caller, change: Callable[[str], str]) -> None:
    again = log_in(caller.address, change(caller.email))
    assert who_am_i(again).account == who_am_i(caller).account
    assert who_am_i(again).account.email == caller.email


def test_who_am_i(caller: Caller) -> None:
    second = log_in(caller.address, caller.email)
    for one in (caller, second):
        me = who_am_i(one)
        assert me.account.email == caller.email
        assert 0 < micros_of(me.account.created_at) <= micros_of(me.api_key.created_at)
        assert one.api_key.startswith(me.api_key.hint)
        assert len(me.api_key.hint) == len("rflx_") + 10 + 1 + 4, "four characters of the secret, to recognise it"
        assert not me.api_key.HasField("revoked_at")
    assert who_am_i(caller).api_key.key_id != who_am_i(second).api_key.key_id


def test_each_login_makes_a_key_and_the_older_ones_live_on(caller: Caller) -> None:
    logins = [caller, *(log_in(caller.address, caller.email) for _ in range(5))]
    assert len({login.api_key for login in logins}) == 6
    assert all(who_am_i(login).account.email == caller.email for login in logins)


def test_keys_are_listed_newest_first_in_pages_without_secrets(caller: Caller) -> None:
    logins = [caller, *(log_in(caller.address, caller.email) for _ in range(6))]
    revoke(caller, who_am_i(logins[3]).api_key.key_id)
    whole = list_keys(caller)
    assert not whole.next_page_token
    assert [key.hint for key in whole.api_keys] == [login.api_key[:20] for login in reversed(logins)]
    assert [key.HasField("revoked_at") for key in whole.api_keys] == [number == 3 for number in range(7)]
    made = [micros_of(key.created_at) for key in whole.api_keys]
    assert made == sorted(made, reverse=True)
    assert all(login.api_key[20:].encode() not in whole.SerializeToString() for login in logins)

    found: list[auth_pb2.ApiKey] = []
    token, sizes = "", []
    while not found or token:
        page = list_keys(caller, page_size=3, page_token=token)
        if token:
            log_in(caller.address, caller.email)  # newer ones do not disturb
        found += page.api_keys
        sizes.append(len(page.api_keys))
        token = page.next_page_token
    assert found == list(whole.api_keys)
    assert sizes == [3, 3, 1]


def test_a_page_of_keys_has_100_unless_asked_otherwise(caller: Caller) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: log_in(caller.address, caller.email), range(100)))
    first = list_keys(caller)
    second = list_keys(caller, page_token=first.next_page_token)
    assert (len(first.api_keys), len(second.api_keys)) == (100, 1)
    assert not second.next_page_token


def test_a_revoked_key_stops_and_the_others_go_on(caller: Caller) -> None:
    other = log_in(caller.address, caller.email)
    other_id = who_am_i(other).api_key.key_id
    first = revoke(caller, other_id)
    assert micros_of(first.revoked_at) >= micros_of(first.created_at)
    for call in (other.get, lambda: who_am_i(other), lambda: other.stream([]), lambda: revoke(other, other_id)):
        expect(failure(call), grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert revoke(caller, other_id) == first, "again changes nothing"
    assert other_id in [key.key_id for key in list_keys(caller).api_keys if key.HasField("revoked_at")]
    who_am_i(caller)


def test_a_key_may_revoke_itself(caller: Caller) -> None:
    revoke(caller, who_am_i(caller).api_key.key_id)
    assert code_of(lambda: who_am_i(caller)) is grpc.StatusCode.UNAUTHENTICATED
    who_am_i(log_in(caller.address, caller.email))


@pytest.mark.parametrize("key_id", ["x", "01900000-0000-7000-8000-000000000000", "' OR 1=1 --", "é"])
def test_a_key_that_is_not_there(caller: Caller, key_id: str) -> None:
    found = failure(revoke, caller, key_id)
    expect(found, grpc.StatusCode.NOT_FOUND, "NOT_FOUND", resource="api_key")


def test_whatever_is_wrong_with_the_key_the_answer_is_the_same(caller: Caller) -> None:
    key = caller.api_key
    unknown = f"rflx_{account_tag(key)}_{secrets.token_urlsafe(32)}"
    revoked = log_in(caller.address, caller.email)
    revoke(caller, who_am_i(revoked).api_key.key_id)
    wrong_checksum = key[:-1] + ("0" if key[-1] != "0" else "1")
    headers: list[tuple[tuple[str, str | bytes], ...]] = [
        (),
        *(
            (("authorization", value),)
            for value in ("", "Bearer", "Bearer ", "Bearer nonsense", key, f"Basic {key}", f"Bearer {key} {key}")
        ),
        (("authorization", f"Bearer {wrong_checksum}"),),
        (("authorization", f"Bearer {unknown}{checksum(unknown)}"),),
        revoked.metadata,
        (*caller.metadata, *caller.metadata),
        (("authorization-bin", f"Bearer {key}".encode()),),
        (("x-api-key", key),),
    ]
    answers = [failure(caller.auth.WhoAmI, auth_pb.WhoAmIRequest(), metadata=metadata) for metadata in headers]
    expect(answers[0], grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert all(answer == answers[0] for answer in answers), answers
    for scheme in ("bearer", "BEARER"):
        caller.auth.WhoAmI(auth_pb.WhoAmIRequest(), metadata=(("authorization", f"{scheme} {key}"),))


def test_login_does_not_tell_an_unknown_account_from_a_wrong_password(caller: Caller) -> None:
    unknown = failure(log_in, caller.address, "nobody@example.com")
    expect(unknown, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    for email, password in (
        (caller.email, "not the password"),
        (caller.email, PASSWORD.upper()),
        (caller.email, f" {PASSWORD}"),
        ("no email at all", PASSWORD),
    ):
        assert failure(log_in, caller.address, email, password) == unknown


@pytest.mark.sqlite
def test_no_file_holds_a_key_or_a_password(start: Callable[..., LocalServer], tmp_path: Path) -> None:
    server = start(tmp_path / "data")
    caller = server.new_caller()
    others = [log_in(caller.address, caller.email) for _ in range(3)]
    caller.publish("u", "a text that is to be found")
    revoke(caller, who_am_i(others[0]).api_key.key_id)
    with server.app.database.read() as conn:
        kept = conn.execute(select(accounts.c.password_hash)).scalar_one()
    assert kept.startswith("$argon2id$")
    keys = [one.api_key for one in (caller, *others)]
    secret = [PASSWORD, *keys, *(key.split("_", 2)[2][:43] for key in keys), *(key[21:40] for key in keys)]
    for moment in ("running", "stopped"):
        files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
        data = b"".join(path.read_bytes() for path in files)
        assert b"a text that is to be found" in data, f"the files are those that are used ({moment})"
        assert not [text for text in secret if text.encode() in data], moment
        server.stop()
