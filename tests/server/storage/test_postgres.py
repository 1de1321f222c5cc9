"""A server that keeps everything in PostgreSQL: who may use it, what happens while it is away, and what nobody sees."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import grpc
import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server import ending
from reflexio_server.errors import DatabaseUnavailable, Ended, TooBusy
from reflexio_server.storage.accounts import add_account
from reflexio_server.storage.database import Database
from reflexio_server.storage.store import DatabaseInUse, DatabaseUnusable
from reflexio_server.storage.tables import metadata
from reflexio_server.storage.writer import Writer
from tests import stores
from tests.command import account_on, run, said
from tests.support import Caller, LocalServer, ServerProcess, failure_of, log_in
from tests.wire import everything, scrape, wait_until
from tests.words import Words
from tools.faults.commit_relay import WAYS, CommitRelay
from tools.postgres_run import Cluster

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def url(databases: stores.Databases, tmp_path: Path) -> str:
    return databases.of(tmp_path / "of the test")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A server of the test's own, that it may stop; what is committed is on disk."""
    made = Cluster(durable=True)
    yield made
    made.close()


def test_the_migrations_make_exactly_the_tables(url: str, tmp_path: Path) -> None:
    def ours(_object: Any, name: str | None, kind: str, _reflected: bool, _compared: Any) -> bool:
        return not (kind == "table" and name in ("full_text", "login_tries"))

    database = Database(tmp_path, owner=True, url=url)
    try:
        with database.read() as conn:
            options = {"include_object": ours, "compare_type": True, "compare_server_default": True}
            assert compare_metadata(MigrationContext.configure(conn, opts=options), metadata) == []
    finally:
        database.close()


def test_servers_on_one_database_answer_alike(
    url: str, tmp_path: Path, start: Callable[..., LocalServer], embedder: Words
) -> None:
    first, second = start(database_url=url), start(data_dir=tmp_path / "two", database_url=url)
    email = account_on(url, tmp_path / "elsewhere")
    here, there = log_in(first.address, email), log_in(second.address, email)
    sent = here.publish("u", "by the first", request_id="r")
    assert list(there.publish("u", "by the first", request_id="r").interaction_ids) == list(sent.interaction_ids)
    there.publish("u", "by the second")
    for caller in (here, there):
        assert [item.content for item in everything(caller)] == ["by the second", "by the first"]
        assert caller.search(user_id="u", query="second").hits[0].interaction.content == "by the second"
    with pytest.raises(DatabaseInUse, match="a server uses"):
        Database(tmp_path / "three", owner=True, alone=True, url=url)
    there.delete_user("u")
    assert not everything(here)


@pytest.mark.sqlite
def test_a_killed_server_leaves_it_free(url: str, tmp_path: Path, model_dir: Path) -> None:
    env = {**os.environ, "REFLEXIO_DATABASE_URL": url}
    server = ServerProcess(tmp_path / "one", model_dir, env=env)
    caller = log_in(server.address, account_on(url, tmp_path / "elsewhere"))
    caller.publish("u", "kept")
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(30)
    again = ServerProcess(tmp_path / "two", model_dir, env=env)
    try:
        assert [item.content for item in everything(log_in(again.address, caller.email))] == ["kept"]
    finally:
        assert again.terminate() == 0


def test_nothing_is_written_by_whose_session_was_lost(url: str, tmp_path: Path) -> None:
    database = Database(tmp_path / "one", owner=True, url=url)
    writer = Writer(database, 10)
    try:
        assert writer.submit(lambda conn: add_account(conn, "a@example.com", "a", "", 1)).result()
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(
                """SELECT pg_terminate_backend(pid) FROM pg_locks
                   WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database
                                                               WHERE datname = current_database())"""
            )
        other = Database(tmp_path / "two", owner=True, alone=True, url=url, patience=5)
        for _ in range(3):
            with pytest.raises(DatabaseUnavailable):
                writer.submit(lambda conn: add_account(conn, "b@example.com", "b", "", 1)).result()
        other.close()
        wait_until(lambda: not database.is_owned(), "the other's session to end")
        assert writer.submit(lambda conn: add_account(conn, "b@example.com", "b", "", 1)).result()
    finally:
        writer.close()
        database.close()


