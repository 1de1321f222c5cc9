"""What Chroma writes of the process's memory does not stay on disk, and what it needs does."""

import random
from pathlib import Path

import pytest

from reflexio_server.index.chroma import ChromaIndex
from tests.server.index.filling import DIMENSIONS, fill
from tests.wire import seeded

PLANTED = random.Random(0).randbytes(400)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "chroma" / "1"


def unread(folder: Path) -> list[Path]:
    """The files that Chroma makes as large as 100 elements need, and fills later."""
    return sorted(path for path in folder.rglob("*.bin") if path.name in ("data_level0.bin", "length.bin"))


def contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in unread(folder))


def plant(folder: Path) -> None:
    for path in unread(folder):
        path.write_bytes(PLANTED)


def test_a_new_collection_leaves_nothing_of_the_memory(folder: Path) -> None:
    index = ChromaIndex(folder)
    fill(index, "first", range(1, 6))
    assert len(unread(folder)) == 2
    assert contents(folder) == b""
    fill(index, "second", range(6, 11))
    assert len(unread(folder)) == 4
    assert contents(folder) == b""
    index.close()


@pytest.mark.parametrize("first", ["query", "stamps", "delete", "upsert"])
def test_nor_does_one_that_is_opened_again(folder: Path, first: str) -> None:
    index = ChromaIndex(folder)
    matrix = fill(index, "few", range(1, 6))
    index.close()
    copy = folder.with_name("2")  # chromadb keeps a folder's client
    folder.rename(copy)
    index = ChromaIndex(copy)
    if first == "query":
        assert index.query("few", matrix[2], 1)[0] == [3]
    elif first == "stamps":
        assert index.stamps("few").tolist() == [1, 2, 3, 4, 5]
    elif first == "delete":
        index.delete("few", [5])
    else:
        fill(index, "few", range(6, 11))
    assert len(unread(copy)) == 2
    assert contents(copy) == b""
    index.close()


def test_what_a_kill_left_goes_when_the_folder_is_opened(folder: Path) -> None:
    index = ChromaIndex(folder)
    fill(index, "few", range(1, 6))
    index.close()
    plant(folder)
    copy = folder.with_name("2")
    folder.rename(copy)
    index = ChromaIndex(copy)
    assert contents(copy) == b""
    index.close()


def test_what_chroma_began_anew_on_its_own_goes_when_asked(folder: Path) -> None:
    index = ChromaIndex(folder)
    matrix = fill(index, "few", range(1, 6))
    plant(folder)
    index.empty_unread_files()
    assert contents(folder) == b""
    assert index.query("few", matrix[2], 1)[0] == [3]
    index.close()


def test_what_is_written_later_stays(folder: Path) -> None:
    """Some 1,000 elements in, Chroma writes all of them where the files were emptied."""
    source = seeded()
    index = ChromaIndex(folder)
    matrix = fill(index, "many", range(1, 1201))
    fill(index, "few", range(1, 6))
    before = contents(folder)
    assert len(before) > 1000 * DIMENSIONS * 4
    index.empty_unread_files()
    assert contents(folder) == before
    index.close()
    copy = folder.with_name("2")
    folder.rename(copy)
    index = ChromaIndex(copy)
    assert index.stamps("many").tolist() == list(range(1, 1201))
    for place in source.sample(range(1200), 50):
        stamps, cosines = index.query("many", matrix[place], 3)
        assert stamps[0] == place + 1
        assert cosines[0] == pytest.approx(1, abs=1e-5)
    index.close()


def test_a_damaged_header_is_left_to_the_check(folder: Path) -> None:
    index = ChromaIndex(folder)
    fill(index, "few", range(1, 6))
    index.close()
    (header,) = folder.rglob("header.bin")
    for damaged in (b"", b"short", bytes(100), b"\xff" * 100):
        header.write_bytes(damaged)
        plant(folder)
        index.empty_unread_files()
        assert contents(folder) == PLANTED * 2
