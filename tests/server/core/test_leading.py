"""Several processes on one PostgreSQL: one of them leads, and every one sees what the others did."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from reflexio_server.core import candidates, forgetting
from reflexio_server.core.leading import Leading
from reflexio_server.errors import DatabaseUnavailable, NotLeader
from reflexio_server.storage import collections, full_text, index_store
from reflexio_server.storage.accounts import add_account
from reflexio_server.storage.candidate import Candidate
from reflexio_server.storage.database import Database
from reflexio_server.storage.postgres_server import LEADER_SECONDS
from tests import stores
from tests.command import account_on, run
from tests.server.core.recovery import QUESTIONS, Hits, publish, same, searches, texts
from tests.support import Caller, LocalServer, ServerProcess, log_in
from tests.wire import metric, wait_until
from tests.words import Words
from tools.chroma_run import COLLECTIONS, ChromaRun
from tools.postgres_run import new_database

pytestmark = pytest.mark.sqlite  # each test has a database of its own
Start = Callable[..., LocalServer]
MARGIN = 4  # of the bounds, which are for a machine that has nothing else to do


@pytest.fixture
def url(databases: stores.Databases, tmp_path: Path) -> str:
    return databases.of(tmp_path / "of the test")


@pytest.fixture
def email(url: str, tmp_path: Path) -> str:
    """Of an account that is made from another data directory."""
    return account_on(url, tmp_path / "elsewhere")


@contextmanager
def another(url: str, data_dir: Path, model_dir: Path) -> Iterator[ServerProcess]:
    """A server in a process of its own, which does not outlive the block."""
    server = ServerProcess(data_dir, model_dir, env={**os.environ, "REFLEXIO_DATABASE_URL": url})
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGCONT)
            server.kill()


def said(server: ServerProcess, text: str) -> bool:
    return any(text in line for line in server.lines)


def leads(server: LocalServer) -> bool:
    return server.app.backstage.leading.term is not None


def end_the_leader(url: str) -> None:
    """As an administrator, or a network that was away, ends its session."""
    with psycopg.connect(url, autocommit=True) as admin:
        found = admin.execute(
            """SELECT pg_terminate_backend(pid, 60000) FROM pg_locks WHERE locktype = 'advisory'
               AND classid = 1382377068 AND objid = 2
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
        ).fetchall()
    assert found


@pytest.mark.parametrize(
    ("how", "within"), [(signal.SIGKILL, 1), (signal.SIGTERM, 1), (signal.SIGSTOP, LEADER_SECONDS + 1)]
)
def test_another_process_leads_when_the_leader_is_gone(
    how: signal.Signals, within: float, url: str, email: str, tmp_path: Path, model_dir: Path, start: Start
) -> None:
    with another(url, tmp_path / "one", model_dir) as leader:
        wait_until(lambda: said(leader, "this process leads"), "this process leads")
        standing_by = start(database_url=url, metrics_port=0)
        time.sleep(1)
        assert not leads(standing_by)
        assert metric(standing_by, "reflexio_leader") == 0
        assert metric(standing_by, "reflexio_index_waiting_vectors") is None
        began = time.monotonic()
        leader.process.send_signal(how)
        wait_until(lambda: leads(standing_by), "it to lead", within * MARGIN)
        assert time.monotonic() - began < within * MARGIN
        wait_until(lambda: metric(standing_by, "reflexio_leader") == 1, "the metric")
        if how == signal.SIGSTOP:
            leader.process.send_signal(signal.SIGCONT)
            wait_until(lambda: said(leader, "this process leads no more"), "this process leads no more")
            assert leads(standing_by)
            log_in(leader.address, email).publish("u", "it serves all the same")
            standing_by.stop()
            wait_until(lambda: sum("this process leads:" in line for line in leader.lines) == 2, "it to lead again")


def test_who_leads_no_more_can_write_nothing(url: str, tmp_path: Path) -> None:
    one, two = (Database(tmp_path / name, owner=True, url=url) for name in ("one", "two"))
    try:
        first, second = one.candidate(), two.candidate()
        assert first
        assert second
        lost: list[bool] = []
        first.on_loss = lambda: lost.append(True)
        assert first.try_to_lead()
        assert first.try_to_lead(), "it does already"
        assert not second.try_to_lead()
        with first.write() as conn:
            add_account(conn, "a@example.com", "a", "", 1)
        end_the_leader(url)
        assert second.try_to_lead()
        assert not first.is_lost
        second.prove()
        for expected in (DatabaseUnavailable, NotLeader, NotLeader):
            with pytest.raises(expected), first.write() as conn:
                add_account(conn, "b@example.com", "b", "", 1)
        assert first.is_lost
        with pytest.raises(NotLeader):
            first.prove()
        assert lost
        second.close()
        with pytest.raises(NotLeader), first.write() as conn:
            add_account(conn, "b@example.com", "b", "", 1)
        with one.read() as conn:
            assert conn.exec_driver_sql("SELECT email FROM accounts").fetchall() == [("a@example.com",)]
        third = one.candidate()
        assert third
        assert third.try_to_lead(), "another session may"
        third.close()
    finally:
        one.close()
        two.close()


