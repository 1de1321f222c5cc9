"""The indexer: texts and moments that fail, and another model without the old one at hand."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.core.embedding import BATCH
from reflexio_server.errors import TooBusy
from reflexio_server.index import chroma_note
from reflexio_server.storage import waiting
from tests.server.core.recovery import (
    back,
    publish,
    same,
    searches,
    stamps,
    stopped_store,
    texts,
    unindexed,
    wait_for_index,
)
from tests.support import LocalServer
from tests.wire import wait_until
from tests.words import Words, use

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("every_account")]


@pytest.mark.sqlite  # where a start chooses the model
def test_a_change_of_model_that_is_taken_back_half_way_loses_nothing(
    tmp_path: Path, start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = Words("one"), Words("two", 48)
    use(monkeypatch, one)
    caller, expected = stopped_store(start, tmp_path, 3 * BATCH)

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
    server = start(tmp_path)
    wait_until(lambda: unindexed(back(server, caller)) == 2 * BATCH, "a part of the rows")
    stopping.set()
    server.stop()

    use(monkeypatch, one)
    server = start(tmp_path)
    wait_for_index(server)
    again = back(server, caller)
    assert unindexed(again) == 0
    assert same(searches(again), expected)
    refs = {stamp[1] for stamp in stamps(tmp_path)}
    assert len(refs) == len(stamps(tmp_path)) == 3 * BATCH


@pytest.mark.sqlite  # where a start chooses the model
def test_rows_that_wait_for_another_model_are_counted_from_the_first_search_on(
    tmp_path: Path, start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Words("one"))
    caller, _ = stopped_store(start, tmp_path, 2500)
    two = Words("two")
    embed = two.embed

    def slowly(text: str) -> NDArray[np.float32]:
        time.sleep(0.01)
        return embed(text)

    monkeypatch.setattr(two, "embed", slowly)
    use(monkeypatch, two)
    server = start(tmp_path)
    assert unindexed(back(server, caller)) > 2500 - 2 * BATCH


def test_a_text_that_cannot_be_embedded_does_not_stop_the_others(
    tmp_path: Path, start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Words(refused="unspeakable"))
    server = start(tmp_path)
    caller = server.new_caller()
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
    tmp_path: Path, start: Callable[..., LocalServer], embedder: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []
    embed = embedder.embed

    def fail_twice(text: str) -> NDArray[np.float32]:
        tries.append(text)
        if len(tries) < 3:
            raise RuntimeError("not now")
        return embed(text)

    monkeypatch.setattr(embedder, "embed", fail_twice)
    server = start(tmp_path)
    caller = server.new_caller()
    assert caller.publish("user", "a violin", wait_until=pb.WAIT_UNTIL_SEARCHABLE).searchable
    assert (len(tries), server.app.vector_maker.failed, len(stamps(tmp_path))) == (3, 0, 1)


@pytest.mark.sqlite  # where a start chooses the model
def test_a_text_that_one_model_cannot_embed_is_tried_by_the_next(
    tmp_path: Path, start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Words("one", refused="unspeakable"))
    server = start(tmp_path)
    caller = server.new_caller()
    publish(caller, ["an unspeakable violin"])
    wait_for_index(server)
    assert (server.app.vector_maker.failed, stamps(tmp_path)) == (1, [])
    server.stop()
    use(monkeypatch, Words("two"))
    server = start(tmp_path)
    wait_for_index(server)
    assert len(stamps(tmp_path)) == 1


def test_vectors_that_cannot_be_written_now_are_not_made_again(
    tmp_path: Path, start: Callable[..., LocalServer], embedder: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(tmp_path)
    caller = server.new_caller()
    submit = server.app.vector_maker._writer.submit
    refused: list[int] = []

    def busy(*given: Any) -> Any:
        if len(refused) < 3:
            refused.append(1)
            raise TooBusy("writes waiting")
        return submit(*given)

    monkeypatch.setattr(server.app.vector_maker._writer, "submit", busy)
    publish(caller, texts(30))
    wait_until(lambda: unindexed(caller) == 0, "the vectors")
    assert len(refused) == 3
    assert sorted(embedder.embedded) == sorted(texts(30)), "each once"
    assert server.app.vector_maker._unwritten == {}


def test_an_indexer_that_is_stopped_just_when_it_woke_does_stop(
    tmp_path: Path, start: Callable[..., LocalServer], embedder: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(tmp_path)
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
    tmp_path: Path, start: Callable[..., LocalServer], embedder: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(tmp_path)
    caller = server.new_caller()
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


def test_the_note_says_how_far_the_index_is(tmp_path: Path, start: Callable[..., LocalServer], embedder: Words) -> None:
    stopped_store(start, tmp_path, 120)
    note = json.loads((tmp_path / "chroma/1.closed").read_text())
    assert note["applied"] == {"account-1-model-1-1": 120}
    assert chroma_note.is_as_closed(tmp_path / "chroma/1", {"account-1-model-1-1": 120})
    assert not chroma_note.is_as_closed(tmp_path / "chroma/1", {"account-1-model-1-1": 121})
