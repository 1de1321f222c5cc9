"""What was erased leaves the index and stays out of it: whatever is built, checked, changed or killed meanwhile."""

import random
import re
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.core import embedder_change
from reflexio_server.core.candidates import EXACT_USER
from reflexio_server.core.following import Follower
from reflexio_server.core.index_jobs import IndexJobs
from reflexio_server.core.vector_cache import VectorCache
from reflexio_server.index import chroma_folder
from reflexio_server.index.chroma_process import ChromaProcess
from reflexio_server.index.nearest import Expected
from reflexio_server.storage import collections, settling, standing, vectors, waiting
from reflexio_server.storage.standing import Standing
from reflexio_server.storage.vectors import Vectors
from tests import stores
from tests.soundness import faults
from tests.state import index_command, rows
from tests.support import Caller, LocalServer
from tests.wire import everything, say, seeded, wait_until
from tests.words import Words, use

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("every_account")]

Say = noun.InteractionData
WORDS = "boat river ship lake dog cat horse bread cheese wine apple car train plane city house".split()


@pytest.fixture
def server(start: Callable[..., LocalServer], embedder: Words) -> LocalServer:
    return start()


def fill(caller: Caller, requests: int, user: str = "ann", begin: int = 0) -> None:
    """Requests of five texts each, no two of them alike."""
    made = [
        pb.PublishInteractionsRequest(
            user_id=user,
            request_id=f"{user} {number}",
            interactions=[Say(content=f"thing {WORDS[(number + step) % 16]} {number} {step}") for step in range(5)],
        )
        for number in range(begin, begin + requests)
    ]
    assert caller.stream(made).requests.stored == requests


def is_quiet(server: LocalServer) -> bool:
    """Whether no row waits for its vector, and the index for neither a vector nor an erased one."""
    if server.app.follower._index is None:
        return False
    with server.app.database.read() as conn:
        late = collections.lagging_accounts(conn, server.live_model())
        return not (waiting.first(conn) or late or settling.accounts_with_pending(conn))


def check(server: LocalServer) -> None:
    """Once it is quiet, each collection holds the vectors in SQL and no others, whatever its generation."""
    wait_until(lambda: is_quiet(server), "the index")
    index = server.app.follower._index
    assert index
    with server.app.database.read() as conn:
        live = collections.in_use(conn)
        wanted = {one.name: vectors.applied_stamps(conn, one.account_id, one.model, one.applied) for one in live}
        of_account = {
            collections.name_prefix(one.account_id, one.model): set(
                vectors.applied_stamps(conn, one.account_id, one.model, 10**12).tolist()
            )
            for one in live
        }
    for name in index.names():
        if name in wanted:
            assert index.stamps(name).tolist() == wanted[name].tolist()
        for prefix, there in of_account.items():
            if name.startswith(prefix):
                assert set(index.stamps(name).tolist()) <= there
    assert faults(server.data_dir) == {}


def test_it_leaves_chroma_and_neither_a_check_nor_a_rebuild_brings_it_back(server: LocalServer) -> None:
    caller = server.new_caller()
    fill(caller, 60)
    fill(caller, 10, "bob")
    check(server)
    gone = {item.interaction_id for item in everything(caller, user_id="ann")}
    some = sorted(gone)[:7]
    for one in some:
        caller.delete_interaction(one)
    check(server)
    caller.delete_user("ann")
    check(server)
    for _ in range(2):
        assert ": 50 vectors, 0 were missing, 0 were too many, 0 of 50 did not find" in index_command(server, "verify")
        status = index_command(server, "status").splitlines()[-1].split()
        assert status[1:5] == ["50", "0", "50", "50"], "interactions, waiting, vectors, in Chroma"
        found = caller.search(query="boat dog 1 2", top_k=1000).hits
        assert {hit.interaction.user_id for hit in found} == {"bob"}
        assert "50 vectors, generation" in index_command(server, "rebuild")
        check(server)


