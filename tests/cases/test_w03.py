"""W3: an account of a few interactions costs Chroma nothing: they are compared one by one anyway."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.cli.main import main
from reflexio_server.core import index_jobs
from reflexio_server.storage import collections
from tests.state import indexes, is_settled, wait_for_index
from tests.support import Caller, LocalServer
from tests.wire import metric, wait_until
from tests.words import Words

ACCOUNTS = 5
MOST = 20


def command(data_dir: Path, name: str, *arguments: str) -> str:
    done = CliRunner().invoke(main, ["index", name, *arguments, "--data-dir", str(data_dir)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def status(data_dir: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(command(data_dir, "status", "--json"))["accounts"]
    return found


def publish(caller: Caller, start: int, stop: int) -> list[str]:
    texts = (f"kitten number {number}" for number in range(start, stop))
    made = caller.publish("u", *texts, wait_until=pb.WAIT_UNTIL_SEARCHABLE)
    return list(made.interaction_ids)


def collections_of(server: LocalServer) -> list[str]:
    index = server.app.follower._index
    return index.names() if index else []


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many vectors are few, and what is replaced goes at once."""
    monkeypatch.setattr(collections, "EXACT_ACCOUNT", MOST)
    monkeypatch.setattr(index_jobs, "KEEP_SECONDS", 0)
    monkeypatch.setattr(index_jobs, "_SWEEP_SECONDS", 0.1)


def test_small_accounts_have_no_collection(start: Callable[..., LocalServer], embedder: Words) -> None:
    server = start(metrics_port=0)
    callers = [server.new_caller() for _ in range(ACCOUNTS)]
    for caller in callers:
        caller.publish("u", "grey kitten", "black dog", wait_until=pb.WAIT_UNTIL_SEARCHABLE)
    wait_for_index(server)
    answers = [caller.search(query="grey kitten", top_k=1) for caller in callers]
    assert [(len(answer.hits), answer.unindexed_count) for answer in answers] == [(1, 0)] * ACCOUNTS
    assert indexes(server.data_dir) == []
    wait_until(lambda: metric(server, "reflexio_index_waiting_vectors") == 0, "nothing to be counted as late")
    assert [(one["vectors"], one["in_chroma"], one["generation"]) for one in status(server.data_dir)] == [
        (2, None, None)
    ] * ACCOUNTS
    for name in ("verify", "rebuild"):
        said = command(server.data_dir, name)
        assert said.count("so few vectors that they are compared one by one, not in Chroma") == ACCOUNTS
    erased = callers[0].search(query="grey kitten", top_k=1).hits[0].interaction.interaction_id
    callers[0].delete_interaction(erased)
    wait_until(lambda: is_settled(server), "what was erased to be gone", 60)
    with server.app.database.read() as conn:
        wait_until(lambda: conn.exec_driver_sql("SELECT count(*) FROM erased_vectors").scalar() == 0, "the index too")


def test_an_account_that_grows_gets_one_and_keeps_it_until_it_is_small_again(
    start: Callable[..., LocalServer], embedder: Words, few: None
) -> None:
    server = start()
    caller, other = server.new_caller(), server.new_caller()
    made = publish(caller, 0, MOST)
    publish(other, 0, MOST // 2)
    wait_for_index(server)
    assert collections_of(server) == []
    made += publish(caller, MOST, MOST + 1)
    wait_for_index(server)
    assert collections_of(server) == ["account-1-model-1-1"]
    assert [one["in_chroma"] for one in status(server.data_dir)] == [MOST + 1, None]
    for number in range(MOST // 2):  # at the border nothing flaps
        caller.delete_interaction(made[number])
    wait_for_index(server)
    assert [one["in_chroma"] for one in status(server.data_dir)] == [MOST // 2 + 1, None]
    caller.delete_interaction(made[MOST // 2])
    wait_until(lambda: collections_of(server) == [], "it to be dropped")
    wait_until(lambda: indexes(server.data_dir) == [], "its files to go")
    assert len(caller.search(query="kitten", top_k=100).hits) == MOST // 2
    publish(caller, 100, 101 + MOST // 2)
    wait_for_index(server)
    assert collections_of(server) == ["account-1-model-1-1"]
    assert "21 vectors, 0 were missing, 0 were too many" in command(server.data_dir, "verify")
    assert len(caller.search(query="kitten", top_k=100).hits) == MOST + 1


def test_small_collections_of_older_versions_go(
    start: Callable[..., LocalServer], embedder: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(collections, "EXACT_ACCOUNT", 0)
        server = start()
        callers = [server.new_caller() for _ in range(ACCOUNTS)]
        for number, caller in enumerate(callers):
            publish(caller, 0, 2 + MOST * (number == 0))
        wait_for_index(server)
        assert len(indexes(server.data_dir)) == ACCOUNTS
        server.stop()
    monkeypatch.setattr(collections, "EXACT_ACCOUNT", MOST)
    server = start(server.data_dir)
    wait_for_index(server)
    assert collections_of(server) == ["account-1-model-1-1"]
    assert len(indexes(server.data_dir)) == 1
    again = [Caller(server.address, caller.email, caller.api_key) for caller in callers]
    assert [len(caller.search(query="kitten", top_k=50).hits) for caller in again] == [MOST + 2, *[2] * 4]
