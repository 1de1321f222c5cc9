"""B5: an index that failed is closed: files and memory do not grow with each try to open one."""

import os
import time
from pathlib import Path

import chromadb_rust_bindings as bindings  # type: ignore[import-untyped]
import numpy as np
import pytest

from reflexio_server.index import chroma_folder
from reflexio_server.index.chroma import ChromaIndex
from reflexio_server.index.chroma_process import ChromaProcess
from tests.cases.index_server import PanicException, fail_times, found, quick_server
from tests.state import wait_for_index
from tests.wire import wait_until

pytestmark = pytest.mark.usefixtures("every_account")

TRIES = 30


def files() -> int:
    return len(os.listdir("/proc/self/fd"))


def settled_files() -> int:
    """Chroma closes its own database a moment after it was told to."""
    least = files()
    for _ in range(20):
        time.sleep(0.05)
        least = min(least, files())
    return least


def fill(folder: Path) -> ChromaIndex:
    index = ChromaIndex(folder)
    matrix = np.random.default_rng(1).normal(size=(20, 8)).astype(np.float32)
    index.upsert("collection-1", list(range(20)), [1] * 20, matrix)
    return index


@pytest.mark.parametrize("damage", [b"", b"no database at all" * 1000])
def test_opening_a_damaged_folder_many_times_leaves_nothing_open(tmp_path: Path, damage: bytes) -> None:
    fill(tmp_path / "1").close()
    (tmp_path / "1" / "chroma.sqlite3").write_bytes(damage)
    before = settled_files()
    for _ in range(TRIES):
        try:
            index = ChromaIndex(tmp_path / "1")
        except Exception:
            continue
        try:
            index.stamps("collection-1")
        except Exception:
            pass
        finally:
            index.close()
    assert settled_files() < before + TRIES


def test_a_panic_while_it_opens_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "1").close()
    before = settled_files()
    failed: list[int] = []
    panic = PanicException("too many open files")
    with monkeypatch.context() as patched:
        patched.setattr(bindings, "Bindings", fail_times(bindings.Bindings, panic, TRIES, failed))
        for _ in range(TRIES):
            with pytest.raises(PanicException):
                ChromaIndex(tmp_path / "1")
    assert settled_files() < before + TRIES
    index = ChromaIndex(tmp_path / "1")
    assert index.stamps("collection-1").tolist() == list(range(20)), "the folder is as it was"
    index.close()


def test_a_server_whose_index_fails_again_and_again_keeps_one_open(
    tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reflexio_server.index.chroma_folder.ChromaFolders.longest_pause", 0.05)
    with quick_server(tmp_path / "data", model_dir, monkeypatch) as server:
        caller = server.new_caller()
        caller.publish("u", "a violin", "a boat")
        wait_for_index(server)
        before = settled_files()
        failed: list[int] = []
        panic = PanicException("no")
        monkeypatch.setattr(ChromaProcess, "upsert", fail_times(ChromaProcess.upsert, panic, TRIES, failed))
        caller.publish("u", "a trumpet")
        wait_until(lambda: len(failed) == TRIES, "the failures")
        wait_for_index(server)
        assert set(found(caller, "trumpet")) == {"a violin", "a boat", "a trumpet"}
        assert settled_files() < before + TRIES


def test_a_closed_folder_can_be_opened_by_another_at_once(tmp_path: Path) -> None:
    first = fill(tmp_path / "1")
    first.close()
    second = ChromaIndex(tmp_path / "1")
    first.close()
    assert second.stamps("collection-1").tolist() == list(range(20)), "closing twice closes nobody else's"
    second.close()
    assert chroma_folder.newest_folder(tmp_path) == tmp_path / "1"
