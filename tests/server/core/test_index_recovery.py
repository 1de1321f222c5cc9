"""The Chroma index is lost, late, damaged or of another model: the server answers all the same, and builds it anew."""

import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.core import following
from reflexio_server.core.accounts import new_account
from reflexio_server.core.embedding import BATCH
from reflexio_server.core.index_jobs import expected_of
from reflexio_server.errors import TooBusy
from reflexio_server.index import chroma, chroma_check, chroma_folder
from reflexio_server.index.chroma import ChromaIndex
from reflexio_server.index.embedder import Embedder, load_embedder
from reflexio_server.storage import collections, vectors, waiting
from reflexio_server.storage.accounts import add_account
from reflexio_server.storage.database import DATABASE_FILE, Database
from tests.support import PASSWORD, Caller, LocalServer, ServerProcess, create_account, log_in
from tests.wire import wait_until
from tests.words import Words, use

SEED = 20261123
THINGS = (
    "boat river ship lake dog cat horse bread cheese wine apple car train plane city house garden music guitar".split()
)
QUESTIONS = ("sailing on water", "pets", "playing an instrument", "food", "travelling by rail")
LATER = "a violin"  # what a test publishes after it has looked
Hits = list[tuple[str, float]]
Stamp = tuple[int, int, int, int, str]


@pytest.fixture
def embedder(monkeypatch: pytest.MonkeyPatch) -> Words:
    words = Words()
    use(monkeypatch, words)
    return words


@pytest.fixture
def run(model_dir: Path) -> Iterator[Callable[..., LocalServer]]:
    """Start a server in this process; whatever still runs at the end is stopped."""
    started: list[LocalServer] = []

    def start(data_dir: Path, **settings: Any) -> LocalServer:
        started.append(LocalServer(data_dir, model_dir, **settings))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@dataclass
class Asked:
    """What the index was asked while a test ran."""

    queries: int = 0
    upserts: int = 0
    checks: int = 0


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    counted = Asked()
    query, upsert, check = ChromaIndex.query, ChromaIndex.upsert, chroma_check.check

    def count(name: str, function: Any) -> Any:
        def counting(*given: Any, **named: Any) -> Any:
            setattr(counted, name, getattr(counted, name) + 1)
            return function(*given, **named)

        return counting

    monkeypatch.setattr(ChromaIndex, "query", count("queries", query))
    monkeypatch.setattr(ChromaIndex, "upsert", count("upserts", upsert))
    monkeypatch.setattr(chroma_folder, "check", count("checks", check))
    return counted


@contextmanager
def serving(data_dir: Path, model_dir: Path, *arguments: str) -> Iterator[ServerProcess]:
    """A server in a process of its own, which does not outlive the block."""
    server = ServerProcess(data_dir, model_dir, *arguments)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()


def new_caller(server: LocalServer) -> Caller:
    """An account, without the second that the command line takes."""
    email = f"{os.urandom(4).hex()}@example.com"
    database = Database(server.data_dir, owner=False)
    with database.write() as conn:
        add_account(conn, *new_account(email, PASSWORD), 1)
    database.close()
    return log_in(server.address, email)


def back(server: LocalServer | ServerProcess, caller: Caller) -> Caller:
    """The same caller at a server that was started again."""
    return Caller(server.address, caller.email, caller.api_key)


def texts(count: int, seed: int = SEED) -> list[str]:
    chosen = random.Random(seed)
    return [f"{chosen.choice(THINGS)} {chosen.choice(THINGS)} {number}" for number in range(count)]


def publish(caller: Caller, contents: list[str]) -> None:
    for start in range(0, len(contents), 100):
        caller.publish(f"user {start // 100 % 3}", *contents[start : start + 100])


def searches(caller: Caller) -> list[Hits]:
    """The top 10 of some searches of the whole account, leaving out LATER."""
    found: list[Hits] = []
    for question in QUESTIONS:
        hits = [hit for hit in caller.search(query=question, top_k=11).hits if hit.interaction.content != LATER]
        found.append([(hit.interaction.interaction_id, hit.score) for hit in hits[:10]])
        assert len(found[-1]) == 10
    return found


