"""Another embedding model: all is embedded anew while the model before goes on answering, then one row is changed."""

import itertools
import json
import threading
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from reflexio_server import backstage
from reflexio_server.cli.main import main
from reflexio_server.core.embedder_change import EmbedderChange
from reflexio_server.core.embedding import BATCH
from reflexio_server.index.embedder import Embedder
from reflexio_server.index.loading import load_by_id, load_embedder
from reflexio_server.storage import collections, embedders, waiting
from tests.server.core.recovery import back
from tests.state import rows
from tests.support import Caller, LocalServer, ServerProcess, create_account, log_in
from tests.wire import to_first_schema, wait_until
from tests.words import Words, use

pytestmark = pytest.mark.usefixtures("every_account")

QUESTION = "yachts at sea"  # in no text: a word of many texts would not be embedded
THINGS = (
    "boat river ship lake dog cat horse bread cheese wine apple car train plane city house garden music guitar".split()
)
CONTENTS = [f"{thing} {number}" for number, thing in zip(range(3 * BATCH), itertools.cycle(THINGS))]


def at_hand(monkeypatch: pytest.MonkeyPatch, *embedders: Embedder) -> None:
    """Embedders that a server finds when it needs the one it had before."""
    by_id = {embedder.model_id: embedder for embedder in embedders}
    monkeypatch.setattr(backstage, "load_by_id", lambda model_id, _folder: by_id.get(model_id))


