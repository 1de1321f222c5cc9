"""Files of the Chroma index are damaged: it is noticed, and the index built anew while the server answers."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reflexio_server.core.index_truth import expected_of
from reflexio_server.index import chroma_folder
from reflexio_server.index.embedder import Embedder
from reflexio_server.index.loading import load_embedder
from reflexio_server.storage import collections
from reflexio_server.storage.database import Database
from tests.server.core.recovery import (
    LATER,
    QUESTIONS,
    Asked,
    Hits,
    Stamp,
    back,
    damage,
    problem_of,
    publish,
    same,
    searches,
    serving,
    stamps,
    stopped_store,
    texts,
    unindexed,
    wait_for_index,
)
from tests.state import change, copy_store, folders, rows
from tests.support import Caller, LocalServer, create_account, log_in
from tests.wire import wait_until
from tests.words import Words, use

pytestmark = pytest.mark.usefixtures("every_account")


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
        query = "SELECT (SELECT max(applied) FROM collections) = (SELECT max(id) FROM vectors)"
        wait_until(lambda: rows(data_dir, query)[0][0], "the index")
        assert same(searches(caller), expected)
        server.kill()
    copy_store(data_dir, root / "killed")
    with serving(data_dir, model_dir, "--embedder", "minilm-int8") as server:
        lines = server.lines
        wait_until(lambda: any("the Chroma index is" in line for line in lines), "the check")
        assert any("the Chroma index is in order" in line for line in lines), lines
        assert server.terminate() == 0
    copy_store(data_dir, root / "stopped")
    assert (root / "stopped/chroma/1.closed").exists()
    embedder = load_embedder("minilm-int8", model_dir)
    kept = {state: root / state for state in ("killed", "stopped")}
    return Base(kept, caller, expected, stamps(data_dir), embedder)


FILES = ("chroma.sqlite3", "data_level0.bin", "header.bin", "index_metadata.pickle", "length.bin", "link_lists.bin")
# Overwritten, it does no harm (tried: all 1,100 vectors are found, recall is 1), so it may stay.
HARMLESS = {("length.bin", "noise")}


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
    start: Callable[..., LocalServer],
    base: Base,
    asked: Asked,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    file: str,
    how: str,
) -> None:
    data_dir = tmp_path / "data"
    copy_store(base.folders[state], data_dir)
    (path,) = (data_dir / "chroma/1").rglob(file)
    damage(path, how)
    use(monkeypatch, base.embedder)
    server = start(data_dir)
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
    copy_store(base.folders["stopped"], data_dir)
    database = Database(data_dir, owner=False)
    with database.read() as conn:
        model = conn.exec_driver_sql("SELECT model FROM collections").scalar_one()
        (live,) = collections.live_collections(conn, model)
        expected = [expected_of(conn, live)]
    database.close()
    assert problem_of(data_dir / "chroma/1", expected) is None
    (path,) = (data_dir / "chroma/1").rglob("data_level0.bin")
    content = path.read_bytes()
    pages = len(content) // 4096
    for page in random.Random(seed).sample(range(pages), 6):
        damaged = content[: page * 4096] + bytes(4096) + content[(page + 1) * 4096 :]
        path.write_bytes(damaged)
        assert problem_of(data_dir / "chroma/1", expected), page


def test_damage_where_nothing_of_use_is(
    tmp_path: Path, start: Callable[..., LocalServer], embedder: Words, asked: Asked
) -> None:
    caller, expected = stopped_store(start, tmp_path)
    change(tmp_path, "DELETE FROM collections")
    damage(tmp_path / "chroma/1/chroma.sqlite3", "noise")
    server = start(tmp_path)
    wait_for_index(server)
    asked.queries = 0
    assert same(searches(back(server, caller)), expected)
    assert asked.queries == len(QUESTIONS)


def test_only_the_latest_damaged_folder_is_kept(
    tmp_path: Path, start: Callable[..., LocalServer], embedder: Words
) -> None:
    stopped_store(start, tmp_path)
    for kept in (["1.damaged", "2"], ["2.damaged", "3"]):
        damage(chroma_folder.newest_folder(tmp_path / "chroma") / "chroma.sqlite3", "cut")  # type: ignore[operator]
        server = start(tmp_path)
        wait_for_index(server)
        server.stop()
        assert folders(tmp_path) == kept


def test_a_damaged_index_stands_in_nobodys_way(
    tmp_path: Path, start: Callable[..., LocalServer], embedder: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the check takes its time: publish, get and search go on, and the server can be stopped."""
    caller, expected = stopped_store(start, tmp_path)
    damage(tmp_path / "chroma/1.closed", "deleted")
    children: list[subprocess.Popen[str]] = []
    popen = subprocess.Popen

    def slow(_command: list[str], **named: Any) -> subprocess.Popen[str]:
        children.append(popen(["sleep", "100"], **named | {"executable": None}))
        return children[-1]

    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", slow)
        server = start(tmp_path)
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
    server = start(tmp_path)
    wait_for_index(server)
    assert folders(tmp_path) == ["1"]
    assert back(server, caller).search(query="violin").hits[0].interaction.content == LATER