def test_a_term_ends_in_the_midst_of_a_transaction(url: str, tmp_path: Path) -> None:
    database = Database(tmp_path, owner=True, url=url)
    try:
        candidate = database.candidate()
        assert candidate
        assert candidate.try_to_lead()
        with pytest.raises(DatabaseUnavailable):
            _write_and_lose(candidate, url)
        with database.read() as conn:
            assert conn.exec_driver_sql("SELECT count(*) FROM accounts").scalar() == 0
    finally:
        database.close()


def _write_and_lose(candidate: Candidate, url: str) -> None:
    with candidate.write() as conn:
        add_account(conn, "a@example.com", "a", "", 1)
        end_the_leader(url)


def test_a_server_leads_anew_after_its_session_was_lost(
    url: str, email: str, start: Start, embedder: Words, every_account: None
) -> None:
    server = start(database_url=url)
    caller = log_in(server.address, email)
    for number in range(3):
        caller.publish("u", f"text {number}")
        term = server.app.term
        wait_until(lambda term=term: term.follower.is_open, "the index")  # type: ignore[misc]
        end_the_leader(url)
        wait_until(lambda term=term: leads(server) and server.app.term is not term, "another term", 30)  # type: ignore[misc]
        assert not term.follower.is_open
    assert isinstance(server.app.backstage.leading, Leading)
    assert server.app.backstage.leading.thread.failures == 0
    wait_until(lambda: caller.search(query="text").unindexed_count == 0, "the index to have all")


def test_who_cannot_lead_serves_all_the_same(url: str, email: str, start: Start, embedder: Words) -> None:
    """The leader's session goes its own way, which may be closed."""
    server = start(database_url=url, leader_url="postgresql://127.0.0.1:1/nothing")
    caller = log_in(server.address, email)
    caller.publish("u", "a boat", wait_until=2)
    assert caller.search(user_id="u", query="boat").hits
    assert not leads(server)
    other = start(database_url=url, leader_url=url)
    assert leads(other)
    with psycopg.connect(url) as conn:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'reflexio-server leader'"
        assert conn.execute(query + " AND datname = current_database()").fetchone() == (1,)


def test_what_one_erases_leaves_the_memory_of_the_others(
    url: str, email: str, start: Start, embedder: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "LOOK_SECONDS", 0.2)
    servers = [start(database_url=url) for _ in range(3)]
    callers = [log_in(server.address, email) for server in servers]
    callers[0].publish("u", "a secret", "a boat", wait_until=2)
    callers[0].publish("other", "a lake", wait_until=2)
    for caller in callers:
        assert caller.search(user_id="u", query="secret").hits[0].interaction.content == "a secret"
        assert caller.search(user_id="other", query="lake").hits
    for server in servers:
        assert len(server.app.cache._entries) == 2
    callers[2].delete_user("u")
    for caller in callers:
        assert not caller.search(user_id="u", query="secret").hits, "at once"

    def forgotten() -> bool:
        return all(len(server.app.cache._entries) <= 1 for server in servers)

    wait_until(forgotten, "it to leave every memory", 60)

    def settled() -> bool:
        with psycopg.connect(url) as conn:
            return conn.execute("SELECT erased, settled FROM account_counters").fetchall() == [(2, 2)]

    wait_until(settled, "the leader to clean up", 60)


@pytest.fixture
def chroma(tmp_path: Path) -> Iterator[ChromaRun]:
    with ChromaRun(tmp_path / "chroma server") as running:
        yield running


def of_chroma(chroma: ChromaRun) -> set[int]:
    return set().union(*(chroma.ids(name) for name in chroma.collections()))


def stamps(url: str) -> set[int]:
    with psycopg.connect(url) as conn:
        return {stamp for (stamp,) in conn.execute("SELECT id FROM vectors")}


def unindexed(caller: Caller) -> int:
    return caller.search(query="anything").unindexed_count


