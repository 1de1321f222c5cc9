"""N11: verifying rebuilds what is damaged and not what is sound; an approximate index misses a vector now and then.

A mode of a restored file, the number of keys and their names are no part of this file.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from reflexio_server.cli.main import main
from reflexio_server.index import nearest
from reflexio_server.index.chroma_process import ChromaProcess
from reflexio_server.storage import collections, vectors
from tests.cases.index_server import quick_server
from tests.state import wait_for_index
from tests.support import LocalServer

pytestmark = pytest.mark.usefixtures("every_account")

COUNT = 300


@pytest.fixture
def server(tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    with quick_server(tmp_path / "data", model_dir, monkeypatch) as running:
        yield running


def verify(server: LocalServer) -> str:
    said = CliRunner().invoke(main, ["index", "verify", "--data-dir", str(server.data_dir)])
    assert said.exit_code == 0, said.output
    return said.output


def generation(server: LocalServer) -> int:
    with server.app.database.read() as conn:
        (live,) = collections.in_use(conn)
    return live.generation


def index_of(server: LocalServer) -> tuple[ChromaProcess, str]:
    index = server.app.follower._index
    assert isinstance(index, ChromaProcess)
    with server.app.database.read() as conn:
        (live,) = collections.in_use(conn)
    return index, live.name


def blind_for(monkeypatch: pytest.MonkeyPatch, server: LocalServer, unfound: int) -> None:
    """Queries do not find the first vectors, as an index of links may not reach a vector."""
    query = ChromaProcess.query
    with server.app.database.read() as conn:
        hidden = vectors.applied_stamps(conn, 1, server.live_model(), 10**9)[:unfound].tolist()

    def missing(index: ChromaProcess, name: str, vector: Any, count: int, *rest: Any) -> Any:
        stamps, cosines = query(index, name, vector, count + unfound, *rest)
        kept = [place for place, stamp in enumerate(stamps) if stamp not in hidden][:count]
        return [stamps[place] for place in kept], cosines[kept]

    monkeypatch.setattr(ChromaProcess, "query", missing)


@pytest.mark.parametrize("unfound", [1, 4])
def test_a_sound_index_that_misses_a_few_is_not_rebuilt(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, unfound: int
) -> None:
    caller = server.new_caller()
    for start in range(0, 100, 50):
        caller.publish("u", *(f"text number {number}" for number in range(start, start + 50)))
    wait_for_index(server)
    blind_for(monkeypatch, server, unfound)
    said = verify(server)
    assert f"{unfound} of 100 did not find themselves" in said
    assert "rebuilt" not in said
    assert generation(server) == 1


def test_an_index_that_misses_many_is_rebuilt(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    caller = server.new_caller()
    caller.publish("u", *(f"text number {number}" for number in range(100)))
    wait_for_index(server)
    blind_for(monkeypatch, server, 30)
    assert "rebuilt: 100 vectors, generation 2" in verify(server)


def test_equal_and_nearly_equal_texts_are_sound(server: LocalServer) -> None:
    caller = server.new_caller()
    for part in range(3):
        caller.publish("u", *(f"click number {number % 7}" for number in range(part, part + COUNT // 3)))
    wait_for_index(server)
    for _ in range(5):
        said = verify(server)
        assert "rebuilt" not in said
        assert "0 were missing, 0 were too many, 0 of 100" in said
    assert generation(server) == 1


@pytest.mark.parametrize("equal", [False, True])
def test_wrong_vectors_are_damage_even_where_others_equal_them(server: LocalServer, equal: bool) -> None:
    caller = server.new_caller()
    for part in range(3):
        caller.publish("u", *(f"text {number % 3 if equal else number + part * 100}" for number in range(100)))
    wait_for_index(server)
    index, name = index_of(server)
    stamps = index.stamps(name)[: COUNT // 4].tolist()
    wrong: NDArray[np.float32] = np.random.default_rng(1).normal(size=(len(stamps), 32)).astype(np.float32)
    index.upsert(name, stamps, [1] * len(stamps), wrong / np.linalg.norm(wrong, axis=1, keepdims=True), False)
    assert "rebuilt: 300 vectors, generation 2" in verify(server)
    assert "rebuilt" not in verify(server)


@pytest.mark.parametrize(
    ("unfound", "tried", "damaged"), [(0, 0, False), (1, 3, True), (1, 100, False), (6, 100, True)]
)
def test_how_many_are_too_many(unfound: int, tried: int, damaged: bool) -> None:
    assert nearest.too_many_unfound(unfound, tried) is damaged
