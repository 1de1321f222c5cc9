"""`reflexio-server accounts passwd|disable|enable` and `keys list|revoke`, most of them beside a running server."""

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.core import accounts as core
from reflexio_server.rpc import publish_stream
from reflexio_server.storage.database import own
from tests import stores
from tests.command import EMAIL, Terminal, create, run, said
from tests.support import PASSWORD, Caller, LocalServer, log_in
from tests.wire import OpenStream, code_of, expect, failure, to_first_schema, wait_until

CACHED, OTHER = 0.3, "another password"


@pytest.fixture
def server(start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    """A server that remembers keys for a shorter time than the real one, so that tests need not wait for long."""
    monkeypatch.setattr(core, "KEY_CACHE_SECONDS", CACHED)
    monkeypatch.setattr(publish_stream, "RECHECK_SECONDS", CACHED)
    return start()


@pytest.fixture
def caller(server: LocalServer) -> Caller:
    return server.new_caller()


def works(caller: Caller) -> bool:
    code = code_of(lambda: caller.auth.WhoAmI(auth_pb.WhoAmIRequest(), metadata=caller.metadata, timeout=10))
    assert code in (grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED)
    return code is grpc.StatusCode.OK


def key_id(caller: Caller) -> str:
    answer = caller.auth.WhoAmI(auth_pb.WhoAmIRequest(), metadata=caller.metadata, timeout=10)
    return answer.api_key.key_id


def done(server: LocalServer, *arguments: str, given: str = "") -> tuple[str, str]:
    """A command that must succeed: what it said, and its audit lines."""
    result = run(*arguments, "--data-dir", server.data_dir, given=given)
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def test_a_revoked_key_stops_within_the_time_it_is_cached() -> None:
    assert core.KEY_CACHE_SECONDS + publish_stream.RECHECK_SECONDS + publish_stream._LOOK_SECONDS < 30


def test_keys_are_listed_newest_first_without_secrets(server: LocalServer, caller: Caller) -> None:
    second = log_in(server.address, caller.email)
    ids = [key_id(second), key_id(caller)]
    done(server, "keys", "revoke", caller.email, ids[1], "--yes")
    shown, audit = done(server, "keys", "list", caller.email.upper())
    assert audit == ""
    rows = [line.split("\t") for line in shown.splitlines()]
    assert [row[0] for row in rows] == ids
    assert [row[1] for row in rows] == [f"{one.api_key[:20]}…" for one in (second, caller)]
    assert all(re.fullmatch(r"made \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", row[2]) for row in rows)
    assert rows[0][3] == "valid"
    assert rows[1][3].startswith("revoked 2")
    assert second.api_key not in shown


def test_revoked_keys_stop_and_the_others_go_on(server: LocalServer, caller: Caller) -> None:
    others = [log_in(server.address, caller.email) for _ in range(3)]
    assert all(map(works, (caller, *others)))
    gone = [key_id(one) for one in others[:2]]
    shown, audit = done(server, "keys", "revoke", caller.email, *gone, "--yes")
    assert shown == f"Revoked 2 keys of {caller.email}. A running server heeds it within 30 seconds.\n"
    assert [line.partition("INFO ")[2] for line in audit.splitlines()] == [
        f"reflexio.audit: key revoked account={caller.api_key.split('_')[1]} key_id={one}" for one in gone
    ]
    wait_until(lambda: not any(map(works, others[:2])), "the keys to stop", 30)
    assert works(caller)
    assert works(others[2])
    shown, _ = done(server, "keys", "revoke", caller.email, "--all", "--yes")
    assert shown.startswith("Revoked 2 keys of")
    wait_until(lambda: not works(caller) and not works(others[2]), "the keys to stop", 30)
    assert works(log_in(server.address, caller.email))


@pytest.mark.parametrize("how", ["revoke", "disable"])
def test_an_open_stream_ends_with_its_key(server: LocalServer, caller: Caller, how: str) -> None:
    stream = OpenStream(caller)
    stream.send("before")
    wait_until(lambda: len(caller.get(user_id="u").interactions) == 1, "the stream to be open")
    command = ("keys", "revoke", caller.email, "--all", "--yes")
    done(server, *(command if how == "revoke" else ("accounts", "disable", caller.email)))
    found = failure(stream.call.result, 30)
    expect(found, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


def test_a_stream_with_a_valid_key_is_left_alone(caller: Caller) -> None:
    stream = OpenStream(caller)
    for number in range(8):
        stream.send(f"{number}")
        threading.Event().wait(CACHED / 2)
    answer = stream.close()
    assert (answer.end_reason, answer.requests.stored) == (pb.END_REASON_COMPLETE, 8)


def test_a_wrong_id_revokes_nothing(server: LocalServer, caller: Caller) -> None:
    stranger = server.new_caller()
    for wrong in ("nonsense", key_id(stranger)):
        result = run("keys", "revoke", caller.email, key_id(caller), wrong, "--yes", "--data-dir", server.data_dir)
        assert said(result) == f"{caller.email} has no key {wrong}: nothing was revoked"
    shown, _ = done(server, "keys", "list", caller.email)
    assert shown.count("valid") == 1


def test_revoking_needs_a_yes(server: LocalServer, caller: Caller) -> None:
    mine = key_id(caller)
    for arguments in ((), ("--all", mine)):
        text = said(run("keys", "revoke", caller.email, *arguments, "--data-dir", server.data_dir))
        assert "or --all" in text
    text = said(run("keys", "revoke", caller.email, mine, "--data-dir", server.data_dir))
    assert "--yes" in text
    for answer, revoked in (("n", False), ("y", True)):
        with stores.in_environment(server.data_dir):
            terminal = Terminal("keys", "revoke", caller.email, mine, "--data-dir", server.data_dir)
        terminal.wait_for(f"Revoke 1 keys of {caller.email} for good? [y/N]:")
        terminal.type(answer)
        assert terminal.exit_code() == (0 if revoked else 1)
        assert ("revoked" in done(server, "keys", "list", caller.email)[0]) == revoked


def test_a_new_password_is_the_one_from_now_on(server: LocalServer, caller: Caller) -> None:
    shown, audit = done(server, "accounts", "passwd", caller.email, given=f"{OTHER}\n")
    assert shown == f"Changed the password of {caller.email}.\n"
    assert re.search(r"reflexio.audit: password changed account=\w{10} keys_revoked=0\n$", audit)
    assert OTHER not in shown + audit
    expect(failure(log_in, server.address, caller.email), grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    again = log_in(server.address, caller.email, OTHER)
    assert works(caller), "keys go on working"
    shown, _ = done(server, "accounts", "passwd", caller.email, "--revoke-keys", given=PASSWORD)
    assert shown == f"Changed the password of {caller.email}. Revoked 2 keys.\n"
    wait_until(lambda: not works(caller) and not works(again), "the keys to stop", 30)
    assert works(log_in(server.address, caller.email))


def test_a_bad_new_password_changes_nothing(server: LocalServer, caller: Caller) -> None:
    result = run("accounts", "passwd", caller.email, "--data-dir", server.data_dir, given="short")
    assert said(result) == "password: must have 8 to 1024 bytes"
    assert works(log_in(server.address, caller.email))


def test_a_disabled_account_is_shut_until_it_is_enabled(server: LocalServer, caller: Caller) -> None:
    caller.publish("u", "what stays")
    unknown = failure(log_in, server.address, "nobody@example.com")
    shown, audit = done(server, "accounts", "disable", caller.email)
    assert shown == f"Disabled {caller.email}. A running server heeds it within 30 seconds.\n"
    assert "reflexio.audit: account disabled account=" in audit
    assert failure(log_in, server.address, caller.email) == unknown, "it cannot be told from one that is not there"
    wait_until(lambda: not works(caller), "the key to stop", 30)
    listed, _ = done(server, "accounts", "list")
    assert re.search(rf"{caller.email}\t.*\t1 interactions\tdisabled \d{{4}}-\d\d-\d\d\n", listed)
    again = run("accounts", "disable", caller.email, "--data-dir", server.data_dir)
    assert said(again).startswith(f"{caller.email} is disabled since")

    shown, audit = done(server, "accounts", "enable", caller.email)
    assert shown == f"Enabled {caller.email}.\n"
    assert "reflexio.audit: account enabled account=" in audit
    assert works(caller)
    assert works(log_in(server.address, caller.email))
    assert [one.content for one in caller.get(user_id="u").interactions] == ["what stays"]
    assert said(run("accounts", "enable", caller.email, "--data-dir", server.data_dir)) == (
        f"{caller.email} is not disabled"
    )


COMMANDS = (
    ("accounts", "passwd"),
    ("accounts", "disable"),
    ("accounts", "enable"),
    ("keys", "list"),
    ("keys", "revoke", "--all", "--yes"),
)


@pytest.mark.sqlite
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_account_that_is_not_there(tmp_path: Path, command: tuple[str, ...]) -> None:
    missing = tmp_path / "missing"
    assert said(run(*command, EMAIL, "--data-dir", missing)).startswith("there is no database in")
    assert not missing.exists()
    assert create(tmp_path).exit_code == 0
    text = said(run(*command, "you@example.com", "--data-dir", tmp_path, given=PASSWORD))
    assert text == "there is no account you@example.com: see `reflexio-server accounts list`"


def test_a_server_can_start_while_a_command_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers do not own the directory: a server that starts at that moment must not be refused."""
    assert create(tmp_path).exit_code == 0
    owned: list[Path] = []

    def watched(data_dir: Path) -> Iterator[None]:
        owned.append(data_dir)
        return own(data_dir)  # type: ignore[return-value]

    monkeypatch.setattr("reflexio_server.cli.options.own", watched)
    for command in (("accounts", "list"), ("keys", "list", EMAIL), ("index", "status"), ("accounts", "disable", EMAIL)):
        assert run(*command, "--data-dir", tmp_path).exit_code == 0
    assert owned == []
    assert run("index", "verify", "--data-dir", tmp_path).exit_code == 0
    assert owned == [tmp_path], "this one does the server's work"


@pytest.mark.sqlite
def test_a_reader_brings_an_older_database_up_when_no_server_runs(tmp_path: Path) -> None:
    assert create(tmp_path).exit_code == 0
    to_first_schema(tmp_path)
    assert EMAIL in run("accounts", "list", "--data-dir", tmp_path).stdout
