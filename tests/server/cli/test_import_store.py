"""`reflexio-server import-store`: a store is in PostgreSQL what it was in SQLite, however often it is killed."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest

from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.storage import postgres
from reflexio_server.storage.database import DATABASE_FILE
from reflexio_server.storage.tables import metadata, schema_range
from tests import stores
from tests.command import EMAIL, create, run, said
from tests.old_store import EMAIL as OLD_EMAIL
from tests.old_store import make_store
from tests.reference import USERS, random_request
from tests.server.storage.test_parity import ASKED, SAID
from tests.state import folders, indexes, is_settled, wait_for_index
from tests.support import PASSWORD, Caller, LocalServer, log_in
from tests.wire import everything, seeded, wait_until
from tests.words import Words
from tools.pictures import png

pytestmark = pytest.mark.sqlite  # what it is taken from

REQUESTS = 60
PICTURES = (b"", b"", png(3, 3), png(4, 3), png(5, 3))
# Kills itself when so many transactions were begun, before or after the commit of the last, or in the one that ends it.
KILLED = """
import contextlib, os, signal, sys
from reflexio_server.cli.main import main
from reflexio_server.storage import importing
from reflexio_server.storage.database import Database

left, moment = int(sys.argv.pop(1)), sys.argv.pop(1)
importing.ROWS_AT_ONCE = 20
write, mark = Database.write, importing.mark_part

@contextlib.contextmanager
def killed_write(self):
    global left
    left -= 1
    with write(self) as conn:
        yield conn
        kill(left == 0 and moment == "before")
    kill(left == 0 and moment == "after")

def killed_mark(conn, is_part):
    mark(conn, is_part)
    kill(moment == "last" and not is_part)

def kill(now):
    if now:
        os.kill(os.getpid(), signal.SIGKILL)

Database.write, importing.mark_part = killed_write, killed_mark
main()
"""


@pytest.fixture
def url(databases: stores.Databases, tmp_path: Path) -> str:
    return databases.of(tmp_path / "of the test")


@pytest.fixture
def command(url: str, tmp_path: Path) -> list[str]:
    """The command's arguments, for the folder "store"."""
    file = tmp_path / "url"
    file.write_text(url)
    file.chmod(0o600)
    return ["import-store", "--data-dir", str(tmp_path / "store"), "--database-url-file", str(file)]


class Store:
    """What accounts have stored in SQLite and, when `asked` for, what they are answered."""

    def __init__(self, server: LocalServer) -> None:
        self.source = seeded()
        self.callers = [server.new_caller() for _ in range(3)]
        self.published: dict[str, list[pb.PublishInteractionsRequest]] = {}
        for caller in self.callers:
            made = [
                random_request(self.source, f"request {number}", SAID, pictures=PICTURES) for number in range(REQUESTS)
            ]
            assert caller.stream(made).requests.stored == REQUESTS
            caller.delete_request(f"request {REQUESTS - 1}")  # what had the highest numbers
            caller.delete_request("request 1")
            kept = [item for item in everything(caller) if item.request_id == "request 2"]
            caller.delete_interaction(kept[0].interaction_id)
            self.published[caller.email] = made
        self.callers[1].delete_user(USERS[1])
        wait_for_index(server)
        wait_until(lambda: is_settled(server), "what was erased to be overwritten")

    def asked(self, address: str) -> list[Any]:
        """Everything that the accounts are answered, by keys that they had."""
        answers: list[Any] = []
        for old in self.callers:
            caller = Caller(address, old.email, old.api_key)
            listed = everything(caller)
            answers += listed
            for user in USERS:
                answers.append(caller.get_requests(user_id=user, page_size=50))
                answers += [caller.search(query=query, user_id=user, top_k=20) for query in ASKED]
            answers += [caller.search(query=query, top_k=20) for query in ASKED]
            for item in listed:
                if item.image.sha256:
                    asked = pb.GetImageRequest(interaction_id=item.interaction_id)
                    answers += list(caller.interactions.GetImage(asked, metadata=caller.metadata, timeout=30))
            for request in self.published[old.email]:
                answers.append(outcome(caller, request))
            keys = caller.auth.ListApiKeys(auth_pb.ListApiKeysRequest(), metadata=caller.metadata, timeout=30)
            answers.append(keys)
        return answers


def outcome(caller: Caller, request: pb.PublishInteractionsRequest) -> Any:
    """Of publishing it again: a replay, or that it was erased."""
    try:
        answer = caller.interactions.PublishInteractions(request, metadata=caller.metadata, timeout=30)
    except grpc.RpcError as error:
        return error.code(), error.details()
    assert answer.replayed
    return answer