class Gate:
    """Lets an embedder embed so many texts, and no more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, embedder: Embedder, allowed: int) -> None:
        self.texts: list[str] = []
        self._allowed = threading.Semaphore(allowed)
        self._embed = embedder.embed
        monkeypatch.setattr(embedder, "embed", self._gated)

    def _gated(self, text: str) -> Any:
        assert self._allowed.acquire(timeout=60)
        self.texts.append(text)
        return self._embed(text)

    def open(self) -> None:
        self._allowed.release(100_000)


def status(data_dir: Path) -> dict[str, Any]:
    shown = CliRunner().invoke(main, ["index", "status", "--json", "--data-dir", str(data_dir)])
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


def answers_by(embedder: Embedder, caller: Caller, users: tuple[str | None, ...] = (None, "u")) -> None:
    """Every hit has this model's cosine, in the whole account and in a user's part, and nothing waits."""
    question = embedder.embed_query(QUESTION)
    for user in users:
        answer = caller.search(query=QUESTION, top_k=1000, **({} if user is None else {"user_id": user}))
        assert answer.unindexed_count == 0
        assert len(answer.hits) > BATCH
        for hit in answer.hits:
            cosine = float(embedder.embed_query(hit.interaction.content) @ question)
            assert hit.semantic == pytest.approx(max(0.0, cosine), abs=1e-5)


def rows_by_model(data_dir: Path) -> dict[int, int]:
    """How many interactions have vectors of each model."""
    return dict(rows(data_dir, "SELECT model, count(DISTINCT interaction_ref) FROM vectors GROUP BY model"))


def wait_for_change(server: LocalServer, number: int) -> None:
    def complete() -> bool:
        with server.app.database.read() as conn:
            return embedders.live(conn) == number and not collections.lagging_accounts(conn, number)

    wait_until(complete, "the change of model")
    wait_until(lambda: set(rows_by_model(server.data_dir)) == {number}, "the old vectors to be deleted")


@pytest.mark.parametrize("other", ["minilm-fp32", "wordllama"])
def test_the_old_model_answers_until_the_new_one_has_everything(
    tmp_path: Path, model_dir: Path, start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    if other == "wordllama" and not any(package.name == other for package in metadata.distributions()):
        pytest.skip("the extra wordllama is not installed")
    old, new = (load_embedder(name, model_dir) for name in ("minilm-int8", other))
    use(monkeypatch, old)
    at_hand(monkeypatch, old, new)
    server = start(tmp_path)
    caller = server.new_caller()
    caller.publish("u", *CONTENTS)
    wait_until(lambda: caller.search(query="x").unindexed_count == 0, "all vectors")
    server.stop()

    with monkeypatch.context() as patched:
        gate = Gate(patched, new, BATCH + 5)
        use(patched, new)
        server = start(tmp_path)
        caller = back(server, caller)
        wait_until(lambda: len(gate.texts) == BATCH + 5, "a part of the new vectors")
        assert rows_by_model(tmp_path) == {1: 3 * BATCH, 2: BATCH}
        answers_by(old, caller)
        shown = status(tmp_path)
        assert (shown["model"], shown["next_model"]) == (old.model_id, new.model_id)
        assert (shown["next_done"], shown["next_total"]) == (BATCH, 3 * BATCH)

        caller.publish("u", "a sailing vessel")  # found by its meaning at once, as ever
        found = caller.search(user_id="u", query="yacht", top_k=1)
        assert found.unindexed_count == 0
        assert found.hits[0].interaction.content == "a sailing vessel"
        gate.open()
        wait_for_change(server, 2)
        assert len(gate.texts) == 3 * BATCH + 1, "each text once"
    answers_by(new, caller)
    shown = status(tmp_path)
    assert (shown["model"], shown["next_model"]) == (new.model_id, None)
    (account,) = shown["accounts"]
    assert (account["waiting"], account["vectors"], account["in_chroma"]) == (0, 3 * BATCH + 1, 3 * BATCH + 1)
    server.stop()

    use(monkeypatch, old)  # and back again
    server = start(tmp_path)
    wait_for_change(server, 1)
    answers_by(old, back(server, caller))


def test_a_change_goes_on_where_it_was_after_a_restart_and_can_be_taken_back(
    tmp_path: Path, start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = Words("old"), Words("new", 48)
    use(monkeypatch, old)
    at_hand(monkeypatch, old, new)
    server = start(tmp_path)
    caller = server.new_caller()
    caller.publish("u", *CONTENTS)
    wait_until(lambda: caller.search(query="x").unindexed_count == 0, "all vectors")
    server.stop()
    use(monkeypatch, new)

    def stop_half_way() -> None:
        """As after a kill: a batch is stored, the next one is not."""
        with monkeypatch.context() as patched:
            batches: list[int] = []
            go_on = EmbedderChange._go_on

            def twice(change: EmbedderChange, coming: Any) -> None:
                if not batches:
                    go_on(change, coming)
                    batches.append(1)
                else:
                    change.thread.over.wait(0.01)

            patched.setattr(EmbedderChange, "_go_on", twice)
            half = start(tmp_path)
            wait_until(lambda: batches, "a batch")
            answers_by(old, back(half, caller))
            half.stop()

    stop_half_way()
    assert rows_by_model(tmp_path) == {1: 3 * BATCH, 2: BATCH}
    new.embedded.clear()
    server = start(tmp_path)
    wait_for_change(server, 2)
    assert sorted(new.embedded) == sorted(CONTENTS[BATCH:]), "the first batch was not made again"
    answers_by(new, back(server, caller))
    server.stop()

    old, new = new, old  # the other way, and back when a batch is done
    use(monkeypatch, new)
    stop_half_way()
    use(monkeypatch, old)
    old.embedded.clear()
    server = start(tmp_path)
    wait_for_change(server, 2)
    answers_by(old, back(server, caller))
    assert old.embedded == [], "nothing was lost"
    assert status(tmp_path)["next_model"] is None


def test_what_is_published_during_the_change_is_never_missing(
    tmp_path: Path, start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = Words("old"), Words("new", 48)
    use(monkeypatch, old)
    at_hand(monkeypatch, old, new)
    server = start(tmp_path)
    caller = server.new_caller()
    for begin in range(0, 2000, 500):
        caller.publish("u", *(f"word{begin + number} boat" for number in range(500)))
    wait_until(lambda: caller.search(query="x").unindexed_count == 0, "all vectors")
    server.stop()
    use(monkeypatch, new)
    server = start(tmp_path)
    caller = back(server, caller)
    count, after = 0, 0
    while after < 5:  # and a little beyond
        caller.publish("u", f"fresh{count}")
        answer = caller.search(user_id="u", query=f"fresh{count}", top_k=1)
        assert answer.unindexed_count == 0
        assert answer.hits[0].interaction.content == f"fresh{count}"
        assert answer.hits[0].semantic == pytest.approx(1.0, abs=1e-5)
        count += 1
        after += server.live_model() == 2
    wait_until(lambda: rows_by_model(tmp_path) == {2: 2000 + count}, "all and only new vectors")
    with server.app.database.read() as conn:
        assert waiting.first(conn) is None


def test_a_real_server_changes_its_model_and_is_killed_meanwhile(tmp_path: Path, model_dir: Path) -> None:
    email = create_account(tmp_path)
    server = ServerProcess(tmp_path, model_dir, "--embedder", "minilm-int8")
    started = [server]
    try:
        caller = log_in(server.address, email)
        caller.publish("u", *CONTENTS * 2)
        wait_until(lambda: caller.search(query="x").unindexed_count == 0, "all vectors")
        old, new = (load_embedder(name, model_dir) for name in ("minilm-int8", "minilm-fp32"))
        answers_by(old, caller, (None,))
        assert server.terminate() == 0

        server = ServerProcess(tmp_path, model_dir, "--embedder", "minilm-fp32")
        started.append(server)
        caller = back(server, caller)
        wait_until(lambda: status(tmp_path)["next_done"] >= BATCH, "a part of the new vectors")
        server.kill()
        done = status(tmp_path)["next_done"]
        assert done < 6 * BATCH, "killed too late to be of use"

        server = ServerProcess(tmp_path, model_dir, "--embedder", "minilm-fp32")
        started.append(server)
        caller = back(server, caller)
        assert status(tmp_path)["next_done"] >= done or status(tmp_path)["next_model"] is None
        failed: list[Exception] = []
        while status(tmp_path)["next_model"] is not None:
            try:
                assert caller.search(query=QUESTION, top_k=10).unindexed_count == 0
            except Exception as error:
                failed.append(error)
        assert failed == []
        answers_by(new, caller)
        assert any("took over" in line for line in server.lines)
    finally:
        for one in started:
            if one.process.poll() is None:
                one.kill()


def test_only_exactly_the_same_model_is_loaded_by_its_id(model_dir: Path, tmp_path: Path) -> None:
    for name in ("minilm-int8", "minilm-fp32"):
        model_id = load_embedder(name, model_dir).model_id
        found = load_by_id(model_id, model_dir)
        assert found
        assert found.model_id == model_id
        assert load_by_id(model_id, tmp_path) is None, "its files are not there"
    assert load_by_id("all-MiniLM-L6-v2/int8/0", model_dir) is None, "of another version"
    assert load_by_id("something else/1", model_dir) is None


@pytest.mark.sqlite
def test_a_store_of_the_first_schema_keeps_its_vectors(
    tmp_path: Path, start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first one nothing said which model was live, and a collection's generation was its folder."""
    old = Words("old")
    use(monkeypatch, old)
    server = start(tmp_path)
    caller = server.new_caller()
    caller.publish("u", *CONTENTS)
    wait_until(lambda: caller.search(query="x").unindexed_count == 0, "all vectors")
    wait_until(lambda: status(tmp_path)["accounts"][0]["in_chroma"] == len(CONTENTS), "the index")
    server.stop()
    to_first_schema(tmp_path)
    old.embedded.clear()
    server = start(tmp_path)
    answers_by(old, back(server, caller))
    assert old.embedded == []
    wait_until(lambda: server.app.follower._index is not None, "the index to be opened")
    assert server.app.follower._index
    assert server.app.follower._index.number == 1, "it was kept"
