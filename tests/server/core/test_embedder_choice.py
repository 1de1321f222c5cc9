"""The embedding model of servers that share a store: the first one chooses, a command changes it, no start does."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from sqlalchemy import text

from reflexio_server import backstage
from reflexio_server.cli import model_use
from reflexio_server.core import embedder_change, embedders
from reflexio_server.core.embedder_choice import OtherModel
from reflexio_server.index.embedder import Embedder
from reflexio_server.storage import embedders as stored
from reflexio_server.storage.database import Database
from reflexio_server.storage.horizon import Horizon
from tests import stores
from tests.command import account_on, run, run_alone, said
from tests.support import Caller, LocalServer, failure_of, log_in
from tests.wire import wait_until
from tests.words import Words

pytestmark = pytest.mark.sqlite  # each test chooses its database
OLD, NEW = Words("old"), Words("new", 48)


@pytest.fixture
def url(databases: stores.Databases, tmp_path: Path) -> str:
    return databases.of(tmp_path / "of the test")


@pytest.fixture
def of(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., LocalServer]]:
    """Starts a server on the database with this embedder, on a machine where the others are installed too."""
    monkeypatch.setattr(embedders, "_LOOK_AGAIN_SECONDS", 0.2)
    monkeypatch.setattr(embedder_change, "_LOOK_SECONDS", 0.1)
    at: dict[Path, tuple[Embedder, ...]] = {}
    monkeypatch.setattr(backstage, "load_embedder", lambda _name, folder: at[folder][0])
    monkeypatch.setattr(
        backstage,
        "load_by_id",
        lambda model_id, folder: next((one for one in at[folder] if one.model_id == model_id), None),
    )
    with contextlib.ExitStack() as started:

        def run(name: str, *installed: Embedder, **settings: Any) -> LocalServer:
            folder = tmp_path / name / "models"
            at[folder] = installed
            server = LocalServer(tmp_path / name, folder, database_url=url, **settings)
            started.callback(server.stop)
            return server

        yield run


@pytest.fixture
def use(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Embedder], str]:
    """`model use`, as from another machine."""

    def chosen(embedder: Embedder) -> str:
        monkeypatch.setattr(model_use, "load_embedder", lambda _name, _folder: embedder)
        env = {"REFLEXIO_DATABASE_URL": url}
        answer = run("model", "use", "minilm", "--data-dir", tmp_path / "elsewhere", env=env)
        assert answer.exit_code == 0, answer.stderr
        return answer.stdout

    return chosen


def caller_of(server: LocalServer, url: str, data_dir: Path) -> Caller:
    return log_in(server.address, account_on(url, data_dir))


def names(url: str) -> tuple[str | None, str | None]:
    """The ids of the live model and of the one that is to take over."""
    with psycopg.connect(url) as conn:
        found = conn.execute(
            """SELECT l.model_id, n.model_id FROM live_model
               JOIN models l ON l.id = model LEFT JOIN models n ON n.id = next"""
        ).fetchone()
    return found or (None, None)


def models_of_vectors(url: str) -> dict[str, int]:
    with psycopg.connect(url) as conn:
        query = "SELECT model_id, count(*) FROM vectors JOIN models ON models.id = model GROUP BY 1"
        return dict(conn.execute(query).fetchall())


def test_a_start_with_another_model_is_refused_and_changes_nothing(
    url: str, tmp_path: Path, of: Callable[..., LocalServer]
) -> None:
    first = of("one", OLD)
    caller = caller_of(first, url, tmp_path / "elsewhere")
    caller.publish("u", "a boat", "a cat")
    wait_until(lambda: models_of_vectors(url) == {"old": 2}, "the vectors")
    for beside in (True, False):
        if not beside:
            first.stop()
        with pytest.raises(OtherModel, match="`reflexio-server model use"):
            of("two", NEW, OLD)
    assert names(url) == ("old", None)
    assert models_of_vectors(url) == {"old": 2}
    with psycopg.connect(url) as conn:
        assert conn.execute("SELECT model_id FROM models").fetchall() == [("old",)]
    of("two", OLD)


def test_another_model_takes_over_by_command(
    url: str, tmp_path: Path, of: Callable[..., LocalServer], use: Callable[[Embedder], str]
) -> None:
    """One server leads and makes the vectors; the other one only meets the new model when it is live."""
    first = of("one", OLD, NEW)
    other = of("two", OLD, NEW, indexing=False)
    caller = caller_of(first, url, tmp_path / "elsewhere")
    caller.publish("u", *(f"boat {number}" for number in range(100)))
    wait_until(lambda: models_of_vectors(url) == {"old": 100}, "the vectors")
    there = log_in(other.address, caller.email)
    assert there.search(user_id="u", query="boat 7", top_k=1).hits[0].interaction.content == "boat 7"
    assert "to take over from old" in use(NEW)
    wait_until(lambda: names(url) == ("new", None), "the change")
    wait_until(lambda: models_of_vectors(url) == {"new": 100}, "the old vectors to be deleted")
    for one in (caller, there):
        one.publish("u", "a fresh text")
        found = one.search(user_id="u", query="boat 7", top_k=1)
        assert (found.hits[0].interaction.content, found.unindexed_count) == ("boat 7", 0)
    with pytest.raises(OtherModel):
        of("three", OLD, NEW)
    of("three", NEW)


def test_a_server_may_be_started_with_the_model_that_is_to_take_over(
    url: str, tmp_path: Path, of: Callable[..., LocalServer], use: Callable[[Embedder], str]
) -> None:
    first = of("one", OLD, NEW, indexing=False)
    caller = caller_of(first, url, tmp_path / "elsewhere")
    caller.publish("u", "a boat")
    use(NEW)
    second = of("two", NEW, OLD, indexing=False)
    there = log_in(second.address, caller.email)
    assert there.search(user_id="u", query="boat", top_k=1).hits, "by the live one, which it loaded"
    assert "no other is to take over any more" in use(OLD)
    assert names(url) == ("old", None)


def test_where_the_live_model_is_missing_callers_are_told_to_go_elsewhere(
    url: str,
    tmp_path: Path,
    of: Callable[..., LocalServer],
    use: Callable[[Embedder], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = of("one", OLD, NEW)
    caller = caller_of(first, url, tmp_path / "elsewhere")
    lacking = of("two", OLD, indexing=False)
    use(NEW)
    wait_until(lambda: names(url) == ("new", None), "the change")
    there = log_in(lacking.address, caller.email)
    there.publish("u", "a boat")
    for user in ({"user_id": "u"}, {}):
        with pytest.raises(grpc.RpcError) as caught:
            there.search(query="boat", **user)
        found = failure_of(caught.value)
        assert (found.code, found.info.reason) == (grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")
        assert found.retry_seconds
    assert [record for record in caplog.records if "the store uses new" in record.getMessage()]
    assert len(there.get(user_id="u").interactions) == 1, "what needs no model is answered"
    assert caller.search(user_id="u", query="boat").hits


def test_model_use_says_what_it_cannot_do(url: str, tmp_path: Path) -> None:
    folder = ("--data-dir", tmp_path / "data", "--model-dir", tmp_path / "models")
    assert "SQLite" in said(run("model", "use", "minilm", *folder, env={"REFLEXIO_DATABASE_URL": ""}))
    env = {"REFLEXIO_DATABASE_URL": url}
    assert "model install" in said(run("model", "use", "minilm-fp32", *folder, env=env))
    assert names(url) == (None, None)
    assert said(run("model", "use", "nothing", *folder, env=env))


def test_a_real_server_says_which_model_to_start_with(url: str, tmp_path: Path, model_dir: Path) -> None:
    env = {**os.environ, "REFLEXIO_DATABASE_URL": url}
    folder = ("--data-dir", tmp_path / "data", "--model-dir", model_dir)
    assert "is the model of this store" in run("model", "use", "minilm-int8", *folder, env=env).stdout
    text = said(run_alone("serve", "--port", "0", "--embedder", "minilm-fp32", *folder, env=env))
    assert "start with --embedder minilm-int8, or let that one take over" in text
    assert "`reflexio-server model use minilm-fp32`" in text


def test_nothing_appears_below_the_horizon(url: str, tmp_path: Path) -> None:
    """A transaction that drew a lower number and is not through holds it back, whatever others commit."""
    database = Database(tmp_path, owner=True, url=url)
    try:
        with database.write() as conn:
            conn.execute(text("INSERT INTO accounts (email, tag, password_hash, created_at) VALUES ('a', 'a', '', 0)"))
            conn.execute(text("INSERT INTO users (account_id, user_id) VALUES (1, 'u')"))
            conn.execute(
                text(
                    """INSERT INTO requests (account_id, user_ref, request_id, request_group, source, agent_version,
                           body_hash, stored_at) VALUES (1, 1, 'r', '', '', '', '', 0)"""
                )
            )

        def publish(conn: Any) -> int:
            query = """INSERT INTO interactions (account_id, user_ref, request_ref, interaction_id, sequence, role,
                content, user_action, user_action_description, interacted_image_url, created_at, stored_at)
                VALUES (1, 1, 1, gen_random_uuid()::text, 1, '', '', 0, '', '', 0, 0) RETURNING id"""
            return int(conn.execute(query).fetchone()[0])

        horizon = Horizon()

        def look() -> int:
            with database.read() as conn:
                return horizon.look(conn)

        with psycopg.connect(url) as slow, psycopg.connect(url, autocommit=True) as quick:
            first = publish(quick)
            wait_until(lambda: look() == first, "what is committed")
            held = publish(slow)
            later = publish(quick)
            assert held < later
            for _ in range(3):
                assert look() < held
            slow.commit()
            wait_until(lambda: look() == later, "the other's end")
        with psycopg.connect(url) as early, psycopg.connect(url) as slow:
            early.execute("SELECT pg_current_xact_id()")  # it began to write first, and drew its number last
            held = publish(slow)
            later = publish(early)
            early.commit()
            for _ in range(3):
                assert look() < held
            slow.commit()
            wait_until(lambda: look() == later, "the other's end")
        with database.read() as conn:
            assert stored.state(conn) is None
    finally:
        database.close()