def same(found: list[Hits], expected: list[Hits]) -> bool:
    """Whether these are the same hits: Chroma's arithmetic and ours differ in the sixth digit, so ties may swap."""
    for hits, wanted in zip(found, expected, strict=True):
        if not np.allclose([score for _, score in hits], [score for _, score in wanted], atol=5e-5):
            return False
        last = wanted[-1][1] + 1e-4
        if not {name for name, score in wanted if score > last} <= {name for name, _ in hits}:
            return False
    return True


def unindexed(caller: Caller) -> int:
    return caller.search(query="anything").unindexed_count


def stamps(data_dir: Path) -> list[Stamp]:
    """Every vector with its stamp: a vector that was made again has another."""
    with sqlite3.connect(data_dir / DATABASE_FILE) as conn:
        rows = conn.execute("SELECT id, interaction_ref, model, chunk, vector FROM vectors ORDER BY id").fetchall()
    conn.close()
    return [(*row[:4], hashlib.sha256(row[4]).hexdigest()) for row in rows]


def folders(data_dir: Path) -> list[str]:
    return sorted(path.name for path in (data_dir / chroma_folder.CHROMA_FOLDER).iterdir() if path.is_dir())


def has_followed(server: LocalServer) -> bool:
    """Whether the index is open, no row waits for its vector, and no vector for the index."""
    if server.app.follower._index is None:  # looked at first: what it holds may be forgotten before it is opened
        return False
    with server.app.database.read() as conn:
        return not waiting.first(conn) and not collections.lagging_accounts(conn, server.live_model())


def wait_for_index(server: LocalServer) -> None:
    wait_until(lambda: has_followed(server), "the index to be complete")
    index, model = server.app.follower._index, server.live_model()
    assert index
    with server.app.database.read() as conn:
        live = collections.live_collections(conn, model)
        for collection in live:
            wanted = vectors.applied_stamps(conn, collection.account_id, model, collection.applied)
            assert index.stamps(collection.name) == wanted.tolist()


def wait_for_vectors(data_dir: Path, count: int) -> None:
    """Wait until so many vectors are stored, seen from outside of the server."""

    def stored() -> bool:
        with sqlite3.connect(data_dir / DATABASE_FILE) as conn:
            (found,) = conn.execute("SELECT count(*) FROM vectors").fetchone()
        conn.close()
        return int(found) >= count

    wait_until(stored, f"{count} vectors")


def filled(run: Callable[..., LocalServer], data_dir: Path, count: int = 250) -> tuple[LocalServer, Caller]:
    """A server with an index that holds everything."""
    server = run(data_dir)
    caller = new_caller(server)
    publish(caller, texts(count))
    wait_for_index(server)
    return server, caller


def stopped_store(run: Callable[..., LocalServer], data_dir: Path, count: int = 250) -> tuple[Caller, list[Hits]]:
    """A data directory that was closed in order, and what its searches find."""
    server, caller = filled(run, data_dir, count)
    expected = searches(caller)
    server.stop()
    return caller, expected


# ---- The index is late or gone


