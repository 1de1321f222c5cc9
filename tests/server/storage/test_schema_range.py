"""Which versions may use a database, and how it is brought to another schema while they do.

The two migrations in tools/faults/later are of versions to come: one expands the schema, one contracts it.
"""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from reflexio_server.storage import migrating, postgres_server, tables
from reflexio_server.storage.database import DATABASE_FILE, Database, to_migrate
from reflexio_server.storage.schema import Schema, must_fit
from reflexio_server.storage.store import DatabaseUnusable
from tests import stores
from tests.command import account_on, run, run_alone, said
from tests.support import ServerProcess, log_in
from tests.wire import everything, wait_until
from tools.faults.plants import be_of_schema
from tools.postgres_run import new_database

pytestmark = pytest.mark.sqlite  # each test chooses its database
OURS = tables.NEWEST_SCHEMA
EXPANDED, CONTRACTED = "9001", "9002"
BEFORE = "0008"


@contextmanager
def version_of(schema: str) -> Iterator[None]:
    """In the block this process is a later version's, whose newest schema is this."""
    with pytest.MonkeyPatch.context() as patch:
        be_of_schema(schema, patch.setattr)
        yield


def migrate(url: str, to: str) -> list[str]:
    with version_of(to), to_migrate(url) as store:
        told: list[str] = []
        migrating.migrate_in_steps(store, told.append)
        return told


def migrated(url: str, to: str) -> bool:
    try:
        migrate(url, to)
    except DatabaseUnusable:
        return False
    return True


def range_of(url: str) -> tuple[str, str]:
    with psycopg.connect(url) as conn:
        found = conn.execute("SELECT version_num, oldest FROM alembic_version, schema_range").fetchone()
    assert found
    return found[0], found[1]


@pytest.fixture
def url(databases: stores.Databases, tmp_path: Path) -> str:
    return databases.of(tmp_path / "of the test")


@pytest.fixture
def old(postgres_url: str) -> str:
    """A database as a version before there were ranges made it."""
    url = new_database(postgres_url)
    with to_migrate(url) as store, store.write.connect() as conn, conn.begin():
        migrating.migrate(conn, BEFORE)
    return url


