"""The index on a real Chroma server: found as in the folder, and whole again whatever was done to the server."""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from reflexio_server.core import candidates, following, index_jobs
from reflexio_server.core.index_truth import IndexTruth
from reflexio_server.index.chroma_http import ChromaHttp
from reflexio_server.index.chroma_server import ServerIndex
from reflexio_server.index.nearest import are_equal
from reflexio_server.storage import collections, vectors
from tests.command import run
from tests.server.core.recovery import LATER, back, publish, same, searches, texts, unindexed
from tests.state import change, copy_store, has_followed, index_command, put_back_database, rows, wait_for_index
from tests.support import Caller, LocalServer
from tests.wire import wait_until
from tools.chroma_run import COLLECTIONS, ChromaRun

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("every_account", "embedder")]
Start = Callable[..., LocalServer]


@pytest.fixture
def chroma(tmp_path: Path) -> Iterator[ChromaRun]:
    with ChromaRun(tmp_path / "chroma server") as running:
        yield running


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked often whether the server has what it must, and tried often again while it fails."""
    monkeypatch.setattr(index_jobs, "_SWEEP_SECONDS", 0.5)
    monkeypatch.setattr(following, "_FIRST_PAUSE", 0.2)


def filled(
    start: Start, chroma: ChromaRun, data_dir: Path | None = None, count: int = 250
) -> tuple[LocalServer, Caller]:
    server = start(data_dir, chroma_url=chroma.url)
    caller = server.new_caller()
    publish(caller, texts(count))
    wait_for_index(server)
    return server, caller


def stamps(server: LocalServer) -> set[int]:
    return stamps_in(server.data_dir)


def stamps_in(data_dir: Path) -> set[int]:
    return {stamp for (stamp,) in rows(data_dir, "SELECT id FROM vectors")}


def live_names(server: LocalServer, chroma: ChromaRun) -> list[str]:
    """The server's own names of the collections that searches ask; none while they can ask none."""
    if server.app.follower._index is None:
        return []
    live = rows(server.data_dir, "SELECT folder, account_id, model, generation FROM collections")
    found = [f"{number}-account-{account}-model-{model}-{last}" for number, account, model, last in live]
    return [name for name in chroma.collections() if name.partition("-")[2].partition("-")[2] in found]


def is_whole(server: LocalServer, chroma: ChromaRun) -> bool:
    """Whether the server has exactly the vectors that SQL has."""
    names = live_names(server, chroma)
    return bool(names) and set().union(*(chroma.ids(name) for name in names)) == stamps(server)


def test_it_finds_what_the_folder_finds_and_says_so(start: Start, chroma: ChromaRun, tmp_path: Path) -> None:
    local = start(tmp_path / "data")
    caller = local.new_caller()
    publish(caller, texts(250))
    wait_for_index(local)
    expected = searches(caller)
    assert (tmp_path / "data" / "chroma").is_dir()
    local.stop()
    server = start(tmp_path / "data", chroma_url=chroma.url)
    caller = back(server, caller)
    wait_for_index(server)
    assert same(searches(caller), expected)
    assert unindexed(caller) == 0
    assert is_whole(server, chroma)
    assert not (tmp_path / "data" / "chroma").exists(), "nobody would erase in it"
    assert "250 vectors, 0 were missing, 0 were too many, 0 of 100" in index_command(server, "verify")
    assert "250 vectors, generation 2" in index_command(server, "rebuild")
    assert same(searches(caller), expected)
    caller.publish("user 1", "a violin")
    wait_for_index(server)
    assert caller.search(query="a violin", top_k=1).hits[0].interaction.content == "a violin"