def test_a_search_of_the_account_finds_as_many_as_before(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chroma may name many that are gone before it has forgotten them; more are asked for then."""
    caller = server.new_caller()
    fill(caller, 60)
    check(server)
    monkeypatch.setattr(Follower, "_settle", lambda *_: None)
    for number in range(0, 60, 2):
        caller.delete_request(f"ann {number}")
    for query in ("boat", "a violet marble"):  # the second is in no text
        exact = caller.search(user_id="ann", query=query, top_k=50).hits
        found = caller.search(query=query, top_k=50).hits
        assert len(found) == len(exact) > 20
        assert np.allclose([hit.score for hit in found], [hit.score for hit in exact], atol=1e-4)
        assert len({hit.interaction.interaction_id for hit in (*found, *exact)}) < 55


def test_what_is_erased_while_the_index_is_built_anew_is_not_in_the_new_one(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = server.new_caller()
    fill(caller, 100)
    check(server)
    built: list[int] = []
    tell = IndexJobs._tell

    def erase_meanwhile(care: IndexJobs, job: Any) -> None:
        """After each batch of the rebuild: what is in it already, and what is to come."""
        tell(care, job)
        for number in (len(built) * 7, 99 - len(built) * 7):
            erased = threading.Thread(target=caller.delete_request, args=(f"ann {number}",))
            erased.start()
            erased.join()
        built.append(care._done)

    monkeypatch.setattr(IndexJobs, "_tell", erase_meanwhile)
    said = index_command(server, "rebuild")
    monkeypatch.setattr(IndexJobs, "_tell", tell)
    assert "generation 2" in said
    assert len(built) >= 4
    check(server)
    assert ", 0 were missing, 0 were too many, 0 of 100 did not find" in index_command(server, "verify")


def test_what_is_erased_during_a_check_is_not_called_wrong(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = server.new_caller()
    fill(caller, 60)
    check(server)
    index = server.app.follower._index
    assert index
    with server.app.database.read() as conn:
        (live,) = collections.in_use(conn)
        stamps = vectors.applied_stamps(conn, live.account_id, live.model, live.applied).tolist()
    index.delete(live.name, stamps[100:200])  # so that there is something to put in again
    finds, erased = [0], iter(range(60))

    def erase_now(*_: Any) -> None:
        finds[0] += 1
        number = next(erased, None)
        if number is not None:
            caller.delete_request(f"ann {number}")

    step = IndexJobs.step

    def between(care: IndexJobs, opened: ChromaProcess) -> None:
        if care.is_busy and finds[0] < 30:
            erase_now()
        step(care, opened)

    monkeypatch.setattr(IndexJobs, "step", between)
    said = index_command(server, "verify")
    assert "were too many" in said
    assert re.search(r", 0 were too many, 0 of [1-9]\d+ did not find themselves", said), said
    assert "rebuilt" not in said
    check(server)


def killed_before_chroma_forgot(server: LocalServer, monkeypatch: pytest.MonkeyPatch, erase: Callable[[], Any]) -> Path:
    """The data directory as a kill would leave it between an erase and what Chroma does of it."""
    with monkeypatch.context() as patched:
        patched.setattr(Follower, "_settle", lambda *_: None)
        erase()
        copy = server.data_dir.with_name("killed")
        time.sleep(0.2)
        shutil.copytree(server.data_dir, copy)
    return copy


@pytest.mark.sqlite  # its file is copied while it is used
def test_after_a_kill_chroma_forgets_at_the_next_start(
    server: LocalServer, start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = server.new_caller()
    fill(caller, 60)
    check(server)

    def erase() -> None:
        for number in (0, 30, 59):  # the first and the last too
            caller.delete_request(f"ann {number}")

    copy = killed_before_chroma_forgot(server, monkeypatch, erase)
    upserts: list[int] = []
    checks: list[str | None] = []
    upsert, check_it = ChromaProcess.upsert, ChromaProcess.check

    def counting(index: ChromaProcess, *given: Any) -> None:
        upserts.append(1)
        upsert(index, *given)

    def noting(index: ChromaProcess, expected: list[Expected]) -> str | None:
        checks.append(check_it(index, expected))
        return checks[-1]

    monkeypatch.setattr(ChromaProcess, "upsert", counting)
    monkeypatch.setattr(ChromaProcess, "check", noting)
    again = start(copy)
    check(again)
    assert checks == [None], "the check knows what is to be forgotten still"
    assert upserts == [], "nothing is built anew"
    index = again.app.follower._index
    assert index
    assert len(index.stamps(index.names()[0])) == 285


def test_a_folder_that_was_set_aside_goes_too(server: LocalServer) -> None:
    caller = server.new_caller()
    fill(caller, 5)
    check(server)
    aside = server.data_dir / chroma_folder.CHROMA_FOLDER / "0.damaged"
    aside.mkdir()
    (aside / "data").write_bytes(b"older vectors")
    caller.delete_request("ann 1")
    check(server)
    assert not aside.exists()


class Slow(Words):
    """Waits in the midst of embedding for as long as it is held."""

    def __init__(self, model_id: str = "words/1") -> None:
        super().__init__(model_id)
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.begun = threading.Event()

    def embed(self, text: str) -> NDArray[np.float32]:
        self.begun.set()
        assert self.goes_on.wait(30)
        return super().embed(text)


def test_what_is_erased_while_it_is_embedded_gets_no_vector(
    start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = Slow()
    use(monkeypatch, embedder)
    server = start()
    caller = server.new_caller()
    embedder.goes_on.clear()
    fill(caller, 4)
    assert embedder.begun.wait(30)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(caller.publish, "ann", "one more", "and more", request_id="waits", wait_until=2)
        wait_until(lambda: len(caller.get(user_id="ann").interactions) == 22, "the publish")
        caller.delete_request("ann 0")
        caller.delete_request("ann 3")
        caller.delete_interaction(caller.get(user_id="ann").interactions[0].interaction_id)
        embedder.goes_on.set()
        assert waiting.result(30).searchable
    check(server)
    assert len(caller.search(user_id="ann", query="thing one and more", top_k=1000).hits) == 11
    assert not caller.search(user_id="ann", query="boat").unindexed_count


def test_what_is_erased_during_a_change_of_model_gets_no_vectors_of_the_next(
    start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, second = Words("words/1"), Slow("words/2")
    use(monkeypatch, first)
    server = start(tmp_path / "data")
    caller = server.new_caller()
    fill(caller, 40)
    check(server)
    server.stop()
    stores.let_take_over(server.data_dir, second)
    monkeypatch.setattr("reflexio_server.backstage.load_by_id", lambda *_: first)
    monkeypatch.setattr(embedder_change, "BATCH", 20)
    use(monkeypatch, second)
    second.goes_on.clear()
    server = start(tmp_path / "data")
    caller = Caller(server.address, caller.email, caller.api_key)
    assert second.begun.wait(30)
    failures: list[str] = []
    monkeypatch.setattr(embedder_change.logger, "exception", lambda text, *_: failures.append(text))
    for number in (0, 1, 20, 39):
        caller.delete_request(f"ann {number}")
    second.goes_on.set()

    def changed() -> bool:
        with server.app.database.read() as conn:
            return bool(conn.exec_driver_sql("SELECT next IS NULL AND model = 2 FROM live_model").scalar_one())

    wait_until(changed, "the next model")
    check(server)
    assert failures == []
    assert len(caller.search(user_id="ann", query="thing", top_k=1000).hits) == 180


def test_searches_while_it_is_erased_see_their_own_snapshot(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What memory holds is at every search exactly what SQL has in its snapshot, neither more nor less."""
    source = seeded()
    seen = [0]
    get = VectorCache.get

    def compared(cache: VectorCache, conn: Any, of: Standing, most: int) -> Any:
        if source.random() < 0.3:
            time.sleep(source.random() * 0.01)  # so that others come between
        held = get(cache, conn, of, most)
        assert of.user_ref is not None
        wanted = vectors.of_user(conn, of.user_ref, of.model)
        assert held is not None
        assert np.array_equal(held.rows, wanted.rows)
        assert np.array_equal(held.matrix, wanted.matrix)
        seen[0] += 1
        return held

    monkeypatch.setattr(VectorCache, "get", compared)
    caller = server.new_caller()
    users = ("ann", "bob")
    for user in users:
        fill(caller, 40, user)
    done = threading.Event()

    def search() -> None:
        while not done.is_set():
            for hit in caller.search(user_id=source.choice(users), query=source.choice(WORDS), top_k=200).hits:
                assert hit.interaction.content

    with ThreadPoolExecutor(4) as pool:
        searching = [pool.submit(search) for _ in range(4)]
        try:
            for number in range(40):
                user = users[number % 2]
                if number % 10 == 9:
                    caller.delete_user(user)
                    fill(caller, 10, user, 100 + 10 * number)
                else:
                    requests = {item.request_id for item in caller.get(user_id=user, page_size=200).interactions}
                    caller.delete_request(source.choice(sorted(requests)))
                    caller.stream([say(f"more {number}", source.choice(WORDS), user)])
        finally:
            done.set()
        for future in searching:
            future.result(60)
    assert seen[0] > 40
    check(server)


def test_a_snapshot_older_than_what_memory_holds_does_not_spoil_it(server: LocalServer) -> None:
    caller = server.new_caller()
    fill(caller, 10)
    check(server)
    ((account_id,),) = rows(server.data_dir, "SELECT account_id FROM users WHERE user_id = 'ann'")
    cache = server.app.cache

    def held_in(conn: Any) -> Vectors:
        of = standing.of_user(conn, account_id, "ann")
        assert of
        held = cache.get(conn, of, EXACT_USER)
        assert held
        return held

    with server.app.database.read() as old:
        first = held_in(old)
        caller.delete_request("ann 3")
        with server.app.database.read() as new:
            after = held_in(new)
            assert (len(first), len(after)) == (50, 45)
        assert np.array_equal(held_in(old).rows, first.rows)
    misses = cache.misses
    with server.app.database.read() as new:
        assert np.array_equal(held_in(new).rows, after.rows)
    assert cache.misses == misses, "what the later one read is still there"


def test_random_erases_and_publishes_leave_a_sound_index(server: LocalServer) -> None:
    source: random.Random = seeded()
    caller = server.new_caller()
    alive: set[str] = set()
    for step in range(60):
        if source.random() < 0.6:
            fill(caller, 3, "ann", 10 * step)
            alive |= {f"ann {10 * step + number}" for number in range(3)}
        elif alive:
            for name in source.sample(sorted(alive), min(len(alive), source.randrange(1, 6))):
                caller.delete_request(name)
                alive.discard(name)
    check(server)
    assert {item.request_id for item in everything(caller)} == alive
    assert len(caller.search(user_id="ann", query="thing", top_k=1000).hits) == 5 * len(alive)