def rows(target: Path | str) -> dict[str, list[Any]]:
    """All that a SQLite folder or a PostgreSQL database has."""
    found = {}
    with closing(sqlite3.connect(target / DATABASE_FILE) if isinstance(target, Path) else psycopg.connect(target)) as c:
        for table in metadata.sorted_tables:
            columns = ", ".join(column.name for column in table.columns)
            keys = ", ".join(column.name for column in table.primary_key)
            query: Any = f"SELECT {columns} FROM {table.name} ORDER BY {keys}"
            found[table.name] = c.execute(query).fetchall()
    return found


def killed(command: list[str], writes: int, moment: str) -> bool:
    """Run the command, whether it was killed."""
    arguments = [sys.executable, "-c", KILLED, str(writes), moment, *command]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


def test_everything_is_as_it_was(
    start: Callable[..., LocalServer], embedder: Words, tmp_path: Path, command: list[str], url: str
) -> None:
    server = start(tmp_path / "store")
    store = Store(server)
    revoked = log_in(server.address, store.callers[0].email)
    key_id = revoked.auth.ListApiKeys(auth_pb.ListApiKeysRequest(), metadata=revoked.metadata).api_keys[0].key_id
    revoked.auth.RevokeApiKey(auth_pb.RevokeApiKeyRequest(key_id=key_id), metadata=revoked.metadata)
    before = store.asked(server.address)
    assert len(before) > 500
    server.stop()

    done = run(*command)
    assert done.exit_code == 0, done.stderr
    held = rows(tmp_path / "store")
    assert rows(url) == held
    told = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    del held[schema_range.name]  # which each database has of its own
    for name, there in held.items():
        assert told[name] == [f"{len(there):,}"] * 2
    again = run(*command)
    assert again.exit_code == 0
    assert "already: nothing was changed" in again.stdout

    embedded = len(embedder.embedded)
    moved = start(tmp_path / "elsewhere", database_url=url)
    wait_for_index(moved)
    assert store.asked(moved.address) == before
    assert len(embedder.embedded) == embedded, "something was embedded anew"
    with pytest.raises(grpc.RpcError) as refused:
        Caller(moved.address, revoked.email, revoked.api_key).get()
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    for old in store.callers:
        caller = log_in(moved.address, old.email)
        newest = max(item.sequence for item in everything(caller))
        with psycopg.connect(url) as conn:
            last: Any = conn.execute(
                "SELECT last_sequence FROM account_counters JOIN accounts ON id = account_id WHERE email = %s",
                (old.email,),
            ).fetchone()
        caller.publish("somebody new", "after it", "and more")
        assert [item.sequence for item in everything(caller, user_id="somebody new")] == [last[0] + 2, last[0] + 1]
        assert last[0] >= newest
    with closing(sqlite3.connect(tmp_path / "store" / DATABASE_FILE)) as lite, psycopg.connect(url) as conn:
        for table, highest in lite.execute("SELECT name, seq FROM sqlite_sequence").fetchall():
            before_it: Any = {row[0] for row in held[table]}
            now: Any = {row[0] for row in rows(url)[table]}
            assert all(number > highest for number in now - before_it), table
    moved.stop()
    assert "has other data already" in said(run(*command))
    assert create_in(url, tmp_path, "new@example.com").exit_code == 0


def create_in(url: str, tmp_path: Path, email: str) -> Any:
    given = ("accounts", "create", email, "--data-dir", tmp_path / "any")
    return run(*given, env={"REFLEXIO_DATABASE_URL": url}, given=PASSWORD + "\n")


def test_whenever_it_is_killed_it_goes_on(
    start: Callable[..., LocalServer], embedder: Words, tmp_path: Path, command: list[str], url: str
) -> None:
    server = start(tmp_path / "store")
    store = Store(server)
    before = store.asked(server.address)
    server.stop()
    kills = 0
    while killed(command, store.source.randrange(1, 15), store.source.choice(("before", "after"))):
        kills += 1
        for part in (("serve", "--port", "0"), ("accounts", "list"), ("index", "status")):
            refused = run(*part, "--data-dir", tmp_path / "any", env={"REFLEXIO_DATABASE_URL": url})
            assert "has only a part of a store: run `reflexio-server import-store`" in said(refused)
        if kills == 4:
            break
    assert kills == 4
    assert killed(command, 0, "last")
    done = run(*command)
    assert done.exit_code == 0, done.stderr
    assert f"{len(rows(url)['interactions'])}" in done.stdout
    assert rows(url) == rows(tmp_path / "store")
    moved = start(tmp_path / "elsewhere", database_url=url)
    wait_for_index(moved)
    assert store.asked(moved.address) == before