def test_every_process_asks_the_index_of_the_one_that_leads(
    url: str,
    email: str,
    tmp_path: Path,
    start: Start,
    embedder: Words,
    every_account: None,
    chroma: ChromaRun,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What one publishes or erases the other's follower puts in and takes out."""
    monkeypatch.setattr(candidates, "TAIL", 20)  # the index has the others
    leader, other = (start(database_url=url, chroma_url=chroma.url) for _ in range(2))
    assert leads(leader)
    assert not leads(other)
    caller = log_in(other.address, email)
    publish(caller, texts(250))
    wait_until(lambda: of_chroma(chroma) == stamps(url) and len(stamps(url)) == 250, "the leader to follow")
    expected = searches(log_in(leader.address, email))
    wait_until(lambda: not unindexed(caller), "the other to ask the index")
    assert same(searches(caller), expected)
    assert {name.split("-")[1] for name in chroma.collections()} == {name_of(url)}

    for number in range(20):
        caller.publish("new", f"a violin {number}", wait_until=2)
    caller.delete_user("user 1")
    wait_until(lambda: of_chroma(chroma) == stamps(url) and len(stamps(url)) == 170, "what was erased to leave")
    wait_until(lambda: not unindexed(caller), "the rest to be there")

    answer = run(*("index", "rebuild", "--data-dir", tmp_path / "elsewhere"), env={"REFLEXIO_DATABASE_URL": url})
    assert "170 vectors, generation 2" in answer.stdout, answer.stderr
    wait_until(lambda: not unindexed(caller), "the new collection to be asked")

    leader.stop()
    wait_until(lambda: leads(other) and other.app.follower.is_open, "the other to lead")
    assert len(chroma.collections()) >= 1
    index = other.app.follower._index
    assert index
    with other.app.database.read() as conn:
        assert {one.folder for one in collections.in_use(conn)} == {index.number}, "nothing is built anew"
    assert of_chroma(chroma) == stamps(url)
    caller.publish("new", "a cello", wait_until=2)
    wait_until(lambda: of_chroma(chroma) == stamps(url), "it to follow")


def name_of(url: str) -> str:
    with psycopg.connect(url) as conn:
        (row,) = conn.execute("SELECT name FROM index_store").fetchall()
        return str(row[0])


def test_an_index_that_fails_is_done_without_by_who_only_asks(
    url: str, email: str, start: Start, embedder: Words, every_account: None, chroma: ChromaRun
) -> None:
    leader, other = (start(database_url=url, chroma_url=chroma.url) for _ in range(2))
    caller = log_in(other.address, email)
    publish(caller, texts(250))
    wait_until(lambda: of_chroma(chroma) == stamps(url) and len(stamps(url)) == 250, "the leader to follow")
    expected = searches(caller)
    assert other.app.backstage.index.is_open
    chroma.stall()
    for limit in (2.5, 0.5, 0.5):
        began = time.monotonic()
        assert same(searches_once(caller), expected[:1]), "all is compared one by one"
        assert time.monotonic() - began < limit * MARGIN
    chroma.go_on()
    wait_until(lambda: searches_once(caller) and other.app.backstage.index.is_open, "it to be asked again")
    wait_until(lambda: leader.app.follower.is_open, "the leader's")
    assert of_chroma(chroma) == stamps(url)
    name = next(iter(chroma.collections()))
    assert chroma.http.delete(f"{COLLECTIONS}/{name}").status_code == 200
    assert same(searches(caller), expected)
    wait_until(lambda: of_chroma(chroma) == stamps(url), "the leader to build it anew", 120)
    wait_until(lambda: searches_once(caller) and other.app.backstage.index.is_open, "the new one to be asked", 120)


def searches_once(caller: Caller) -> list[Hits]:
    hits = caller.search(query=QUESTIONS[0], top_k=10).hits
    return [[(hit.interaction.interaction_id, hit.score) for hit in hits]]


def test_without_a_chroma_server_only_the_leader_asks_an_index(
    url: str, email: str, start: Start, embedder: Words, every_account: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in its folder; another one that leads builds its own."""
    monkeypatch.setattr(candidates, "TAIL", 20)
    leader, other = (start(database_url=url) for _ in range(2))
    caller = log_in(other.address, email)
    publish(caller, texts(250))
    wait_until(lambda: not unindexed(log_in(leader.address, email)), "the leader to follow")
    assert unindexed(caller) == 230
    assert caller.search(query="boat").hits
    assert not other.app.backstage.index.is_open
    leader.stop()
    wait_until(lambda: not unindexed(caller), "the other to lead and build its own")
    assert (other.data_dir / "chroma").exists()


def test_what_is_new_is_taken_into_the_full_text(url: str, tmp_path: Path) -> None:
    """Until then every search of words reads all of it."""
    database = Database(tmp_path, owner=True, url=url)
    pages = text("SELECT gin_clean_pending_list('full_text_by_word')")
    try:
        for taken_up in (False, True):
            with database.write() as conn:
                first = 1000 * taken_up
                full_text.add(conn, [(first + number, "a1 u1", f"word{number}") for number in range(100)])
            if taken_up:
                with database.write() as conn:
                    full_text.take_up(conn)
            with database.write() as conn:
                assert (conn.execute(pages).scalar_one() == 0) == taken_up
    finally:
        database.close()


def test_a_copied_database_is_another_store(url: str, tmp_path: Path, postgres_url: str) -> None:
    found = [store_id_in(url, tmp_path / "one") for _ in range(2)]
    assert found[0] == found[1]
    copy = new_database(postgres_url, template=url)
    assert store_id_in(copy, tmp_path / "two") not in found
    assert store_id_in(url, tmp_path / "one") == found[0]


def store_id_in(url: str, data_dir: Path) -> str:
    database = Database(data_dir, owner=True, url=url)
    try:
        with database.write() as conn:
            return index_store.store_id(conn)
    finally:
        database.close()
