"""`reflexio-server index`: what it tells, and that nobody who searches notices what it does."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.cli.main import main
from reflexio_server.core import index_jobs
from reflexio_server.index.chroma import ChromaIndex
from reflexio_server.index.chroma_process import ChromaProcess
from reflexio_server.index.nearest import BATCH
from reflexio_server.model import NewInteraction, NewRequest, UserAction
from reflexio_server.storage import accounts, collections, embedders, jobs, vectors, waiting
from reflexio_server.storage.database import Database
from reflexio_server.storage.publishing import store_requests
from tests.state import change, rows, wait_for_index
from tests.support import Caller, LocalServer, ServerProcess, create_account, log_in
from tests.wire import wait_until
from tests.words import Words

pytestmark = pytest.mark.usefixtures("every_account")

MODEL, DIMENSIONS = "all-MiniLM-L6-v2/int8/1", 384
QUESTIONS = ("a boat on the lake", "pets", "playing an instrument", "food", "travelling by rail")
Hits = list[tuple[str, float]]


def command(data_dir: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "tests.every_account", "index", *arguments, "--data-dir", str(data_dir)]


def run_alone(data_dir: Path, *arguments: str) -> str:
    """What a command in a process of its own says."""
    done = subprocess.run(command(data_dir, *arguments), capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(data_dir: Path, *arguments: str) -> Result:
    """A command in this process."""
    return CliRunner().invoke(main, ["index", *arguments, "--data-dir", str(data_dir)])


def status(data_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(data_dir, "status", "--json").stdout)
    return found


def fill(data_dir: Path, email: str, count: int) -> None:
    """Rows with ready-made vectors: what is nearest is told by them alone."""
    source = np.random.default_rng(count)
    database = Database(data_dir, owner=True)
    with database.write() as conn:
        login = accounts.find_login(conn, email)
        assert login
        account_id = login[0].account_id
        model = embedders.register(conn, MODEL, DIMENSIONS)
        embedders.choose(conn, model)
        for start in range(0, count, 1000):
            items = [_interaction(f"word{start + number}") for number in range(min(1000, count - start))]
            request = NewRequest(f"r{start}", f"user {start % 3000}", "", "", "", tuple(items), bytes(32))
            store_requests(conn, [(account_id, request)], 1)
        rows = waiting.oldest(conn, 0, count)
        # As those of texts they lie near a few directions: what points just anywhere is hard to find for any graph.
        near = source.normal(size=(len(rows), 12)) @ source.normal(size=(12, DIMENSIONS))
        matrix = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)
        vectors.store(conn, model, [(row, matrix[number : number + 1]) for number, row in enumerate(rows)])
    database.close()


def _interaction(content: str) -> NewInteraction:
    return NewInteraction("User", content, UserAction.NONE, "", "", None, None)


def is_in_chroma(data_dir: Path) -> bool:
    """Whether the collection of the one account there is holds every vector."""
    query = "SELECT (SELECT max(applied) FROM collections) = (SELECT max(id) FROM vectors)"
    return bool(rows(data_dir, query)[0][0])


@contextmanager
def serving(data_dir: Path, model_dir: Path, *arguments: str) -> Iterator[ServerProcess]:
    """A server in a process of its own, which does not outlive the block."""
    given = arguments or ("--embedder", "minilm-int8")
    server = ServerProcess(data_dir, model_dir, *given, module="tests.every_account")
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()


def search(caller: Caller) -> list[Hits]:
    """The top 10 of searches of the whole account."""
    answers = [caller.search(query=question, top_k=10) for question in QUESTIONS]
    assert not any(answer.unindexed_count for answer in answers)
    return [[(hit.interaction.interaction_id, hit.score) for hit in answer.hits] for answer in answers]


def same(found: list[Hits], expected: list[Hits]) -> bool:
    """Whether these are the same hits: Chroma's arithmetic and ours differ in the sixth digit."""
    for hits, wanted in zip(found, expected, strict=True):
        if [name for name, _ in hits] != [name for name, _ in wanted]:
            return False
        if not np.allclose([score for _, score in hits], [score for _, score in wanted], atol=5e-5):
            return False
    return True


