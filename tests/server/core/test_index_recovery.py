"""The Chroma index is lost, late or not as its note says: the server answers all the same, and builds it anew."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reflexio_server.core import following
from reflexio_server.index.chroma_process import ChromaProcess
from reflexio_server.index.loading import load_embedder
from tests.server.core.recovery import (
    LATER,
    QUESTIONS,
    SEED,
    Asked,
    back,
    damage,
    filled,
    publish,
    same,
    searches,
    serving,
    stamps,
    stopped_store,
    texts,
    unindexed,
    wait_for_index,
    wait_for_vectors,
)
from tests.state import change, copy_store, folders, put_back_database
from tests.support import LocalServer, create_account, log_in
from tests.wire import wait_until
from tests.words import Words, use

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("every_account")]


def test_an_index_that_is_behind_after_a_kill_catches_up(
    tmp_path: Path, model_dir: Path, start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    email = create_account(tmp_path)
    with serving(tmp_path, model_dir, "--embedder", "minilm-int8") as killed:
        caller = log_in(killed.address, email)
        publish(caller, texts(600))
        wait_for_vectors(tmp_path, 100)
        killed.kill()
    made = stamps(tmp_path)
    assert 100 <= len(made) < 600, "killed too late to be of use"

    use(monkeypatch, load_embedder("minilm-int8", model_dir))
    server = start(tmp_path)
    caller = back(server, caller)
    wait_for_index(server)
    assert unindexed(caller) == 0
    after = stamps(tmp_path)
    assert after[: len(made)] == made, "no vector was made again"
    assert len(after) == 600
    found = caller.search(query="playing an instrument").hits
    assert all({"music", "guitar"} & set(hit.interaction.content.split()) for hit in found)


def test_vectors_that_the_index_never_got_are_found_and_applied(
    tmp_path: Path, start: Callable[..., LocalServer], embedder: Words, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(following.Follower, "start", lambda _: None)
        server = start(tmp_path)
        caller = server.new_caller()
        publish(caller, texts(250))
        wait_until(lambda: unindexed(caller) == 0, "all vectors")
        expected = searches(caller)
        server.stop()
    assert (asked.queries, asked.upserts) == (0, 0)
    made = stamps(tmp_path)
    embedder.embedded.clear()

    server = start(tmp_path)
    wait_for_index(server)
    assert asked.upserts == 3
    assert same(searches(back(server, caller)), expected)
    assert asked.queries == len(QUESTIONS)
    assert stamps(tmp_path) == made
    assert embedder.embedded == []


def test_what_the_index_has_but_did_not_note_is_applied_again(
    tmp_path: Path, start: Callable[..., LocalServer], embedder: Words, asked: Asked
) -> None:
    """As after a kill between the index's write and the note of it in SQL."""
    caller, expected = stopped_store(start, tmp_path)
    change(tmp_path, "UPDATE collections SET applied = applied - 80")
    server = start(tmp_path)
    wait_for_index(server)
    assert same(searches(back(server, caller)), expected)
    assert (asked.checks, folders(tmp_path)) == (1, ["1"])


@pytest.mark.parametrize("lost", ["chroma", "chroma/1"])
def test_a_deleted_folder_is_built_anew(
    tmp_path: Path, start: Callable[..., LocalServer], embedder: Words, lost: str
) -> None:
    caller, expected = stopped_store(start, tmp_path)
    made = stamps(tmp_path)
    embedder.embedded.clear()
    shutil.rmtree(tmp_path / lost)
    server = start(tmp_path)
    caller = back(server, caller)
    assert same(searches(caller), expected), "at once, from SQL"
    wait_for_index(server)
    assert same(searches(caller), expected)
    assert stamps(tmp_path) == made
    assert embedder.embedded == []


def test_a_folder_deleted_while_it_is_in_use_is_built_anew(
    tmp_path: Path, start: Callable[..., LocalServer], embedder: Words
) -> None:
    server, caller = filled(start, tmp_path)
    expected = searches(caller)
    shutil.rmtree(tmp_path / "chroma")
    assert same(searches(caller), expected)
    publish(caller, [LATER])
    wait_until(lambda: any((tmp_path / "chroma").glob("*/chroma.sqlite3")), "a new folder")
    wait_for_index(server)
    assert caller.search(query="violin").hits[0].interaction.content == LATER
    assert same(searches(caller), expected)


