"""A Chroma server that is killed, stalled, emptied, older or newer than the database: done without, then whole."""

import time
from collections import Counter
from collections.abc import Callable
from statistics import median
from typing import Any

import grpc
import numpy as np

from reflexio.v1 import interaction_pb2 as noun
from tools.chroma_run import ChromaRun
from tools.faults.caller import Caller
from tools.faults.fleet import QUICK_EMBEDDER, Fleet, Server
from tools.faults.row import Row, Run
from tools.soundness import against_chroma, asked_collections, faults

COUNT = 6_000  # an account with fewer vectors than 5,000 asks no index
LATER = 300  # published between two faults, more than a batch of the index's
CALLS, SHORT_CALLS = 200, 20
_WHOLE_SECONDS = 120.0
_AWAY_SECONDS = 3.0
_WORDS = "boat river ship lake dog cat horse bread cheese wine apple car train plane city house garden music".split()
# A model that takes no time: what is looked at is the index.


def run(run: Run) -> Row:
    """The figures of every fault; ratios compare with before, where the server was as it should be."""
    calls = SHORT_CALLS if run.short else CALLS
    row = Row("chroma-server", {})
    with ChromaRun(run.folder / "chroma") as chroma, Fleet() as fleet:
        server = Server(fleet, run.store(), arguments=("--chroma-url", chroma.url, *QUICK_EMBEDDER))
        server.start()
        seen = Seen(run, server, chroma)
        seen.publish(COUNT)
        seen.wait_until_whole()
        before = seen.times(calls)
        away = []
        for go, come in ((chroma.kill, chroma.start), (chroma.stall, chroma.go_on)):
            go()
            away.append(seen.times(calls))
            come()
            seen.wait_until_whole()
        copy = chroma.copy(run.folder / "copy")
        backup = run.folder / "backup"
        server.store.keep(backup)
        seen.publish(LATER)
        seen.wait_until_whole()
        for older in (copy,) if run.short else (None, copy):
            chroma.replace(older)
            seen.wait_until_whole()
        seen.caller.channel.close()
        server.kill()
        server.store.put_back(backup)
        server.start()
        seen.caller = server.caller()
        seen.wait_until_whole()
        seen.publish(LATER)  # under the stamps that others had
        seen.wait_until_whole()
        seen.caller.channel.close()
        server.kill()
    searches = [seconds for one in away for seconds in one["search"]]
    row.figures |= {"vectors": seen.found["vectors"], "searches_while_away": len(searches)}
    for figure, number in (
        ("failed_calls", seen.failed),
        ("wrong_vectors", seen.found["wrong"]),
        ("missing_vectors", seen.found["missing"]),
        ("vectors_too_many", seen.found["extra"]),
    ):
        row.exactly(figure, number, 0)
    unsound = faults(server.store.data_dir, server.store.url)
    row.expect(not unsound, f"the database has {unsound}")
    for kind in ("publish", "user_search"):
        ratio = max(median(one[kind]) for one in away) / median(before[kind])
        row.at_most(f"{kind}_p50_ratio", round(ratio, 2), 4)
        p99 = max(float(np.quantile(one[kind], 0.99)) for one in away)
        row.figures[f"{kind}_p99_ms"] = round(1000 * p99, 1)
    row.at_most("longest_search_s", round(max(searches), 2), 3)
    row.at_most("searches_that_waited", sum(seconds > 1 for seconds in searches), len(away))
    row.at_most("whole_again_s", round(seen.longest, 1), _WHOLE_SECONDS)
    return row


class Seen:
    """A server and its Chroma server, as who calls them sees them, and what was wrong with them."""

    def __init__(self, run: Run, server: Server, chroma: ChromaRun) -> None:
        self.caller: Caller = server.caller()
        self.failed = 0
        self.found: Counter[str] = Counter()  # see soundness.against_chroma, each time that it is looked
        self.longest = 0.0  # seconds until the index was whole again
        self._chosen = run.chosen
        self._server = server
        self._chroma = chroma

    def publish(self, count: int) -> None:
        for start in range(0, count, 100):
            texts = [" ".join(self._chosen.choices(_WORDS, k=6)) + f" {start + number}" for number in range(100)]
            user = f"user {self._chosen.randrange(20)}"
            self.caller.publish(user, *(noun.InteractionData(content=text) for text in texts))

    def times(self, count: int) -> dict[str, list[float]]:
        """Seconds of so many publishes, searches of one user and of the whole account, in turns."""
        taken: dict[str, list[float]] = {"publish": [], "user_search": [], "search": []}
        until = time.monotonic() + _AWAY_SECONDS
        while len(taken["search"]) < count or time.monotonic() < until:
            query = " ".join(self._chosen.choices(_WORDS, k=2))
            user = f"user {self._chosen.randrange(20)}"
            for kind, call in (
                ("search", lambda query=query: self.caller.search(query=query)),
                ("publish", lambda query=query: self.caller.publish("late", noun.InteractionData(content=query))),
                ("user_search", lambda query=query, user=user: self.caller.search(user_id=user, query=query)),
            ):
                began = time.monotonic()
                self._count_failure(call)
                taken[kind].append(time.monotonic() - began)
        return taken

    def wait_until_whole(self) -> None:
        """Wait until all can be compared by the index, and count what it holds that SQL does not, and the reverse."""
        began = time.monotonic()
        deadline = began + _WHOLE_SECONDS
        while not self._is_whole() and time.monotonic() < deadline:
            time.sleep(0.5)
        self.longest = max(self.longest, time.monotonic() - began)
        self.found += against_chroma(self._server.store.rows, self._chroma)

    def _is_whole(self) -> bool:
        rows = self._server.store.rows
        ((waiting,),) = rows("SELECT count(*) FROM waiting")
        stamps = {stamp for (stamp,) in rows("SELECT id FROM vectors")}
        return not waiting and stamps == set().union(*map(self._chroma.ids, asked_collections(rows, self._chroma)))

    def _count_failure(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except grpc.RpcError:
            self.failed += 1
