"""B13: a search makes no collection: one that was lost is noticed and built anew, and its hits are not missing."""

from pathlib import Path

import chromadb
import numpy as np
import pytest

from reflexio_server.index.chroma import ChromaIndex
from reflexio_server.index.chroma_process import ChromaProcess
from reflexio_server.storage import collections
from tests.cases.index_server import found, quick_server
from tests.state import wait_for_index
from tests.wire import wait_until

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("every_account")]


@pytest.mark.parametrize("by_publish", [False, True])
def test_a_lost_collection_is_noticed_and_built_anew(
    tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch, by_publish: bool
) -> None:
    contents = [f"a violin number {number}" for number in range(30)]
    with quick_server(tmp_path / "data", model_dir, monkeypatch) as server:
        caller = server.new_caller()
        caller.publish("u", *contents)
        wait_for_index(server)
        index = server.app.follower._index
        assert isinstance(index, ChromaProcess)
        (name,) = index.names()
        index.drop({name})
        index.dropped.clear()
        if by_publish:
            caller.publish("u", "a boat")
            wait_until(lambda: server.app.follower.thread.failures, "the loss to be noticed")
        answer = caller.search(query="a violin", top_k=100)
        assert len({hit.interaction.content for hit in answer.hits} & set(contents)) == 30 - answer.unindexed_count
        assert answer.unindexed_count == 0, "so few are compared one by one"
        wait_until(lambda: server.app.follower.thread.failures, "the loss to be noticed")
        wait_for_index(server)
        assert set(contents) <= set(found(caller, "a violin", 100))
        index = server.app.follower._index
        assert isinstance(index, ChromaProcess)
        with server.app.database.read() as conn:
            (live,) = collections.in_use(conn)
        assert len(index.stamps(live.name)) == 30 + by_publish


@pytest.mark.parametrize("ask", ["query", "stamps", "vectors", "delete", "upsert"])
def test_asking_for_what_is_not_there_makes_nothing(tmp_path: Path, ask: str) -> None:
    index = ChromaIndex(tmp_path / "1")
    vector = np.ones(8, dtype=np.float32)
    given = {
        "query": (vector, 3),
        "stamps": (),
        "vectors": ([1],),
        "delete": ([1],),
        "upsert": ([1], [1], vector[np.newaxis], False),
    }
    with pytest.raises(chromadb.errors.NotFoundError):
        getattr(index, ask)("nothing-here", *given[ask])
    assert index.names() == []
    index.close()
