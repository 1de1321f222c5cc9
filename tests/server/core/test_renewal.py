"""A store whose words an older version cut is brought to this one behind everything else, and can be used meanwhile."""

import os
import random
import sqlite3
import threading
import time
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection

from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server import words
from reflexio_server.core import renewal, settling
from reflexio_server.core.renewal import Renewal
from reflexio_server.index.loading import load_embedder
from reflexio_server.index.minilm import MiniLM
from reflexio_server.storage import full_text
from reflexio_server.storage.database import DATABASE_FILE
from tests.old_store import EMAIL, make_store
from tests.soundness import faults
from tests.state import found_in, is_settled
from tests.support import Caller, LocalServer, ServerProcess, create_account, log_in
from tests.wire import wait_until
from tests.words import Words, use

pytestmark = pytest.mark.sqlite  # its own words of an earlier version

SAID = ("Straße gesperrt", "Bestätigung fehlt", unicodedata.normalize("NFD", "Überweisung da"), "İade talebim", "plain")
KILLS = 2
LEFT_OF_IT = "SELECT name FROM sqlite_master WHERE name LIKE 'interactions_fts%' OR name = 'interactions_text'"


class Gate:
    """Lets the renewal do so many steps, of one row each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._steps = threading.Semaphore(0)
        write = Renewal._write

        def held(self_: Renewal, rows: Any, unread: Any) -> None:
            while not self._steps.acquire(timeout=0.02):
                if self_.thread.over.is_set():
                    return
            write(self_, rows, unread)

        monkeypatch.setattr(Renewal, "_write", held)
        monkeypatch.setattr(renewal, "STEP_ROWS", 1)

    def open(self, steps: int) -> None:
        if steps:
            self._steps.release(steps)


def state(data_dir: Path) -> tuple[int | None, int]:
    """Up to which row it has come, None when it is through, and how many rows are still as they were."""
    with closing(sqlite3.connect(data_dir / DATABASE_FILE)) as conn:
        (done,) = conn.execute("SELECT done FROM words_state").fetchone()
        (old,) = conn.execute("SELECT count(*) FROM interactions WHERE words_version = 1").fetchone()
    return done, old


def lexical(caller: Caller, query: str, **more: Any) -> dict[str, float]:
    """The lexical part of each request that is found."""
    hits = caller.search(query=query, top_k=100, **more).hits
    return {hit.interaction.request_id: hit.lexical for hit in hits if hit.lexical}


def find(caller: Caller, said: Sequence[str]) -> None:
    """Find some of the first and of the last rows by their words."""
    for number in (1, 2, 3, 999, 1999, 2000):
        only = pb.InteractionFilter(request_id=f"r{number}")
        assert lexical(caller, said[number - 1], filter=only) == {f"r{number}": pytest.approx(1)}


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    use(monkeypatch, Words())
    monkeypatch.setattr(settling, "QUIET_SECONDS", 0.1)
    return Gate(monkeypatch)


def texts(count: int, said: Sequence[str] = SAID) -> list[str]:
    return [f"{said[number % len(said)]} zq{number:04}end" for number in range(count)]


def test_everything_is_found_before_in_the_midst_of_it_and_after(
    start: Callable[..., LocalServer], tmp_path: Path, gate: Gate
) -> None:
    said = texts(30)
    make_store(tmp_path / "old", said)
    server = start(tmp_path / "old")
    caller = log_in(server.address, EMAIL)
    for steps, left in ((0, 30), (13, 17), (17, 0)):
        gate.open(steps)
        wait_until(lambda: state(server.data_dir)[1] == left, "so many steps")  # noqa: B023
        caller.publish("ann", f"Überweisung neu {left}", request_id=f"new{left}")
        for number, text in enumerate(said, start=1):
            for query in (text, text.lower(), unicodedata.normalize("NFC", text)):
                assert lexical(caller, query)[f"r{number}"] == pytest.approx(1), (query, left)
        # The rows of both versions count as one set: a word is as rare for the one as for the other.
        with_it = {f"r{number}" for number, text in enumerate(said, start=1) if text.startswith("Stra")}
        assert lexical(caller, "Straße").keys() == with_it
        assert len(set(lexical(caller, "Straße wonder").values())) == 1
        assert lexical(caller, "überweisung", user_id="ann").keys() >= {f"new{left}"}
        assert faults(server.data_dir) == {}
    wait_until(lambda: state(server.data_dir) == (None, 0), "the end")
    with server.app.database.read() as conn:
        assert not conn.exec_driver_sql(LEFT_OF_IT).all()
    assert faults(server.data_dir) == {}
    server.stop()
    again = start(server.data_dir)
    assert lexical(log_in(again.address, EMAIL), "STRASSE").keys() == with_it
    wait_until(lambda: not again.app.term.renewal.thread.is_alive(), "it to see that there is nothing to do")


@pytest.mark.parametrize("steps", [0, 13, 40])
def test_what_is_erased_before_in_the_midst_of_it_or_after_leaves_no_byte(
    start: Callable[..., LocalServer], tmp_path: Path, gate: Gate, steps: int
) -> None:
    said = texts(40)
    make_store(tmp_path / "old", said)
    server = start(tmp_path / "old")
    caller = log_in(server.address, EMAIL)
    gate.open(steps)
    wait_until(lambda: state(server.data_dir)[1] == 40 - steps, "so many steps")
    source = random.Random(int(os.environ.get("REFLEXIO_TEST_SEED") or 13))
    gone = sorted(source.sample(range(1, 41), 20))
    canaries = [said[number - 1].split()[-1] for number in gone]
    assert set(found_in(server.data_dir, canaries)) == set(canaries), "else this would not find what is left either"
    for number in gone[:10]:
        caller.delete_request(f"r{number}")
    gate.open(5)  # and it goes on while there are erases
    for number in gone[10:]:
        caller.delete_request(f"r{number}")
    wait_until(lambda: is_settled(server), "what was erased to be overwritten")
    assert found_in(server.data_dir, canaries) == {}
    assert faults(server.data_dir) == {}
    gate.open(40)
    wait_until(lambda: state(server.data_dir) == (None, 0), "the end")
    assert faults(server.data_dir) == {}
    for number in range(1, 41):
        found = lexical(caller, said[number - 1])
        assert (f"r{number}" in found) == (number not in gone)
        assert not found.keys() & {f"r{one}" for one in gone}
    caller.delete_user("ann")
    caller.delete_user("bob")
    wait_until(lambda: is_settled(server), "the rest to be overwritten")
    server.stop()
    assert found_in(server.data_dir, [text.split()[-1] for text in said] + ["berweisung"]) == {}


@pytest.mark.timeout(300)
def test_a_server_killed_in_the_midst_of_it_goes_on(tmp_path: Path, model_dir: Path) -> None:
    pytest.importorskip("wordllama", reason="the extra wordllama, which embeds quickly, is not installed")
    seed = int(os.environ.get("REFLEXIO_TEST_SEED") or random.SystemRandom().getrandbits(32))
    print(f"REFLEXIO_TEST_SEED={seed}")
    source = random.Random(seed)
    said = texts(2000)
    make_store(tmp_path, said)
    left = [len(said)]
    for kill in range(KILLS + 1):
        server = ServerProcess(tmp_path, model_dir, "--embedder", "wordllama")
        try:
            if kill < KILLS:
                wait_until(lambda: state(tmp_path)[1] < left[-1] - 100, "some steps")
                time.sleep(source.uniform(0, 0.1))
                server.kill()
                assert faults(tmp_path) == {}, f"after kill {kill}"
                left.append(state(tmp_path)[1])
                continue
            caller = log_in(server.address, EMAIL)
            find(caller, said)
            wait_until(lambda: state(tmp_path) == (None, 0), "the end", seconds=120)
            find(caller, said)
            assert server.terminate() == 0
        finally:
            if server.process.poll() is None:
                server.kill()
    print("rows left at each kill:", left)
    assert left == sorted(left, reverse=True)
    assert left[-1] > 0, "killed in the midst of it"
    assert faults(tmp_path) == {}


def test_vectors_of_texts_that_the_model_cannot_read_go(
    start: Callable[..., LocalServer], tmp_path: Path, model_dir: Path
) -> None:
    embedder = load_embedder("minilm", model_dir)
    assert isinstance(embedder, MiniLM)
    said = ["🎉", "😡", "ሰላም", "a grey kitten"]
    vectors = {text: np.asarray(embedder._run(embedder._tokens(text)), dtype="<f4").tobytes() for text in said}
    assert len(set(vectors.values())) == 2, "as the version before had them"
    make_store(tmp_path / "old", said, (embedder.model_id, vectors))
    server = start(tmp_path / "old")
    caller = log_in(server.address, EMAIL)
    wait_until(lambda: state(server.data_dir) == (None, 0), "the end")
    wait_until(lambda: caller.search(query="kitten").unindexed_count == 0, "what was let wait")
    for query in (*said[:3], "a grey kitten"):
        hits = caller.search(query=query).hits
        assert hits[0].interaction.content == query
        assert {hit.interaction.content for hit in hits if hit.semantic} <= {"a grey kitten"}
    assert faults(server.data_dir) == {}


def test_runs_that_were_whole_words_are_cut_into_parts_and_what_is_as_before_is_not_touched(
    start: Callable[..., LocalServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 2 left the runs of all scripts whole."""
    with monkeypatch.context() as before:
        before.setattr(words, "VERSION", 2)
        before.setattr(words, "_parts", lambda word: [word])
        email = create_account(tmp_path / "old")
        server = start(tmp_path / "old")
        caller = log_in(server.address, email)
        said = {"zh": "我的包裹一直没有送到", "ru": "посылка не пришла", "latin": "Straße gesperrt", "ascii": "plain"}
        for request_id, text in said.items():
            caller.publish("ann", text, request_id=request_id)
        assert lexical(caller, "包裹", user_id="ann") == {}
        server.stop()
    changed: list[int] = []
    erase = full_text.erase

    def noted(conn: Connection, refs: Sequence[int]) -> None:
        changed.extend(refs)
        erase(conn, refs)

    monkeypatch.setattr(full_text, "erase", noted)
    again = start(server.data_dir)
    caller = log_in(again.address, email)
    wait_until(lambda: not again.app.term.renewal.thread.is_alive(), "all to be cut anew")
    assert changed == [1, 2]
    for query, request_id in (("包裹", "zh"), ("посылки", "ru"), ("STRASSE", "latin"), ("plain", "ascii")):
        assert lexical(caller, query, user_id="ann").keys() == {request_id}
    assert faults(again.data_dir) == {}
    for request_id in said:
        caller.delete_request(request_id)
    wait_until(lambda: is_settled(again), "what was erased to be overwritten")
    assert faults(again.data_dir) == {}