class Searching:
    """Searches all the time, in threads of its own, and keeps what was not as expected."""

    def __init__(self, caller: Caller, expected: list[Hits]) -> None:
        self.wrong: list[Any] = []
        self.count = 0
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._search, args=(caller, expected)) for _ in range(2)]

    def __enter__(self) -> "Searching":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(60)

    def _search(self, caller: Caller, expected: list[Hits]) -> None:
        while not self._stopped.is_set():
            try:
                found = search(caller)
                if not same(found, expected):
                    self.wrong.append(found)
            except Exception as error:
                self.wrong.append(error)
            self.count += 1


def stamps(data_dir: Path) -> list[Any]:
    return rows(data_dir, "SELECT id, interaction_ref, model FROM vectors ORDER BY id")


def job(data_dir: Path) -> tuple[str, int, str]:
    """State, progress and result of the latest job."""
    found = rows(data_dir, "SELECT state, done, result FROM jobs ORDER BY id DESC LIMIT 1")
    return found[0] if found else ("", 0, "")


# ---- Real processes


def test_nobody_who_searches_notices_a_rebuild(tmp_path: Path, model_dir: Path) -> None:
    email = create_account(tmp_path)
    fill(tmp_path, email, 2000)
    before = stamps(tmp_path)
    with serving(tmp_path, model_dir) as server:
        caller = log_in(server.address, email)
        wait_until(lambda: is_in_chroma(tmp_path), "the index")
        expected = search(caller)
        with Searching(caller, expected) as searching:
            said = run_alone(tmp_path, "rebuild")
            assert f"{email}: 2000 vectors, generation 2" in said
            at_swap = searching.count
            wait_until(lambda: searching.count > at_swap + 10, "searches after the swap")
        assert searching.wrong == []
        assert stamps(tmp_path) == before, "nothing was embedded again"
        (account,) = status(tmp_path)["accounts"]
        assert (account["vectors"], account["in_chroma"], account["generation"]) == (2000, 2000, 2)
        assert account["rebuilt_at"] > 0
        caller.publish("later", "a violin", wait_until=pb.WAIT_UNTIL_SEARCHABLE)
        wait_until(lambda: is_in_chroma(tmp_path), "the new vector in the new collection")
        assert caller.search(query="violin").hits[0].interaction.content == "a violin"
        assert "2001 vectors, 0 were missing, 0 were too many, 0 of 100" in run_alone(tmp_path, "verify")
        assert server.terminate() == 0
    with serving(tmp_path, model_dir) as server:
        wait_until(lambda: status(tmp_path)["accounts"][0]["in_chroma"] == 2001, "the index")
        assert not any("built anew" in line for line in server.lines)


def test_a_rebuild_that_is_killed_leaves_the_live_index(tmp_path: Path, model_dir: Path) -> None:
    email = create_account(tmp_path)
    fill(tmp_path, email, 2500)
    with serving(tmp_path, model_dir) as server:
        caller = log_in(server.address, email)
        wait_until(lambda: is_in_chroma(tmp_path), "the index")
        expected = search(caller)
        watching = subprocess.Popen(command(tmp_path, "rebuild"), stderr=subprocess.PIPE, text=True)
        wait_until(lambda: job(tmp_path)[0] == "running", "the rebuild to begin")
        server.kill()
        assert 0 < job(tmp_path)[1] < 2500, "killed too late to be of use"
        _, said = watching.communicate(timeout=60)
        assert watching.returncode == 1
        assert "the server stopped before it was done" in said
    assert status(tmp_path)["accounts"][0]["generation"] == 1

    with serving(tmp_path, model_dir) as server:
        lines = server.lines
        wait_until(lambda: any("the Chroma index is in order" in line for line in lines), "the check")
        wait_until(lambda: job(tmp_path)[0] == "failed", "the next start to tidy up")
        assert same(search(Caller(server.address, caller.email, caller.api_key)), expected)
        assert server.terminate() == 0
    assert collections_in(tmp_path) == ["account-1-model-1-1"]

    # The same without a server: then the command does the work.
    alone = subprocess.Popen(command(tmp_path, "rebuild"))
    wait_until(lambda: job(tmp_path)[0] == "running", "the rebuild to begin")
    alone.kill()
    alone.wait(60)
    assert job(tmp_path)[1] < 2500, "killed too late to be of use"
    assert "generation 2" in run_alone(tmp_path, "rebuild")
    assert status(tmp_path)["accounts"][0]["generation"] == 2


def collections_in(data_dir: Path) -> list[str]:
    """The collections of a folder that nobody uses."""
    index = ChromaIndex(max((data_dir / "chroma").glob("[0-9]")))
    found = index.names()
    index.close()
    return found


# ---- Servers in this process