def test_while_it_is_away_calls_are_told_to_come_again(
    cluster: Cluster,
    tmp_path: Path,
    start: Callable[..., LocalServer],
    embedder: Words,
    caplog: Any,
    every_account: None,
) -> None:
    url = cluster.new()
    server = start(database_url=url, metrics_port=0)
    caller = log_in(server.address, account_on(url, tmp_path / "elsewhere"))
    for number in range(20):
        caller.publish("u", f"before {number}")
    wait_until(lambda: server.app.follower.is_open, "the index")
    folders = sorted(path.name for path in (server.data_dir / "chroma").glob("*"))
    cluster.stop("immediate")
    for call in (
        lambda: caller.publish("u", "away", request_id="away"),
        lambda: caller.get(user_id="u"),
        lambda: caller.search(user_id="u", query="before"),
        lambda: caller.publish("u", "away", request_id="away"),
        lambda: caller.delete_user("other"),
    ):
        began = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            call()
        found = failure_of(caught.value)
        assert (found.code, found.info.reason) == (UNAVAILABLE, "STORAGE_UNAVAILABLE")
        assert found.retry_seconds
        assert time.monotonic() - began < 10
    time.sleep(3)  # the threads behind the calls meet it, too
    cluster.start()
    wait_until(lambda: _works(lambda: caller.publish("u", "away", request_id="away")), "writing to be possible", 20)
    wait_until(lambda: _works(lambda: caller.get(user_id="u")), "reading to be possible", 20)
    assert len(everything(caller)) == 21
    wait_until(lambda: _works(lambda: caller.search(user_id="u", query="away")), "searching to be possible", 20)
    assert caller.search(user_id="u", query="away").hits[0].interaction.content == "away"
    assert sorted(path.name for path in (server.data_dir / "chroma").glob("*")) == folders, (
        "it is no fault of the index"
    )
    assert not [record for record in caplog.records if "unforeseen" in record.getMessage()]


class Once:
    """Chooses to cut one commit, in this way."""

    def __init__(self, way: str) -> None:
        self._way, self._left = way, 1

    def random(self) -> float:
        self._left -= 1
        return 0.0 if self._left == 0 else 1.0

    def choice(self, _ways: tuple[str, ...]) -> str:
        return self._way


@pytest.mark.parametrize("way", WAYS)
def test_a_commit_without_an_answer_is_found_out(
    cluster: Cluster, tmp_path: Path, start: Callable[..., LocalServer], embedder: Words, way: str
) -> None:
    chosen: Any = Once(way)
    with CommitRelay(cluster.folder, chosen) as relay:
        url = cluster.new()
        server = start(database_url=relay.leading_to(url))
        caller = log_in(server.address, account_on(url, tmp_path / "elsewhere"))
        caller.publish("u", "kept", wait_until=pb.WAIT_UNTIL_SEARCHABLE)
        interaction = everything(caller)[0].interaction_id
        done: list[Any] = []
        calls: list[Callable[[], Any]] = [
            lambda: caller.publish("u", "once", request_id="r"),
            lambda: caller.delete_interaction(interaction),
            lambda: log_in(server.address, caller.email),
        ]
        for call in calls:
            relay._chosen, relay.share = Once(way), 1.0  # type: ignore[assignment]
            done.append(call())
            relay.share = 0.0
        assert relay.cuts[way] == 3
        published, erased, again = done
        assert not published.replayed
        assert erased.interactions == 1
        assert [item.content for item in everything(again)] == ["once"]


def _works(call: Callable[[], Any]) -> bool:
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() is UNAVAILABLE
        return False
    return True


def test_kills_of_it_lose_nothing_and_store_nothing_twice(
    cluster: Cluster, tmp_path: Path, start: Callable[..., LocalServer], embedder: Words
) -> None:
    url = cluster.new()
    server = start(database_url=url)
    email = account_on(url, tmp_path / "elsewhere")
    over = threading.Event()
    acknowledged: list[str] = []
    refused: set[grpc.StatusCode] = set()

    def publish(worker: int, caller: Caller) -> None:
        number = 0
        while not over.is_set():
            request_id = f"{worker}-{number}"
            try:
                caller.publish("u", request_id, request_id=request_id)
            except grpc.RpcError as error:
                refused.add(error.code())
                time.sleep(0.05)
                continue
            acknowledged.append(request_id)
            number += 1

    with ThreadPoolExecutor(4) as threads:
        workers = [threads.submit(publish, worker, log_in(server.address, email)) for worker in range(4)]
        try:
            for round_ in range(5):
                if round_:
                    cluster.stop("immediate")
                    cluster.start()
                seen = len(acknowledged)
                wait_until(lambda seen=seen: len(acknowledged) > seen + 20, "publishes", 30)  # type: ignore[misc]
        finally:
            over.set()
        for worker in workers:
            worker.result(60)
    stored = everything(log_in(server.address, email))
    found = sorted(item.content for item in stored)
    assert sorted(set(found)) == found, "nothing twice"
    assert set(acknowledged) <= set(found)
    assert sorted(item.sequence for item in stored) == list(range(1, len(stored) + 1))
    assert refused <= {UNAVAILABLE}


def test_who_finds_no_connection_is_told_soon(url: str, tmp_path: Path) -> None:
    database = Database(tmp_path, owner=True, readers=1, url=url)
    try:
        with database.read():
            began = time.monotonic()
            with pytest.raises(TooBusy), database.read():
                pass
            assert time.monotonic() - began < 8  # of 2
    finally:
        database.close()


def test_a_statement_ends_with_the_call_it_is_for(url: str, tmp_path: Path) -> None:
    database = Database(tmp_path, owner=True, readers=1, url=url)
    try:
        call = ending.Ending()
        threading.Timer(0.3, call.come).start()
        began = time.monotonic()
        with pytest.raises(Ended), ending.work_of(call), database.read() as conn:
            conn.execute(text("SELECT pg_sleep(60)"))
        assert time.monotonic() - began < 15
        with database.read() as conn:
            assert conn.execute(text("SELECT 1")).scalar() == 1
    finally:
        database.close()


