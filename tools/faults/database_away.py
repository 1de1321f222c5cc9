"""PostgreSQL is stopped at once and started again: callers are told to come again, the index forgets nothing."""

import random
import time

from reflexio.v1 import interaction_pb2 as noun
from tools.chroma_run import ChromaRun
from tools.faults.fleet import QUICK_EMBEDDER, Fleet, Server
from tools.faults.repeating import Attempt, Repeater, calling, judge
from tools.faults.row import OF_POSTGRES, Row, Run
from tools.faults.stores import Store
from tools.soundness import against_chroma, faults

TIMES, SHORT_TIMES = 3, 1
AWAY_SECONDS, SHORT_AWAY_SECONDS = 20.0, 4.0
BACK_SECONDS, SHORT_BACK_SECONDS = 2.0, 10.0  # the short form is a test, beside other programs
_STORED = 6_000  # an account with fewer vectors than 5,000 asks no index
_CALLERS = 4
_MOMENT = 2.0
_PATIENCE = 120.0


def run(run: Run, plant: str = "") -> Row:
    """Refusals count while it is away; who asks again and again then shows how soon calls are answered."""
    if run.cluster is None:
        return Row("database-away", {}, skipped=OF_POSTGRES)
    row = Row("database-away", {})
    back: list[float] = []
    with ChromaRun(run.folder / "chroma") as chroma, Fleet() as fleet:
        server = Server(fleet, run.store(), plant, arguments=("--chroma-url", chroma.url, *QUICK_EMBEDDER))
        server.start()
        caller = server.caller()
        if not plant:
            for first in range(0, _STORED, 100):
                texts = (noun.InteractionData(content=f"boat {first + number}") for number in range(100))
                caller.publish(f"stored {first % 1000}", *texts)
            _wait_until_whole(server.store, chroma)
        before = _collections(server.store)
        callers = [
            Repeater([server.address], server.api_key, f"user {number}", random.Random(run.chosen.random()), reads=2)
            for number in range(_CALLERS)
        ]
        with calling(callers):
            for _ in range(SHORT_TIMES if run.short else TIMES):
                time.sleep(_MOMENT)
                run.cluster.stop("immediate")
                time.sleep(SHORT_AWAY_SECONDS if run.short else AWAY_SECONDS)
                run.cluster.start()
                ready = time.monotonic()
                time.sleep(_MOMENT + (SHORT_BACK_SECONDS if run.short else BACK_SECONDS))
                back.append(_first_answer([one for each in callers for one in each.attempts], ready) - ready)
        judge(row, callers, caller)
        row.at_least("refused", row.figures["refused"], 1)
        row.at_most("first_answer_s", round(max(back), 2), SHORT_BACK_SECONDS if run.short else BACK_SECONDS)
        if not plant:
            _wait_until_whole(server.store, chroma)
        row.exactly("collections_forgotten", len(before - _collections(server.store)), 0)
        found = against_chroma(server.store.rows, chroma)
        row.exactly("missing_vectors", found["missing"], 0)
        row.exactly("wrong_vectors", found["wrong"], 0)
        unsound = faults(server.store.data_dir, server.store.url)
        row.expect(not unsound, f"the database has {unsound}")
        caller.channel.close()
    return row


def _first_answer(attempts: list[Attempt], ready: float) -> float:
    """When the first call was answered that was answered after this moment; infinity when none was."""
    ends = [one.began + one.seconds for one in attempts if one.code == "OK"]
    return min((end for end in ends if end > ready), default=float("inf"))


def _collections(store: Store) -> set[tuple[object, ...]]:
    return set(store.rows("SELECT folder, account_id, model, generation FROM collections"))


def _wait_until_whole(store: Store, chroma: ChromaRun) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        found = against_chroma(store.rows, chroma)
        ((waiting,),) = store.rows("SELECT count(*) FROM waiting")
        if found["vectors"] and not waiting and not found["missing"]:
            return
        time.sleep(0.5)