def seconds_of(act: Callable[[], Any]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


def search_while_away(server: LocalServer, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """What searches answer without the index: the newest 20 of 250 by their vectors, all by their words."""
    monkeypatch.setattr(candidates, "TAIL", 20)
    first = seconds_of(lambda: caller.search(query="a boat on the lake"))
    assert first < 2.5, "a search waits for 2 seconds at most"
    wait_until(lambda: not server.app.follower.is_open, "the index to be given up")
    for _ in range(20):
        assert seconds_of(lambda: caller.search(query="a boat on the lake")) < 0.5, "and not at all after that"
    found = caller.search(query="boat", top_k=100)
    assert found.unindexed_count == 230
    assert sum("boat" in hit.interaction.content for hit in found.hits) > 20
    assert caller.search(user_id="user 1", query="boat").unindexed_count == 0
    assert seconds_of(lambda: caller.publish("user 1", LATER, wait_until=2)) < 1
    assert caller.search(query=LATER, top_k=1).hits[0].interaction.content == LATER


def test_killed_it_is_done_without_and_is_back_with_it(
    start: Start, chroma: ChromaRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, caller = filled(start, chroma)
    expected = searches(caller)
    before = live_names(server, chroma)
    chroma.kill()
    search_while_away(server, caller, monkeypatch)
    wait_until(lambda: "Unavailable" in server.app.follower.thread.last_failure, "it to be told")
    assert index_command(server, "status")
    chroma.start()
    wait_for_index(server)
    assert unindexed(caller) == 0
    assert live_names(server, chroma) == before, "nothing is built anew"
    assert same(searches(caller), expected)
    assert is_whole(server, chroma)


def test_stalled_it_is_done_without_and_is_back_with_it(
    start: Start, chroma: ChromaRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, caller = filled(start, chroma)
    before = live_names(server, chroma)
    chroma.stall()
    try:
        search_while_away(server, caller, monkeypatch)
    finally:
        chroma.go_on()
    wait_for_index(server)
    assert unindexed(caller) == 0
    assert live_names(server, chroma) == before
    assert is_whole(server, chroma)


def test_many_who_search_while_it_stalls_wait_once(start: Start, chroma: ChromaRun) -> None:
    server, caller = filled(start, chroma)
    waited: list[float] = []
    done = threading.Event()

    def search() -> None:
        while not done.is_set():
            waited.append(seconds_of(lambda: caller.search(query="a boat on the lake")))

    with ThreadPoolExecutor(4) as pool:
        searching = [pool.submit(search) for _ in range(4)]
        time.sleep(1)
        chroma.stall()
        try:
            time.sleep(12)  # and some tries
        finally:
            chroma.go_on()
            done.set()
        for one in searching:
            one.result(30)
    assert max(waited) < 3
    assert len([seconds for seconds in waited if seconds > 1]) <= 4, "each once"
    wait_for_index(server)
    assert unindexed(caller) == 0


def test_a_stop_does_not_wait_for_a_stalled_one(start: Start, chroma: ChromaRun) -> None:
    server, caller = filled(start, chroma)
    chroma.stall()
    try:
        caller.publish("user 1", "a late violin")
        assert seconds_of(server.stop) < 20
    finally:
        chroma.go_on()


@pytest.mark.parametrize("stopped", [True, False], ids=["between two runs", "in use"])
@pytest.mark.parametrize("how", ["emptied", "older", "without the last batch"])
def test_another_than_was_left_is_noticed_and_repaired(
    start: Start, chroma: ChromaRun, tmp_path: Path, quick: None, how: str, stopped: bool
) -> None:
    server, caller = filled(start, chroma, tmp_path / "data", 150)
    copy = None if how == "emptied" else chroma.copy(tmp_path / "copy")
    publish(caller, texts(100 if how == "older" else 1, seed=2))
    wait_for_index(server)
    expected = searches(caller)
    if stopped:
        server.stop()
    chroma.replace(copy)
    if stopped:
        server = start(tmp_path / "data", chroma_url=chroma.url)
        caller = back(server, caller)
    wait_until(lambda: has_followed(server) and is_whole(server, chroma), "the index to be whole again")
    assert same(searches(caller), expected)
    assert unindexed(caller) == 0


def test_without_its_check_it_is_not_noticed(
    start: Start, chroma: ChromaRun, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the tests before can fail."""
    monkeypatch.setattr(ServerIndex, "check", lambda *_: None)
    server, caller = filled(start, chroma, count=100)
    copy = chroma.copy(tmp_path / "copy")
    wait_for_index(server)
    publish(caller, texts(100, seed=2))
    wait_for_index(server)
    chroma.replace(copy)
    wait_for_index(server)
    time.sleep(3)
    assert not is_whole(server, chroma)
    assert unindexed(caller) == 0


def test_newer_than_a_database_that_was_restored(start: Start, chroma: ChromaRun, tmp_path: Path) -> None:
    """What it has under stamps that are given out again is never taken for what they are of now."""
    server, caller = filled(start, chroma, tmp_path / "data", 150)
    server.stop()
    copy_store(tmp_path / "data", tmp_path / "copy")
    server = start(tmp_path / "data", chroma_url=chroma.url)
    publish(back(server, caller), [f"{one} bread" for one in texts(130, seed=2)])
    wait_for_index(server)
    server.stop()
    newer = chroma.copy(tmp_path / "newer")
    put_back_database(tmp_path / "copy", tmp_path / "data")
    server = start(tmp_path / "data", chroma_url=chroma.url)
    caller = back(server, caller)
    wait_for_index(server)
    assert is_whole(server, chroma)
    publish(caller, [f"{one} sailing" for one in texts(130, seed=3)])  # under the same stamps
    wait_for_index(server)
    assert is_whole(server, chroma)
    assert vectors_are_right(server)
    expected = searches(caller)
    server.stop()
    chroma.replace(newer)  # as many, under the same stamps, of the other life
    server = start(tmp_path / "data", chroma_url=chroma.url)
    caller = back(server, caller)
    wait_for_index(server)
    assert is_whole(server, chroma)
    assert vectors_are_right(server)
    assert same(searches(caller), expected)


def vectors_are_right(server: LocalServer) -> bool:
    """Whether each is the one that SQL has under its stamp."""
    index = server.app.follower._index
    assert index
    with server.app.database.read() as conn:
        for live in collections.in_use(conn):
            wanted = vectors.after(conn, live.account_id, live.model, 0, 10_000)
            if not are_equal(index.vectors(live.name, wanted.stamps.tolist()), wanted.matrix):
                return False
    return True


def test_a_collection_that_it_cannot_read_is_built_anew(
    start: Start, chroma: ChromaRun, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    """As when its files are damaged; but not while its disk is full."""
    server, caller = filled(start, chroma, count=60)
    (before,) = live_names(server, chroma)
    understood, said, failed = ChromaHttp._understood, ["No space left on device (os error 28)"], [0]
    broken = chroma.collections()[before]

    def failing(http: ChromaHttp, method: str, path: str, *given: Any) -> Any:
        if broken in path and path.endswith("/query"):
            failed[0] += 1
            return understood(http, 500, json.dumps({"error": "InternalError", "message": said[0]}).encode())
        return answer(http, method, path, *given)

    answer = ChromaHttp._answer
    monkeypatch.setattr(ChromaHttp, "_answer", failing)
    caller.search(query="boat")
    wait_until(lambda: failed[0] >= 4, "some tries")
    assert live_names_there(chroma) == [before]
    said[0] = "Error loading hnsw index"
    wait_until(lambda: has_followed(server) and live_names_there(chroma) not in ([before], []), "another one")
    assert is_whole(server, chroma)
    assert unindexed(caller) == 0


def live_names_there(chroma: ChromaRun) -> list[str]:
    """The names of all stores' collections there."""
    return [name for name in chroma.collections() if name.startswith("reflexio-")]


def test_the_commands_without_a_running_server(
    start: Start, chroma: ChromaRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, caller = filled(start, chroma, tmp_path / "data", 60)
    server.stop()
    (before,) = live_names_there(chroma)
    for name in ("verify", "rebuild"):
        done = run("index", name, "--data-dir", tmp_path / "data")
        assert done.exit_code == 1
        assert "give --chroma-url (or REFLEXIO_CHROMA_URL)" in done.output
    assert not (tmp_path / "data" / "chroma").exists()
    http, of = chroma.http, f"{COLLECTIONS}/{chroma.collections()[before]}"
    some = sorted(stamps_in(tmp_path / "data"))[3:6]
    assert http.post(f"{of}/delete", json={"ids": [str(stamp) for stamp in some]}).status_code == 200
    given = ("--data-dir", tmp_path / "data", "--chroma-url", chroma.url)
    done = run("index", "verify", *given)
    assert "60 vectors, 0 were missing, 0 were too many, 0 of 60" in done.output, "it was built anew before"
    done = run("index", "rebuild", *given[:2], env={"REFLEXIO_CHROMA_URL": chroma.url})
    assert "60 vectors, generation 2" in done.output
    chroma.kill()
    done = run("index", "verify", *given)
    assert done.exit_code == 1
    assert "the index cannot be used now (Unavailable): ask again later" in done.output
    done = run("index", "verify", *given, "--chroma-token-file", tmp_path / "none")
    assert f"--chroma-token-file: cannot read {tmp_path / 'none'}" in done.output
    chroma.start()
    server = start(tmp_path / "data", chroma_url=chroma.url)
    wait_for_index(server)
    assert is_whole(server, chroma)
    assert unindexed(back(server, caller)) == 0


def test_verify_repairs_what_others_changed_in_use(start: Start, chroma: ChromaRun) -> None:
    server, _ = filled(start, chroma, count=150)
    (name,) = live_names(server, chroma)
    of = f"{COLLECTIONS}/{chroma.collections()[name]}"
    some = sorted(stamps(server))[10:20]
    chroma.http.post(f"{of}/delete", json={"ids": [str(stamp) for stamp in some]})
    chroma.http.post(f"{of}/upsert", json={"ids": ["999999"], "embeddings": [[1.0] * 384], "metadatas": [{"user": 1}]})
    said = index_command(server, "verify")
    assert "10 were missing, 1 were too many" in said or "0 were missing, 0 were too many" in said, (
        "the sweep was first"
    )
    wait_until(lambda: has_followed(server) and is_whole(server, chroma), "it to be whole")


def test_back_in_the_folder_it_is_built_there(start: Start, chroma: ChromaRun, tmp_path: Path) -> None:
    server, caller = filled(start, chroma, tmp_path / "data", 60)
    expected = searches(caller)
    server.stop()
    server = start(tmp_path / "data")
    wait_for_index(server)
    assert same(searches(back(server, caller)), expected)
    server.stop()
    server = start(tmp_path / "data", chroma_url=chroma.url)
    wait_for_index(server)
    assert same(searches(back(server, caller)), expected)
    assert is_whole(server, chroma)
    assert len(live_names_there(chroma)) == 1, "the one from before is gone"


def test_what_is_erased_leaves_it_also_when_it_was_away(
    start: Start, chroma: ChromaRun, tmp_path: Path, quick: None
) -> None:
    server, caller = filled(start, chroma)
    copy = chroma.copy(tmp_path / "copy")
    wait_for_index(server)
    caller.delete_user("user 0")
    wait_until(lambda: is_whole(server, chroma), "the vectors to leave it")
    chroma.kill()
    caller.delete_user("user 1")
    chroma.start()
    wait_until(lambda: has_followed(server) and is_whole(server, chroma), "more vectors to leave it")
    assert len(stamps(server)) == 50
    chroma.replace(copy)  # which has them still
    wait_until(lambda: has_followed(server) and is_whole(server, chroma), "them to leave it again")


def test_what_is_not_its_own_on_a_shared_server_stays(start: Start, chroma: ChromaRun, tmp_path: Path) -> None:
    others = ("notes", "reflexio", "reflexio-notes", "account-1-model-1-1", "reflexio-0123456789abcdef-1-account-1")
    for name in others:
        chroma.make(name, [1.0, 2.0])
    first, caller = filled(start, chroma, tmp_path / "first", 30)
    first.stop()
    copy_store(tmp_path / "first", tmp_path / "second")  # a copy is another store
    first = start(tmp_path / "first", chroma_url=chroma.url)
    wait_for_index(first)
    before = set(live_names(first, chroma))
    second = start(tmp_path / "second", chroma_url=chroma.url)
    publish(back(second, caller), texts(30, seed=2))
    wait_for_index(second)
    publish(back(first, caller), texts(10, seed=3))
    wait_for_index(first)
    assert set(live_names(first, chroma)) == before
    assert not before & set(live_names(second, chroma))
    assert is_whole(first, chroma)
    assert is_whole(second, chroma)
    index_command(first, "rebuild")
    change(first.data_dir, "DELETE FROM collections")
    first.stop()
    first = start(tmp_path / "first", chroma_url=chroma.url)  # which begins anew
    wait_for_index(first)
    assert len([name for name in chroma.collections() if name not in others]) == 2
    assert all(chroma.ids(name) == {1} for name in others)
    assert is_whole(second, chroma)


def test_tenant_and_database_are_made_also_after_it_was_emptied(start: Start, chroma: ChromaRun, quick: None) -> None:
    server = start(chroma_url=chroma.url, chroma_tenant="people", chroma_database="their-words")
    caller = server.new_caller()
    path = "/api/v2/tenants/people/databases/their-words/collections"
    for _ in range(2):
        publish(caller, texts(20))
        wait_until(lambda: has_followed(server) and len(chroma.collections(path)) == 1, "the index")
        assert chroma.collections() == {}
        chroma.replace(None)
    wait_until(lambda: has_followed(server) and len(chroma.collections(path)) == 1, "the index")


def test_an_error_of_the_database_is_none_of_the_index(
    start: Start, chroma: ChromaRun, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    server, caller = filled(start, chroma, count=30)
    before = live_names(server, chroma)
    failed = [0]

    def failing(*_: Any) -> Any:
        failed[0] += 1
        raise OperationalError("SELECT", {}, sqlite3.OperationalError("disk I/O error"))

    with monkeypatch.context() as patched:
        patched.setattr(IndexTruth, "outlines", failing)
        wait_until(lambda: failed[0] >= 2, "the look at it")
        assert caller.search(query="boat").hits
        assert server.app.follower.is_open
        chroma.kill()
        caller.search(query="boat")
        chroma.start()
        count = failed[0]
        wait_until(lambda: failed[0] > count, "another try")
    wait_for_index(server)
    assert live_names(server, chroma) == before
