"""Files of an index that do not fit together are noticed before Chroma opens them, and whole ones are let through."""

import os
import shutil
from pathlib import Path

import pytest

from reflexio_server.index import hnsw_files
from reflexio_server.index.chroma import ChromaIndex
from reflexio_server.index.nearest import BATCH
from tests.server.core.recovery import problem_of
from tests.server.index.filling import fill
from tests.wire import seeded

FILES = ("header.bin", "data_level0.bin", "length.bin", "link_lists.bin")
FIRST, SECOND = range(1, 1101), range(1101, 2301)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An index that was written once, and the same after it was written again."""
    root = tmp_path_factory.mktemp("written")
    index = ChromaIndex(root / "2")
    fill(index, "many", FIRST)
    shutil.copytree(root / "2", root / "1")
    fill(index, "many", SECOND)
    index.close()
    return root / "1", root / "2"


def segment(folder: Path) -> Path:
    (header,) = folder.glob("*/header.bin")
    return header.parent


def test_whole_ones_are_let_through(written: tuple[Path, Path], tmp_path: Path) -> None:
    for folder in written:
        assert hnsw_files.problem(folder) is None
    index = ChromaIndex(tmp_path / "1")
    assert hnsw_files.problem(index.folder) is None, "nothing is in it"
    fill(index, "many", FIRST)
    for start in range(0, len(FIRST), BATCH):
        index.delete("many", FIRST[start : start + BATCH])
        assert hnsw_files.problem(index.folder) is None
    assert index.stamps("many").tolist() == []
    fill(index, "many", SECOND)
    fill(index, "few", range(1, 4))
    assert hnsw_files.problem(index.folder) is None
    index.close()


@pytest.mark.parametrize("old", FILES[1:])
def test_a_file_from_before_is_noticed(written: tuple[Path, Path], tmp_path: Path, old: str) -> None:
    """As after a kill between two files, or when the disk kept only some of them."""
    before, after = written
    mixed = tmp_path / "3"
    shutil.copytree(after, mixed)
    shutil.copy(segment(before) / old, segment(mixed) / old)
    name = segment(mixed).name
    found = f"{name} has links that lead nowhere" if old == "link_lists.bin" else f"{name}/{old} is cut short"
    assert hnsw_files.problem(mixed) == found
    assert problem_of(mixed, []) == hnsw_files.problem(mixed)


def test_links_that_are_out_of_step_are_noticed(written: tuple[Path, Path], tmp_path: Path) -> None:
    """As when two processes wrote: each gives its elements levels of their own."""
    source = seeded()
    whole = tmp_path / "3"
    shutil.copytree(written[1], whole)
    path = segment(whole) / "link_lists.bin"
    links = path.read_bytes()
    moved = [links[:at] + links[at + 4 :] + bytes(4) for at in source.sample(range(0, len(links) // 2, 4), 50)]
    for content in moved:
        path.write_bytes(content)
        assert hnsw_files.problem(whole), "the elements behind it have the links of others"
    path.write_bytes(links)
    assert hnsw_files.problem(whole) is None
    os.truncate(path, 2**40)
    assert hnsw_files.problem(whole), "a sparse file of a terabyte is not read"
    path.unlink()


def test_elements_that_a_header_does_not_know_are_noticed(written: tuple[Path, Path], tmp_path: Path) -> None:
    """Others lead to them already: a search would follow."""
    mixed = tmp_path / "3"
    shutil.copytree(written[1], mixed)
    shutil.copy(segment(written[0]) / "header.bin", segment(mixed) / "header.bin")
    assert hnsw_files.problem(mixed) == f"{segment(mixed).name} has links that lead nowhere"


@pytest.mark.parametrize("content", [b"", b"short", bytes(100), b"\xff" * 100, None])
def test_a_damaged_header_is_noticed(written: tuple[Path, Path], tmp_path: Path, content: bytes | None) -> None:
    damaged = tmp_path / "3"
    shutil.copytree(written[0], damaged)
    header = segment(damaged) / "header.bin"
    header.unlink()
    if content is not None:
        header.write_bytes(content)
    (pickled,) = damaged.glob("*/index_metadata.pickle")
    assert hnsw_files.problem(damaged) == f"{pickled.parent.name}/header.bin is damaged"