@pytest.fixture
def of(url: str, tmp_path: Path, model_dir: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Starts servers of this version on the database, each with a folder of its own."""
    started: list[ServerProcess] = []

    def start(name: str) -> ServerProcess:
        env = {**os.environ, "REFLEXIO_DATABASE_URL": url}
        started.append(ServerProcess(tmp_path / name, model_dir, env=env))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.terminate()


def test_every_migration_says_whose_code_goes_on() -> None:
    before = ""
    for migration in migrating.migrations():
        if migration.revision >= "0010":
            assert migration.oldest, migration
            assert before <= migration.oldest <= migration.revision, "what cannot go on never can again"
            before = migration.oldest


@pytest.mark.parametrize(
    ("revision", "oldest", "refusal"),
    [
        (OURS, OURS, ""),
        (OURS, None, ""),
        (EXPANDED, OURS, ""),
        (EXPANDED, "0001", ""),
        (CONTRACTED, EXPANDED, "use a newer version"),
        (EXPANDED, None, "a newer version made it"),
        ("0001", None, "reflexio-server migrate"),
        ("of another program", OURS, "this version knows none"),
        (None, None, "check --database-url"),
    ],
)
def test_which_schemas_fit(revision: str | None, oldest: str | None, refusal: str) -> None:
    found = Schema(revision, oldest)
    assert found.fits is not bool(refusal)
    if refusal:
        with pytest.raises(DatabaseUnusable, match=refusal):
            must_fit(found, "the database")
    else:
        must_fit(found, "the database")


def test_the_database_says_it(url: str, tmp_path: Path) -> None:
    newest = migrating.migrations()[-1]
    assert range_of(url) == (OURS, newest.oldest)
    Database(tmp_path, owner=True).close()
    with closing(sqlite3.connect(tmp_path / DATABASE_FILE)) as conn:
        assert conn.execute("SELECT oldest FROM schema_range").fetchall() == [(newest.oldest,)]


def test_sqlite_is_migrated_by_its_owner_and_left_alone_by_an_older_one(tmp_path: Path) -> None:
    Database(tmp_path, owner=True).close()
    with version_of(CONTRACTED):
        Database(tmp_path, owner=True).close()
    with closing(sqlite3.connect(tmp_path / DATABASE_FILE)) as conn:
        found = conn.execute("SELECT version_num, oldest FROM alembic_version, schema_range").fetchall()
    assert found == [(CONTRACTED, EXPANDED)]
    with pytest.raises(DatabaseUnusable, match="a newer version made it"):
        Database(tmp_path, owner=True)


def test_an_older_database_is_migrated_by_command_alone(old: str, tmp_path: Path, model_dir: Path) -> None:
    env = {"REFLEXIO_DATABASE_URL": old}
    serve = ("serve", "--port", "0", "--data-dir", tmp_path / "data", "--model-dir", model_dir)
    for command in (serve, ("accounts", "list", "--data-dir", tmp_path / "data")):
        text = said(run_alone(*command, env=env))
        assert f"schema {BEFORE}" in text
        assert "reflexio-server migrate" in text
    check = run("migrate", "--check", "--data-dir", tmp_path, env=env)
    assert check.exit_code == 3
    assert f"{OURS}: " in check.stdout
    assert "versions before schema 0010 cannot go on" in check.stdout
    with psycopg.connect(old) as conn:
        assert conn.execute("SELECT version_num FROM alembic_version").fetchone() == (BEFORE,)
    done = run("migrate", "--data-dir", tmp_path, env=env)
    assert done.exit_code == 0, done.stderr
    assert f"{OURS}: " in done.stdout
    for again in (("migrate", "--check"), ("migrate",)):
        answer = run(*again, "--data-dir", tmp_path, env=env)
        assert (answer.exit_code, f"of schema {OURS}: nothing is to be done" in answer.stdout) == (0, True)
    assert run("accounts", "list", "--data-dir", tmp_path / "data", env=env).exit_code == 0


def test_a_start_migrates_when_it_is_told_to(old: str, tmp_path: Path, model_dir: Path) -> None:
    env = {**os.environ, "REFLEXIO_DATABASE_URL": old}
    server = ServerProcess(tmp_path / "data", model_dir, "--migrate", env=env)
    assert server.terminate() == 0
    assert range_of(old)[0] == OURS


def test_migrate_says_what_it_cannot_do(tmp_path: Path) -> None:
    env = {"REFLEXIO_DATABASE_URL": ""}
    assert "SQLite" in said(run("migrate", "--data-dir", tmp_path, env=env))
    env = {"REFLEXIO_DATABASE_URL": "postgresql://x@127.0.0.1:1/none"}
    assert "cannot be reached" in said(run("migrate", "--data-dir", tmp_path, env=env))


@pytest.mark.parametrize("new", [False, True], ids=["an older database", "a new one"])
def test_two_at_once_do_it_once(old: str, postgres_url: str, tmp_path: Path, new: bool) -> None:
    url = new_database(postgres_url) if new else old
    command = [sys.executable, "-m", "reflexio_server", "migrate", "--data-dir", str(tmp_path)]
    env = {**os.environ, "REFLEXIO_DATABASE_URL": url}
    both = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert range_of(url)[0] == OURS
    lines = [line for output in outputs for line in output.splitlines()]
    assert len([line for line in lines if line.startswith(f"{OURS}: ")]) == 1


def test_two_servers_that_start_on_a_new_database_both_come_up(
    postgres_url: str, tmp_path: Path, model_dir: Path
) -> None:
    url = new_database(postgres_url)
    env = {**os.environ, "REFLEXIO_DATABASE_URL": url}
    with ThreadPoolExecutor(2) as threads:
        starts = [threads.submit(ServerProcess, tmp_path / name, model_dir, env=env) for name in ("one", "two")]
        servers = [start.result(120) for start in starts]
    try:
        email = account_on(url, tmp_path / "elsewhere")
        here, there = (log_in(server.address, email) for server in servers)
        here.publish("u", "of the one")
        there.publish("u", "of the other")
        assert len(everything(here)) == len(everything(there)) == 2
    finally:
        assert [server.terminate() for server in servers] == [0, 0]


@pytest.mark.timeout(300)
def test_servers_go_on_over_an_expanding_migration_and_not_over_a_contracting_one(
    url: str, tmp_path: Path, model_dir: Path, of: Callable[..., ServerProcess]
) -> None:
    first = of("first")
    caller = log_in(first.address, account_on(url, tmp_path / "elsewhere"))
    over = threading.Event()
    published: list[str] = []

    def publish() -> None:
        while not over.is_set():
            caller.publish("u", f"text {len(published)}")
            published.append(f"text {len(published)}")

    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(publish)
        try:
            wait_until(lambda: len(published) > 20, "publishes")
            assert [line[:4] for line in migrate(url, EXPANDED)] == [EXPANDED]
            seen = len(published)
            wait_until(lambda: len(published) > seen + 20 or writing.done(), "publishes on the new schema")
        finally:
            over.set()
        writing.result(30)
    assert range_of(url) == (EXPANDED, OURS)
    assert {item.content for item in everything(caller)} == set(published)
    env = {"REFLEXIO_DATABASE_URL": url}
    answer = run("migrate", "--check", "--data-dir", tmp_path, env=env)
    assert (answer.exit_code, "nothing is to be done" in answer.stdout) == (0, True)
    with pytest.raises(DatabaseUnusable, match=f"used by servers of versions before schema {EXPANDED}"):
        migrate(url, CONTRACTED)
    assert range_of(url)[0] == EXPANDED
    again = of("started on the newer schema")
    for server in (first, again):
        server.process.kill()
        server.process.wait(30)
    wait_until(lambda: migrated(url, CONTRACTED), "the sessions of the killed to end", 30)
    serve = ("serve", "--port", "0", "--data-dir", tmp_path / "data", "--model-dir", model_dir)
    for command in (serve, ("migrate", "--data-dir", tmp_path), ("index", "status", "--data-dir", tmp_path)):
        text = said(run(*command, env=env))
        assert f"only versions from schema {EXPANDED} on" in text, command


def test_a_table_in_use_holds_up_nobody_for_long(
    url: str, tmp_path: Path, of: Callable[..., ServerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_server, "_LOCK_SECONDS", 1)
    caller = log_in(of("first").address, account_on(url, tmp_path / "elsewhere"))
    caller.publish("u", "before")
    with psycopg.connect(url) as reader, ThreadPoolExecutor(1) as threads:
        reader.execute("SELECT count(*) FROM interactions")  # whose transaction goes on
        migration = threads.submit(migrate, url, EXPANDED)
        for number in range(5):
            caller.publish("u", f"meanwhile {number}")  # in 30 seconds, or it is an error
            time.sleep(0.5)
        assert not migration.done()
        reader.rollback()
        told = migration.result(60)
    assert [line for line in told if "tried again" in line]
    assert told[-1].startswith(EXPANDED)