def test_while_postgresql_is_away_it_says_so_and_goes_on_afterwards(
    tmp_path: Path, command: list[str], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert create(tmp_path / "store").exit_code == 0
    inserted = postgres.insert_rows

    def end_sessions(*given: Any) -> None:
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(
                """SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
            )
        inserted(*given)

    with monkeypatch.context() as patch:
        patch.setattr(postgres, "insert_rows", end_sessions)
        assert "cannot be reached any more: run the command again" in said(run(*command))
    assert run(*command).exit_code == 0
    assert rows(url) == rows(tmp_path / "store")


def test_the_folders_index_is_gone_on_with(
    start: Callable[..., LocalServer],
    embedder: Words,
    tmp_path: Path,
    command: list[str],
    url: str,
    every_account: None,
) -> None:
    server = start(tmp_path / "store")
    caller = server.new_caller()
    caller.publish("u", "red shoes", "green hats")
    wait_for_index(server)
    server.stop()
    before = folders(tmp_path / "store"), indexes(tmp_path / "store"), rows(tmp_path / "store")["collections"]
    assert len(before[2]) == 1
    assert run(*command).exit_code == 0
    moved = start(tmp_path / "store", database_url=url)
    wait_for_index(moved)
    again = Caller(moved.address, caller.email, caller.api_key)
    assert again.search(query="shoes red").hits[0].interaction.content == "red shoes"
    assert (folders(tmp_path / "store"), indexes(tmp_path / "store"), rows(url)["collections"]) == before


def test_a_store_of_older_words_is_found_at_once_and_renewed(
    start: Callable[..., LocalServer], embedder: Words, tmp_path: Path, command: list[str], url: str
) -> None:
    make_store(tmp_path / "store", ("Straße gesperrt", "something else"))
    done = run(*command)
    assert done.exit_code == 0, done.stderr
    assert rows(url)["words_state"][0][2] == 0
    with psycopg.connect(url) as conn:
        assert conn.execute(
            "SELECT count(*) FROM full_text WHERE words @@ '''strass'' | ''someth'''::tsquery"
        ).fetchone() == (2,)
    moved = start(tmp_path / "elsewhere", database_url=url)
    caller = log_in(moved.address, OLD_EMAIL)
    found = caller.search(query="strasse").hits
    assert (found[0].interaction.content, found[0].lexical > 0) == ("Straße gesperrt", True)
    wait_until(lambda: rows(url)["words_state"][0][2] is None, "the renewal")
    assert caller.search(query="strasse").hits[0].interaction.content == "Straße gesperrt"


def test_what_it_refuses(
    start: Callable[..., LocalServer], embedder: Words, tmp_path: Path, command: list[str], url: str
) -> None:
    assert "there is no database in" in said(run(*command))
    folder = tmp_path / "store"
    assert create(folder).exit_code == 0
    without = run("import-store", "--data-dir", folder)
    assert without.exit_code == 2
    assert "--database-url-file" in said(without)

    server = start(folder)
    assert "another reflexio-server is using" in said(run(*command))
    server.stop()
    server = start(tmp_path / "elsewhere", database_url=url)
    assert "a server uses the database" in said(run(*command))
    server.stop()
    assert create_in(url, tmp_path, "stranger@example.com").exit_code == 0
    held = rows(url)
    assert "has other data already (the table " in said(run(*command))
    assert rows(url) == held


def test_a_part_of_another_store_or_of_an_older_state_is_refused(
    databases: stores.Databases, tmp_path: Path, command: list[str], url: str
) -> None:
    for folder in ("store", "another"):
        assert create(tmp_path / folder).exit_code == 0
        assert create(tmp_path / folder, "second@example.com").exit_code == 0
    assert killed(command, 2, "after")
    held = rows(url)
    assert len(held["accounts"]) == 2
    another = [argument.replace(str(tmp_path / "store"), str(tmp_path / "another")) for argument in command]
    assert "has a part of another store" in said(run(*another))
    changed = run("accounts", "passwd", EMAIL, "--data-dir", tmp_path / "another", given=PASSWORD + "!\n")
    assert changed.exit_code == 0
    assert rows(url) == held
    assert run(*command).exit_code == 0
    assert rows(url) == rows(tmp_path / "store")

    other = databases.of(tmp_path / "second")
    (tmp_path / "url").write_text(other)
    assert killed(command, 2, "after")
    assert run("accounts", "passwd", EMAIL, "--data-dir", tmp_path / "store", given=PASSWORD + "!\n").exit_code == 0
    assert "before it was used again" in said(run(*command))