@pytest.mark.sqlite  # on PostgreSQL it is always checked: the database may have had another index meanwhile
def test_after_an_orderly_end_nothing_is_checked(
    tmp_path: Path, start: Callable[..., LocalServer], embedder: Words, asked: Asked
) -> None:
    caller, expected = stopped_store(start, tmp_path)
    assert (tmp_path / "chroma/1.closed").exists()
    upserts = asked.upserts
    for _ in range(2):
        server = start(tmp_path)
        wait_for_index(server)
        assert not (tmp_path / "chroma/1.closed").exists(), "an index in use is not closed"
        assert same(searches(back(server, caller)), expected)
        server.stop()
    assert (asked.checks, asked.upserts, folders(tmp_path)) == (0, upserts, ["1"])


@pytest.mark.parametrize("note", ["deleted", "cut"])
def test_without_a_good_note_a_good_index_is_checked_and_kept(
    tmp_path: Path, start: Callable[..., LocalServer], embedder: Words, asked: Asked, note: str
) -> None:
    caller, expected = stopped_store(start, tmp_path)
    damage(tmp_path / "chroma/1.closed", note)
    upserts = asked.upserts
    server = start(tmp_path)
    wait_for_index(server)
    assert (asked.checks, asked.upserts, folders(tmp_path)) == (1, upserts, ["1"])
    assert same(searches(back(server, caller)), expected)


def test_an_older_folder_in_the_place_of_the_live_one_is_noticed(
    tmp_path: Path, start: Callable[..., LocalServer], embedder: Words
) -> None:
    """With its note, which is right for its files: somebody put a copy of the folder back."""
    data_dir = tmp_path / "data"
    stopped_store(start, data_dir)
    shutil.copytree(data_dir / "chroma", tmp_path / "older")
    server = start(data_dir)
    caller = server.new_caller()
    publish(caller, texts(150, SEED + 1))
    wait_for_index(server)
    expected = searches(caller)
    server.stop()
    shutil.rmtree(data_dir / "chroma")
    shutil.copytree(tmp_path / "older", data_dir / "chroma")
    server = start(data_dir)
    wait_for_index(server)
    assert same(searches(back(server, caller)), expected)
    assert folders(data_dir) == ["1.damaged", "2"]


def test_a_database_put_back_from_a_backup_does_not_keep_the_newer_index(
    tmp_path: Path, start: Callable[..., LocalServer], embedder: Words
) -> None:
    """What was stored after the backup would crowd out what is there, and its stamps are given again."""
    data_dir = tmp_path / "data"
    caller, expected = stopped_store(start, data_dir)
    copy_store(data_dir, tmp_path / "backup")
    server = start(data_dir)
    publish(back(server, caller), [f"boat river {number}" for number in range(250)])
    wait_for_index(server)
    server.stop()
    put_back_database(tmp_path / "backup", data_dir)
    server = start(data_dir)
    wait_for_index(server)
    assert same(searches(back(server, caller)), expected)


def test_collections_that_nobody_needs_are_dropped(
    tmp_path: Path, start: Callable[..., LocalServer], embedder: Words
) -> None:
    caller, expected = stopped_store(start, tmp_path)
    index = ChromaProcess(tmp_path / "chroma/1", lambda: False)
    index.open()
    matrix = np.eye(3, 32, dtype=np.float32)
    for name in ("account-1-model-1-7", "account-9-model-1-1", "account-1-model-8-1"):
        index.upsert(name, [1, 2, 3], [1, 1, 1], matrix)
    index.close()
    server = start(tmp_path)
    wait_for_index(server)
    assert names(server) == ["account-1-model-1-1"]
    assert same(searches(back(server, caller)), expected)


def names(server: LocalServer) -> list[str]:
    """The collections there are in Chroma."""
    index = server.app.follower._index
    assert index
    return sorted(index.names())