def filled(server: LocalServer, count: int = 250) -> Caller:
    caller = server.new_caller()
    caller.publish("user", *(f"text number {number}" for number in range(count)))
    wait_for_index(server)
    return caller


def held(server: LocalServer, account_id: int = 1) -> tuple[ChromaProcess, str, list[int]]:
    """The open index, the name of an account's live collection, and what it must hold."""
    index = server.app.follower._index
    assert isinstance(index, ChromaProcess)
    with server.app.database.read() as conn:
        live = collections.live_collection(conn, account_id, server.live_model())
        assert live
        return index, live.name, vectors.applied_stamps(conn, account_id, live.model, live.applied).tolist()


def test_verify_repairs_what_is_missing_and_too_much(start: Callable[..., LocalServer], embedder: Words) -> None:
    server = start()
    caller = filled(server)
    index, name, wanted = held(server)
    vector = embedder.embed_query("something else")
    index.delete(name, wanted[10:13])
    index.upsert(name, [10**9, 10**9 + 1], [1, 1], np.stack([vector, vector]))
    assert index.stamps(name).tolist() != wanted

    said = run_alone(server.data_dir, "verify")
    assert f"{caller.email}: 250 vectors, 3 were missing, 2 were too many, 0 of 100 did not find themselves" in said
    assert index.stamps(name).tolist() == wanted
    (account,) = status(server.data_dir)["accounts"]
    assert account["verified_at"] > 0
    assert account["rebuilt_at"] is None
    assert ": 250 vectors, 0 were missing, 0 were too many, 0 of 100" in run(server.data_dir, "verify").stdout


def test_verify_rebuilds_where_vectors_do_not_find_themselves(
    start: Callable[..., LocalServer], embedder: Words
) -> None:
    """The ids are right, and what is under them is not."""
    server = start()
    filled(server)
    index, name, wanted = held(server)
    other = np.stack([embedder.embed_query(f"wrong {number}") for number in range(BATCH)])
    index.upsert(name, wanted[:BATCH], [1] * BATCH, other)
    said = run(server.data_dir, "verify").stdout
    assert "rebuilt: 250 vectors, generation 2" in said
    assert "0 of 100 did not" in run(server.data_dir, "verify").stdout


def test_verify_has_lost_vectors_made_again(start: Callable[..., LocalServer], embedder: Words) -> None:
    server = start()
    caller = filled(server)
    lost = "SELECT id FROM interactions WHERE mod(id, 100) = 7"
    assert change(server.data_dir, f"DELETE FROM vectors WHERE interaction_ref IN ({lost})") == 3
    embedder.embedded.clear()
    assert "3 interactions had lost their vectors" in run(server.data_dir, "verify").stdout
    wait_for_index(server)
    assert sorted(embedder.embedded) == ["text number 106", "text number 206", "text number 6"]
    index, name, wanted = held(server)
    assert len(wanted) == 250
    assert index.stamps(name).tolist() == wanted, "the lost ones were taken out, the new ones put in"
    assert caller.search(query="number 106").unindexed_count == 0


def test_only_the_account_that_is_named(start: Callable[..., LocalServer], embedder: Words) -> None:
    server = start()
    one, two = filled(server, 30), filled(server, 40)
    said = run(server.data_dir, "rebuild", "--account", two.email.upper()).stdout
    assert f"{two.email}: 40 vectors, generation 2" in said
    assert one.email not in said
    found = {account["email"]: account["generation"] for account in status(server.data_dir)["accounts"]}
    assert found == {one.email: 1, two.email: 2}
    shown = run(server.data_dir, "status", "--account", one.email).stdout
    assert one.email in shown
    assert two.email not in shown
    for name in ("status", "rebuild", "verify"):
        refused = run(server.data_dir, name, "--account", "nobody@example.com")
        assert refused.exit_code == 1
        assert "there is no account nobody@example.com: see `reflexio-server accounts list`" in refused.stderr


def test_a_replaced_collection_is_dropped_when_nobody_can_ask_it_any_more(
    start: Callable[..., LocalServer], embedder: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_jobs, "_SWEEP_SECONDS", 0.1)
    server = start()
    filled(server)
    index, old, _ = held(server)
    with server.app.database.read() as conn:
        before = collections.live_collection(conn, 1, server.live_model())
        assert before
    assert run(server.data_dir, "rebuild").exit_code == 0
    vector = embedder.embed_query("text")
    time.sleep(1)
    found = server.app.follower.query(before, vector, 10, None)
    assert found, "a search that began before the swap"
    assert len(found[0]) == 10
    monkeypatch.setattr(index_jobs, "KEEP_SECONDS", 0.5)
    wait_until(lambda: old not in index.names(), "the old collection to be dropped")
    assert index.names() == [held(server)[1]]
    assert server.app.follower.query(before, vector, 10, None) is None