def test_an_index_that_is_behind_after_a_kill_catches_up(
    tmp_path: Path, model_dir: Path, run: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
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
    server = run(tmp_path)
    caller = back(server, caller)
    wait_for_index(server)
    assert unindexed(caller) == 0
    after = stamps(tmp_path)
    assert after[: len(made)] == made, "no vector was made again"
    assert len(after) == 600
    found = caller.search(query="playing an instrument").hits
    assert all({"music", "guitar"} & set(hit.interaction.content.split()) for hit in found)


def test_vectors_that_the_index_never_got_are_found_and_applied(
    tmp_path: Path, run: Callable[..., LocalServer], embedder: Words, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(following.Follower, "start", lambda _: None)
        server = run(tmp_path)
        caller = new_caller(server)
        publish(caller, texts(250))
        wait_until(lambda: unindexed(caller) == 0, "all vectors")
        expected = searches(caller)
        server.stop()
    assert (asked.queries, asked.upserts) == (0, 0)
    made = stamps(tmp_path)
    embedder.embedded.clear()

    server = run(tmp_path)
    wait_for_index(server)
    assert asked.upserts == 3
    assert same(searches(back(server, caller)), expected)
    assert asked.queries == len(QUESTIONS)
    assert stamps(tmp_path) == made
    assert embedder.embedded == []


def test_what_the_index_has_but_did_not_note_is_applied_again(
    tmp_path: Path, run: Callable[..., LocalServer], embedder: Words, asked: Asked
) -> None:
    """As after a kill between the index's write and the note of it in SQL."""
    caller, expected = stopped_store(run, tmp_path)
    with sqlite3.connect(tmp_path / DATABASE_FILE) as conn:
        conn.execute("UPDATE collections SET applied = applied - 80")
    conn.close()
    server = run(tmp_path)
    wait_for_index(server)
    assert same(searches(back(server, caller)), expected)
    assert (asked.checks, folders(tmp_path)) == (1, ["1"])


@pytest.mark.parametrize("lost", ["chroma", "chroma/1"])
def test_a_deleted_folder_is_built_anew(
    tmp_path: Path, run: Callable[..., LocalServer], embedder: Words, lost: str
) -> None:
    caller, expected = stopped_store(run, tmp_path)
    made = stamps(tmp_path)
    embedder.embedded.clear()
    shutil.rmtree(tmp_path / lost)
    server = run(tmp_path)
    caller = back(server, caller)
    assert same(searches(caller), expected), "at once, from SQL"
    wait_for_index(server)
    assert same(searches(caller), expected)
    assert stamps(tmp_path) == made
    assert embedder.embedded == []


def test_a_folder_deleted_while_it_is_in_use_is_built_anew(
    tmp_path: Path, run: Callable[..., LocalServer], embedder: Words
) -> None:
    server, caller = filled(run, tmp_path)
    expected = searches(caller)
    shutil.rmtree(tmp_path / "chroma")
    assert same(searches(caller), expected)
    publish(caller, [LATER])
    wait_until(lambda: any((tmp_path / "chroma").glob("*/chroma.sqlite3")), "a new folder")
    wait_for_index(server)
    assert caller.search(query="violin").hits[0].interaction.content == LATER
    assert same(searches(caller), expected)


# ---- The index is damaged


@dataclass
class Base:
    """A store as a stopped and as a killed server left it, and what its searches found."""

    folders: dict[str, Path]
    caller: Caller
    expected: list[Hits]
    stamps: list[Stamp]
    embedder: Embedder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Base:
    """1,100 rows: from 1,000 on Chroma writes the graph to its own files."""
    root = tmp_path_factory.mktemp("base")
    data_dir = root / "data"
    email = create_account(data_dir)
    with serving(data_dir, model_dir, "--embedder", "minilm-int8") as server:
        caller = log_in(server.address, email)
        publish(caller, texts(1100))
        wait_until(lambda: unindexed(caller) == 0, "all vectors")
        expected = searches(caller)
        with sqlite3.connect(data_dir / DATABASE_FILE) as conn:
            query = "SELECT (SELECT max(applied) FROM collections) = (SELECT max(id) FROM vectors)"
            wait_until(lambda: conn.execute(query).fetchone()[0], "the index")
        conn.close()
        assert same(searches(caller), expected)
        server.kill()
    shutil.copytree(data_dir, root / "killed")
    with serving(data_dir, model_dir, "--embedder", "minilm-int8") as server:
        lines = server.lines
        wait_until(lambda: any("the Chroma index is" in line for line in lines), "the check")
        assert any("the Chroma index is in order" in line for line in lines), lines
        assert server.terminate() == 0
    shutil.copytree(data_dir, root / "stopped")
    assert (root / "stopped/chroma/1.closed").exists()
    embedder = load_embedder("minilm-int8", model_dir)
    kept = {state: root / state for state in ("killed", "stopped")}
    return Base(kept, caller, expected, stamps(data_dir), embedder)


FILES = ("chroma.sqlite3", "data_level0.bin", "header.bin", "index_metadata.pickle", "length.bin", "link_lists.bin")
# Overwritten, it does no harm (tried: all 1,100 vectors are found, recall is 1), so it may stay.
HARMLESS = {("length.bin", "noise")}


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "deleted":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(random.Random(SEED).randbytes(len(content)))


def test_the_files_that_are_damaged_are_all_there_are(base: Base) -> None:
    for folder in base.folders.values():
        found = [path.name for path in (folder / "chroma/1").rglob("*") if path.is_file()]
        assert sorted(found) == sorted(FILES)


HOW = ("deleted", "cut", "noise")
# Whatever was touched after an orderly end is checked as after a kill, so each file once is enough there.
CASES = [("killed", file, how) for file in FILES for how in HOW]
CASES += [("stopped", file, HOW[number % 3]) for number, file in enumerate(FILES)]


@pytest.mark.parametrize(("state", "file", "how"), CASES)
def test_a_damaged_file_is_noticed_and_the_index_built_anew(
    tmp_path: Path,
    run: Callable[..., LocalServer],
    base: Base,
    asked: Asked,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    file: str,
    how: str,
) -> None:
    data_dir = tmp_path / "data"
    shutil.copytree(base.folders[state], data_dir)
    (path,) = (data_dir / "chroma/1").rglob(file)
    damage(path, how)
    use(monkeypatch, base.embedder)
    server = run(data_dir)
    caller = back(server, base.caller)
    assert same(searches(caller), base.expected), "it serves at once"
    assert asked.queries == 0, "nobody asks the damaged index"
    wait_for_index(server)
    assert same(searches(caller), base.expected)
    assert asked.queries == len(QUESTIONS), "the index answered"
    assert stamps(data_dir) == base.stamps, "nothing was embedded again"
    if (file, how) not in HARMLESS:
        assert folders(data_dir) == ["1.damaged", "2"]
    assert asked.checks == 1


def test_not_one_page_of_zeros_among_the_vectors_goes_unnoticed(tmp_path: Path, base: Base) -> None:
    """As a disk may return it; each page holds parts of two or three vectors."""
    seed = int(os.environ.get("REFLEXIO_TEST_SEED") or random.SystemRandom().getrandbits(32))
    print(f"REFLEXIO_TEST_SEED={seed}")
    data_dir = tmp_path / "data"
    shutil.copytree(base.folders["stopped"], data_dir)
    database = Database(data_dir, owner=False)
    with database.read() as conn:
        model = conn.exec_driver_sql("SELECT model FROM collections").scalar_one()
        (live,) = collections.live_collections(conn, model)
        expected = [expected_of(conn, live)]
    database.close()
    assert chroma_check.check(data_dir / "chroma/1", expected, lambda: False) is None
    (path,) = (data_dir / "chroma/1").rglob("data_level0.bin")
    content = path.read_bytes()
    pages = len(content) // 4096
    for page in random.Random(seed).sample(range(pages), 6):
        damaged = content[: page * 4096] + bytes(4096) + content[(page + 1) * 4096 :]
        path.write_bytes(damaged)
        assert chroma_check.check(data_dir / "chroma/1", expected, lambda: False), page


def test_damage_where_nothing_of_use_is(
    tmp_path: Path, run: Callable[..., LocalServer], embedder: Words, asked: Asked
) -> None:
    caller, expected = stopped_store(run, tmp_path)
    with sqlite3.connect(tmp_path / DATABASE_FILE) as conn:
        conn.execute("DELETE FROM collections")
    conn.close()
    damage(tmp_path / "chroma/1/chroma.sqlite3", "noise")
    server = run(tmp_path)
    wait_for_index(server)
    asked.queries = 0
    assert same(searches(back(server, caller)), expected)
    assert asked.queries == len(QUESTIONS)


def test_only_the_latest_damaged_folder_is_kept(
    tmp_path: Path, run: Callable[..., LocalServer], embedder: Words
) -> None:
    stopped_store(run, tmp_path)
    for kept in (["1.damaged", "2"], ["2.damaged", "3"]):
        damage(chroma_folder.newest_folder(tmp_path / "chroma") / "chroma.sqlite3", "cut")  # type: ignore[operator]
        server = run(tmp_path)
        wait_for_index(server)
        server.stop()
        assert folders(tmp_path) == kept


def test_a_damaged_index_stands_in_nobodys_way(
    tmp_path: Path, run: Callable[..., LocalServer], embedder: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the check takes its time: publish, get and search go on, and the server can be stopped."""
    caller, expected = stopped_store(run, tmp_path)
    damage(tmp_path / "chroma/1.closed", "deleted")
    children: list[subprocess.Popen[str]] = []
    popen = subprocess.Popen

    def slow(_command: list[str], **named: Any) -> subprocess.Popen[str]:
        children.append(popen(["sleep", "100"], **named))
        return children[-1]

    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", slow)
        server = run(tmp_path)
        caller = back(server, caller)
        wait_until(lambda: children, "the check")
        assert same(searches(caller), expected)
        caller.publish("user 0", LATER)
        wait_until(lambda: unindexed(caller) == 0, "the new vector")
        assert caller.search(query="violin").hits[0].interaction.content == LATER
        assert children[0].poll() is None
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 20
        assert children[0].poll() == -signal.SIGKILL
    server = run(tmp_path)
    wait_for_index(server)
    assert folders(tmp_path) == ["1"]
    assert back(server, caller).search(query="violin").hits[0].interaction.content == LATER


# ---- The index fails in use


@pytest.mark.parametrize("method", ["query", "upsert"])
def test_an_index_that_fails_in_use_is_built_anew(
    tmp_path: Path,
    run: Callable[..., LocalServer],
    embedder: Words,
    asked: Asked,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    server, caller = filled(run, tmp_path)
    expected = searches(caller)
    made = stamps(tmp_path)
    failing = server.app.follower._index
    failures: list[str] = []
    assert failing

    def fail(*_: object) -> None:
        failures.append(method)
        raise RuntimeError("the index is broken")

    monkeypatch.setattr(failing, method, fail)
    asked.queries = 0
    if method == "upsert":
        publish(caller, [LATER])
        wait_until(lambda: failures, "the failure")
    assert same(searches(caller), expected), "the search that meets the failure answers too"
    wait_until(lambda: server.app.follower._index not in (None, failing), "another index")
    wait_for_index(server)
    assert failures == [method]
    assert folders(tmp_path) == ["1.damaged", "2"]
    asked.queries = 0
    assert same(searches(caller), expected)
    assert asked.queries == len(QUESTIONS)
    assert stamps(tmp_path)[: len(made)] == made


def test_a_search_that_saw_the_old_index_does_not_ask_the_new_one(
    tmp_path: Path, run: Callable[..., LocalServer], embedder: Words
) -> None:
    """Its snapshot says how far the old one was; the new one may hold nothing yet."""
    server, caller = filled(run, tmp_path)
    with server.app.database.read() as conn:
        (old,) = collections.live_collections(conn, server.live_model())
    vector = embedder.embed_query("boat")
    found = server.app.follower.query(old, vector, 10, None)
    assert found
    assert len(found[0]) == 10
    shutil.rmtree(tmp_path / "chroma/1")
    publish(caller, [LATER])
    wait_until(lambda: folders(tmp_path) and folders(tmp_path)[-1] != "1", "another index")
    wait_for_index(server)
    assert server.app.follower.query(old, vector, 10, None) is None
    with server.app.database.read() as conn:
        (new,) = collections.live_collections(conn, server.live_model())
    assert new.folder > old.folder
    assert server.app.follower.query(new, vector, 10, None)


def test_an_index_that_always_fails_is_not_built_over_and_over(
    tmp_path: Path, run: Callable[..., LocalServer], embedder: Words, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_FIRST_PAUSE", 0.01)
    _, caller = filled(run, tmp_path)
    expected = searches(caller)
    opened: list[float] = []
    init = ChromaIndex.__init__

    def note_time(index: ChromaIndex, folder: Path) -> None:
        opened.append(time.monotonic())
        init(index, folder)

    def fail(*_: object) -> None:
        raise RuntimeError("the index is broken")

    monkeypatch.setattr(ChromaIndex, "__init__", note_time)
    monkeypatch.setattr(ChromaIndex, "query", fail)

    def ask() -> bool:
        assert same(searches(caller), expected)
        return len(opened) >= 7

    wait_until(ask, "the seventh try")
    pauses = [later - earlier for earlier, later in itertools.pairwise(opened)]
    assert pauses[-1] >= 0.01 * 2**6, "each pause is twice the one before"


def test_an_index_that_cannot_be_opened_keeps_nothing_down(
    tmp_path: Path, run: Callable[..., LocalServer], embedder: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_FIRST_PAUSE", 0.01)
    caller, expected = stopped_store(run, tmp_path)
    opened: list[Path] = []

    def fail(_index: ChromaIndex, folder: Path) -> None:
        opened.append(folder)
        raise RuntimeError("the index is broken")

    with monkeypatch.context() as patched:
        patched.setattr(ChromaIndex, "__init__", fail)
        server = run(tmp_path)
        caller = back(server, caller)
        wait_until(lambda: len(opened) >= 3, "the third try")
        assert same(searches(caller), expected)
        caller.publish("user 0", LATER)
        wait_until(lambda: unindexed(caller) == 0, "the new vector")
        assert caller.search(query="violin").hits[0].interaction.content == LATER
        assert caller.get(user_id="user 0", page_size=1).interactions[0].content == LATER
    wait_for_index(server)  # it mends itself when the fault is gone
    assert same(searches(caller), expected)


def test_an_index_whose_check_always_crashes_keeps_nothing_down(
    tmp_path: Path, run: Callable[..., LocalServer], embedder: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child dies by SIGSEGV, as Chroma's native code does on some damaged folders."""
    caller, expected = stopped_store(run, tmp_path)
    children: list[subprocess.Popen[str]] = []
    popen = subprocess.Popen

    def crash(_command: list[str], **named: Any) -> subprocess.Popen[str]:
        children.append(popen([sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"], **named))
        return children[-1]

    monkeypatch.setattr(subprocess, "Popen", crash)
    for start in range(3):
        damage(tmp_path / f"chroma/{start + 1}.closed", "deleted")
        server = run(tmp_path)
        caller = back(server, caller)
        assert same(searches(caller), expected)
        wait_for_index(server)
        assert same(searches(caller), expected)
        server.stop()
    assert [child.returncode for child in children] == [-signal.SIGSEGV] * 3


# ---- The note of an orderly end


def test_after_an_orderly_end_nothing_is_checked(
    tmp_path: Path, run: Callable[..., LocalServer], embedder: Words, asked: Asked
) -> None:
    caller, expected = stopped_store(run, tmp_path)
    assert (tmp_path / "chroma/1.closed").exists()
    upserts = asked.upserts
    for _ in range(2):
        server = run(tmp_path)
        wait_for_index(server)
        assert not (tmp_path / "chroma/1.closed").exists(), "an index in use is not closed"
        assert same(searches(back(server, caller)), expected)
        server.stop()
    assert (asked.checks, asked.upserts, folders(tmp_path)) == (0, upserts, ["1"])


@pytest.mark.parametrize("note", ["deleted", "cut"])
def test_without_a_good_note_a_good_index_is_checked_and_kept(
    tmp_path: Path, run: Callable[..., LocalServer], embedder: Words, asked: Asked, note: str
) -> None:
    caller, expected = stopped_store(run, tmp_path)
    damage(tmp_path / "chroma/1.closed", note)
    upserts = asked.upserts
    server = run(tmp_path)
    wait_for_index(server)
    assert (asked.checks, asked.upserts, folders(tmp_path)) == (1, upserts, ["1"])
    assert same(searches(back(server, caller)), expected)


def test_an_older_folder_in_the_place_of_the_live_one_is_noticed(
    tmp_path: Path, run: Callable[..., LocalServer], embedder: Words
) -> None:
    """With its note, which is right for its files: somebody put a copy of the folder back."""
    data_dir = tmp_path / "data"
    stopped_store(run, data_dir)
    shutil.copytree(data_dir / "chroma", tmp_path / "older")
    server = run(data_dir)
    caller = new_caller(server)
    publish(caller, texts(150, SEED + 1))
    wait_for_index(server)
    expected = searches(caller)
    server.stop()
    shutil.rmtree(data_dir / "chroma")
    shutil.copytree(tmp_path / "older", data_dir / "chroma")
    server = run(data_dir)
    wait_for_index(server)
    assert same(searches(back(server, caller)), expected)
    assert folders(data_dir) == ["1.damaged", "2"]


def test_a_database_put_back_from_a_backup_does_not_keep_the_newer_index(
    tmp_path: Path, run: Callable[..., LocalServer], embedder: Words
) -> None:
    """What was stored after the backup would crowd out what is there, and its stamps are given again."""
    data_dir = tmp_path / "data"
    caller, expected = stopped_store(run, data_dir)
    shutil.copy(data_dir / DATABASE_FILE, tmp_path / "backup.db")
    server = run(data_dir)
    publish(back(server, caller), [f"boat river {number}" for number in range(250)])
    wait_for_index(server)
    server.stop()
    shutil.copy(tmp_path / "backup.db", data_dir / DATABASE_FILE)
    server = run(data_dir)
    wait_for_index(server)
    assert same(searches(back(server, caller)), expected)


def test_collections_that_nobody_needs_are_dropped(
    tmp_path: Path, run: Callable[..., LocalServer], embedder: Words
) -> None:
    caller, expected = stopped_store(run, tmp_path)
    index = ChromaIndex(tmp_path / "chroma/1")
    matrix = np.eye(3, 32, dtype=np.float32)
    for name in ("account-1-model-1-7", "account-9-model-1-1", "account-1-model-8-1"):
        index.upsert(name, [1, 2, 3], [1, 1, 1], matrix)
    index.close()
    server = run(tmp_path)
    wait_for_index(server)
    assert names(server) == ["account-1-model-1-1"]
    assert same(searches(back(server, caller)), expected)


def names(server: LocalServer) -> list[str]:
    """The collections there are in Chroma."""
    index = server.app.follower._index
    assert index
    return sorted(index.names())


# ---- Another model, without the old one at hand


def test_a_change_of_model_that_is_taken_back_half_way_loses_nothing(
    tmp_path: Path, run: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = Words("one"), Words("two", 48)
    use(monkeypatch, one)
    caller, expected = stopped_store(run, tmp_path, 3 * BATCH)

    allowed = threading.Semaphore(BATCH)
    embed = two.embed
    stopping = threading.Event()

    def gated(text: str) -> NDArray[np.float32]:
        while not allowed.acquire(timeout=0.05):
            if stopping.is_set():
                break
        return embed(text)

    monkeypatch.setattr(two, "embed", gated)
    use(monkeypatch, two)
    server = run(tmp_path)
    wait_until(lambda: unindexed(back(server, caller)) == 2 * BATCH, "a part of the rows")
    stopping.set()
    server.stop()

    use(monkeypatch, one)
    server = run(tmp_path)
    wait_for_index(server)
    again = back(server, caller)
    assert unindexed(again) == 0
    assert same(searches(again), expected)
    refs = {stamp[1] for stamp in stamps(tmp_path)}
    assert len(refs) == len(stamps(tmp_path)) == 3 * BATCH


def test_rows_that_wait_for_another_model_are_counted_from_the_first_search_on(
    tmp_path: Path, run: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Words("one"))
    caller, _ = stopped_store(run, tmp_path, 2500)
    two = Words("two")
    embed = two.embed

    def slowly(text: str) -> NDArray[np.float32]:
        time.sleep(0.01)
        return embed(text)

    monkeypatch.setattr(two, "embed", slowly)
    use(monkeypatch, two)
    server = run(tmp_path)
    assert unindexed(back(server, caller)) > 2500 - 2 * BATCH


# ---- The indexer


def test_a_text_that_cannot_be_embedded_does_not_stop_the_others(
    tmp_path: Path, run: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Words(refused="unspeakable"))
    server = run(tmp_path)
    caller = new_caller(server)
    contents = texts(30)
    contents[7] = "an unspeakable violin"
    waited = caller.publish("user", *contents, wait_until=pb.WAIT_UNTIL_SEARCHABLE)
    assert waited.searchable
    publish(caller, ["another unspeakable violin", "a plain trumpet"])
    wait_for_index(server)
    assert unindexed(caller) == 0
    found = {hit.interaction.content: hit for hit in caller.search(query="violin").hits}
    for content in ("an unspeakable violin", "another unspeakable violin"):
        assert found[content].semantic == 0
        assert found[content].lexical > 0
    assert caller.search(query="trumpet").hits[0].semantic > 0
    assert len(stamps(tmp_path)) == 30


def test_a_text_that_could_not_be_embedded_at_first_is_tried_again(
    tmp_path: Path, run: Callable[..., LocalServer], embedder: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []
    embed = embedder.embed

    def fail_twice(text: str) -> NDArray[np.float32]:
        tries.append(text)
        if len(tries) < 3:
            raise RuntimeError("not now")
        return embed(text)

    monkeypatch.setattr(embedder, "embed", fail_twice)
    server = run(tmp_path)
    caller = new_caller(server)
    assert caller.publish("user", "a violin", wait_until=pb.WAIT_UNTIL_SEARCHABLE).searchable
    assert (len(tries), server.app.vector_maker.failed, len(stamps(tmp_path))) == (3, 0, 1)


def test_a_text_that_one_model_cannot_embed_is_tried_by_the_next(
    tmp_path: Path, run: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Words("one", refused="unspeakable"))
    server = run(tmp_path)
    caller = new_caller(server)
    publish(caller, ["an unspeakable violin"])
    wait_for_index(server)
    assert (server.app.vector_maker.failed, stamps(tmp_path)) == (1, [])
    server.stop()
    use(monkeypatch, Words("two"))
    server = run(tmp_path)
    wait_for_index(server)
    assert len(stamps(tmp_path)) == 1


def test_vectors_that_cannot_be_written_now_are_not_made_again(
    tmp_path: Path, run: Callable[..., LocalServer], embedder: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = run(tmp_path)
    caller = new_caller(server)
    submit = server.app.vector_maker._writer.submit
    refused: list[int] = []

    def busy(operation: Any) -> Any:
        if len(refused) < 3:
            refused.append(1)
            raise TooBusy("writes waiting")
        return submit(operation)

    monkeypatch.setattr(server.app.vector_maker._writer, "submit", busy)
    publish(caller, texts(30))
    wait_until(lambda: unindexed(caller) == 0, "the vectors")
    assert len(refused) == 3
    assert sorted(embedder.embedded) == sorted(texts(30)), "each once"
    assert server.app.vector_maker._unwritten == {}


def test_an_indexer_that_is_stopped_just_when_it_woke_does_stop(
    tmp_path: Path, run: Callable[..., LocalServer], embedder: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = run(tmp_path)
    vector_maker = server.app.vector_maker
    clear = vector_maker._wake.clear
    stopper = threading.Thread(target=vector_maker.stop)

    def clear_late() -> None:
        stopper.start()
        wait_until(vector_maker._wake.is_set, "stop to wake it")
        wait_until(lambda: vector_maker._stopping, "stop")
        clear()

    time.sleep(0.2)  # it sleeps
    monkeypatch.setattr(vector_maker._wake, "clear", clear_late)
    vector_maker.wake()
    wait_until(lambda: stopper.ident is not None, "the indexer to wake")
    stopper.join(20)
    assert not stopper.is_alive()


def test_the_indexer_survives_a_database_that_cannot_be_read_for_a_while(
    tmp_path: Path, run: Callable[..., LocalServer], embedder: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = run(tmp_path)
    caller = new_caller(server)
    failures: list[int] = []
    first_waiting = waiting.first

    def fail_sometimes(conn: Any) -> int | None:
        if len(failures) < 3:
            failures.append(1)
            raise OSError("disk I/O error")
        return first_waiting(conn)

    monkeypatch.setattr(waiting, "first", fail_sometimes)
    publish(caller, texts(10))
    wait_until(lambda: unindexed(caller) == 0, "the vectors")
    assert len(failures) == 3


def test_the_note_says_how_far_the_index_is(tmp_path: Path, run: Callable[..., LocalServer], embedder: Words) -> None:
    stopped_store(run, tmp_path, 120)
    note = json.loads((tmp_path / "chroma/1.closed").read_text())
    assert note["applied"] == {"account-1-model-1-1": 120}
    assert chroma.is_as_closed(tmp_path / "chroma/1", {"account-1-model-1-1": 120})
    assert not chroma.is_as_closed(tmp_path / "chroma/1", {"account-1-model-1-1": 121})