@pytest.mark.sqlite
def test_no_password_is_seen_anywhere(
    url: str, tmp_path: Path, model_dir: Path, caplog: pytest.LogCaptureFixture, start: Callable[..., LocalServer]
) -> None:
    """It is in the URL's own place for it; what goes wrong is told without it."""
    secret = "S3cret of the test"
    parts = urlsplit(url)
    with_password = parts._replace(netloc=f"postgres:{quote(secret)}@").geturl()
    file = tmp_path / "url"
    file.write_text(with_password + "\n")
    env = {**os.environ, "REFLEXIO_METRICS_PORT": "0"}
    env.pop("REFLEXIO_DATABASE_URL", None)
    server = ServerProcess(tmp_path / "data", model_dir, "--database-url-file", str(file), env=env)
    shown: list[str] = []
    try:
        account_on(with_password, tmp_path / "elsewhere")
        command = ("index", "status", "--data-dir", tmp_path / "data", "--database-url-file", file)
        shown += [status := run(*command).stdout, run(*command, "--json").stdout]
        assert "someone@example.com" in status
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                shown.append((folder / "cmdline").read_bytes().decode(errors="replace"))
            except OSError:
                continue
    finally:
        server.terminate()
    shown += server.lines
    caplog.set_level(logging.DEBUG)
    local = start(database_url=with_password, metrics_port=0)
    shown.append(repr(local.app._settings))
    shown.append(str(scrape(local)))
    local.stop()
    for wrong in (
        with_password.replace("/reflexio_", "/no_such_"),
        f"postgresql://postgres:{quote(secret)}@127.0.0.1:1/none",
        f"postgresql://postgres:{quote(secret)}@[/none",
        f"postgres:{secret}",
    ):
        answer = run("accounts", "list", "--data-dir", tmp_path / "data", env={"REFLEXIO_DATABASE_URL": wrong})
        assert answer.exit_code
        shown += [answer.stdout, answer.stderr]
    by_flag = run("accounts", "list", "--data-dir", tmp_path / "data", "--database-url", with_password)
    assert "REFLEXIO_DATABASE_URL or --database-url-file" in said(by_flag)
    shown += [by_flag.stdout, by_flag.stderr, *(record.getMessage() for record in caplog.records)]
    shown += [str(record.exc_info) for record in caplog.records]
    for form in (secret, quote(secret)):
        assert not [one for one in shown if form in one]


def test_what_is_about_the_file_is_refused(url: str, tmp_path: Path) -> None:
    env = {"REFLEXIO_DATABASE_URL": url}
    for command in ("backup", "restore"):
        answer = run(command, tmp_path / "file", "--data-dir", tmp_path, env=env)
        assert "pg_" in said(answer)
        assert not (tmp_path / "file").exists()


def test_what_cannot_be_used_is_said_and_left_alone(cluster: Cluster, tmp_path: Path) -> None:
    empty = cluster.new()
    answer = run("accounts", "list", "--data-dir", tmp_path / "data", env={"REFLEXIO_DATABASE_URL": empty})
    assert "check --database-url" in said(answer)
    with psycopg.connect(empty) as conn:
        assert conn.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
        conn.execute("CREATE TABLE alembic_version (version_num text)")
        conn.execute("INSERT INTO alembic_version VALUES ('of another program')")
    with pytest.raises(DatabaseUnusable, match="this version knows none"):
        Database(tmp_path / "data", owner=True, url=empty)
    with psycopg.connect(cluster.url, autocommit=True) as conn:
        conn.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
    with pytest.raises(DatabaseUnusable, match="UTF8"):
        Database(tmp_path / "data", owner=True, url=urlsplit(cluster.url)._replace(path="/ascii").geturl())


def test_the_owner_is_known_to_others(url: str, tmp_path: Path) -> None:
    database = Database(tmp_path / "one", owner=True, url=url)
    beside = Database(tmp_path / "two", owner=False, url=url)
    assert beside.is_owned()
    with pytest.raises(DatabaseInUse):
        Database(tmp_path / "two", owner=True, alone=True, url=url)
    second = Database(tmp_path / "two", owner=True, url=url)
    database.close()
    assert beside.is_owned()
    second.close()
    wait_until(lambda: not beside.is_owned(), "its session to end")
    beside.close()


def test_a_server_needs_no_postgres_to_be_installed(tmp_path: Path, model_dir: Path) -> None:
    """Without the extra, SQLite works as ever, and PostgreSQL is refused with what to install."""
    program = "import sys; sys.modules['psycopg'] = None; from reflexio_server.__main__ import main; sys.exit(main())"
    for url, said_of in ((None, "there is no database"), ("postgresql://h/n", "extra postgres")):
        arguments = ["accounts", "list", "--data-dir", str(tmp_path), *(["--database-url", url] if url else [])]
        env = {name: value for name, value in os.environ.items() if name != "REFLEXIO_DATABASE_URL"}
        answer = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, env=env
        )
        assert said_of in answer.stderr