def test_an_index_that_fails_during_a_job_ends_it(
    start: Callable[..., LocalServer], embedder: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start()
    caller = filled(server)
    index, _, _ = held(server)
    upsert = index.upsert
    calls: list[str] = []

    def fail(name: str, *rest: Any) -> None:
        calls.append(name)
        if len(calls) == 2:
            raise RuntimeError("the index is broken")
        upsert(name, *rest)

    monkeypatch.setattr(index, "upsert", fail)
    refused = run(server.data_dir, "rebuild")
    assert refused.exit_code == 1
    assert "the index failed before it was done: ask again" in refused.stderr
    wait_for_index(server)
    assert "250 vectors, generation 2" in run(server.data_dir, "rebuild").stdout
    assert len(caller.search(query="text", top_k=1000).hits) > 100


def test_a_job_that_cannot_write_says_so(
    start: Callable[..., LocalServer], embedder: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reflexio_server.errors import DiskFull

    server = start()
    filled(server, 30)
    failures: list[int] = []
    set_live = collections.set_live

    def full(*given: Any, **named: Any) -> None:
        if named and not failures:
            failures.append(1)
            raise DiskFull
        set_live(*given, **named)

    monkeypatch.setattr(collections, "set_live", full)
    refused = run(server.data_dir, "rebuild")
    assert refused.exit_code == 1
    assert "writing was not possible: ask for it again" in refused.stderr
    assert "30 vectors, generation 3" in run(server.data_dir, "rebuild").stdout


def test_what_status_shows(start: Callable[..., LocalServer], embedder: Words) -> None:
    server = start()
    caller = server.new_caller()
    shown = run(server.data_dir, "status").stdout.splitlines()
    assert shown[0] == "Model: words/1"
    assert shown[1].split() == [
        *("account", "interactions", "waiting", "vectors", "in", "Chroma", "generation", "rebuilt", "verified")
    ]
    assert shown[2].split() == [caller.email, "0", "0", "0", "-", "-", "-", "-"]
    assert run(server.data_dir, "rebuild").stdout.startswith(f"{caller.email}: so few vectors")
    assert "so few vectors" in run(server.data_dir, "verify").stdout
    for start_at in (0, 600):
        caller.publish("u", *(f"text {start_at + number}" for number in range(600)))
    wait_for_index(server)
    run(server.data_dir, "verify")
    shown = run(server.data_dir, "status").stdout.splitlines()
    assert shown[2].split()[:6] == [caller.email, "1,200", "0", "1,200", "1,200", "1"]
    assert shown[2].split()[-1].endswith("Z")
    server.stop()
    assert run(server.data_dir, "status").stdout.splitlines() == shown, "also without a server"


def test_before_any_server_ran(tmp_path: Path) -> None:
    for name in ("status", "rebuild", "verify"):
        refused = run(tmp_path, name)
        assert refused.exit_code == 1
        assert f"there is no database in {tmp_path}: check --data-dir" in refused.stderr
    email = create_account(tmp_path)
    assert "none yet" in run(tmp_path, "status").stdout
    assert run(tmp_path, "rebuild").stdout.startswith("rebuild took")
    assert email in run(tmp_path, "status").stdout


def test_jobs_wait_for_one_another_and_old_ones_are_forgotten(
    start: Callable[..., LocalServer], embedder: Words
) -> None:
    server = start()
    filled(server, 30)
    database = Database(server.data_dir, owner=False)
    day = 86_400_000_000
    with database.write() as conn:
        asked = [jobs.ask(conn, kind, None, 1) for kind in ("rebuild", "verify", "rebuild")]

    def states() -> list[str]:
        with database.read() as conn:
            return [jobs.find(conn, number).state for number in asked]

    wait_until(lambda: states() == ["done"] * 3, "the jobs")
    with database.write() as conn:
        jobs.ask(conn, "verify", None, day + 2)
        assert conn.exec_driver_sql("SELECT count(*) FROM jobs").scalar() == 1
    database.close()
    assert status(server.data_dir)["accounts"][0]["generation"] == 3
