"""A Chroma server that is killed, stalled, emptied, older or newer than the database: done without, then whole."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from statistics import median
from typing import Any

import grpc
import numpy as np

from reflexio.v1 import interaction_pb2 as noun
from reflexio_server.storage.database import DATABASE_FILE
from tools.chroma_run import ChromaRun
from tools.faults.caller import Caller
from tools.faults.fleet import Fleet, Server
from tools.faults.row import Row, Run

COUNT = 6_000  # an account with fewer vectors than 5,000 asks no index
LATER = 300  # published between two faults, more than a batch of the index's
CALLS, SHORT_CALLS = 200, 20
_WHOLE_SECONDS = 120.0
_AWAY_SECONDS = 3.0
_WORDS = "boat river ship lake dog cat horse bread cheese wine apple car train plane city house garden music".split()
# A model that takes no time: what is looked at is the index.
_EMBEDDER = ("--embedder", "wordllama")


def run(run: Run) -> Row:
    """The figures of every fault; ratios compare with before, where the server was as it should be."""
    calls = SHORT_CALLS if run.short else CALLS
    row = Row("chroma-server", {})
    with ChromaRun(run.folder / "chroma") as chroma, Fleet() as fleet:
        server = Server(fleet, run.folder, arguments=("--chroma-url", chroma.url, *_EMBEDDER))
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
        backup = run.folder / "backup.db"
        _command("backup", str(backup), "--data-dir", str(server.data_dir))
        seen.publish(LATER)
        seen.wait_until_whole()
        for older in (copy,) if run.short else (None, copy):
            chroma.replace(older)
            seen.wait_until_whole()
        seen.caller.channel.close()
        server.kill()
        _command("restore", str(backup), "--data-dir", str(server.data_dir))
        server.start()
        seen.caller = server.caller()
        seen.wait_until_whole()
        seen.publish(LATER)  # under the stamps that others had
        seen.wait_until_whole()
        seen.caller.channel.close()
    searches = [seconds for one in away for seconds in one["search"]]
    row.figures |= {"vectors": seen.checked, "searches_while_away": len(searches)}
    for figure, number in (
        ("failed_calls", seen.failed),
        ("wrong_vectors", seen.wrong),
        ("missing_vectors", seen.missing),
        ("vectors_too_many", seen.extra),
    ):
        row.exactly(figure, number, 0)
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
        self.failed = self.wrong = self.missing = self.extra = self.checked = 0
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
        wanted, held = self._stored(), self._held()
        self.checked += len(wanted)
        self.missing += len(wanted.keys() - held.keys())
        self.extra += len(held.keys() - wanted.keys())
        both = sorted(wanted.keys() & held.keys())
        if both:
            same = np.isclose([held[stamp] for stamp in both], [wanted[stamp] for stamp in both], atol=1e-3).all(axis=1)
            self.wrong += int((~same).sum())

    def _is_whole(self) -> bool:
        with closing(sqlite3.connect(self._server.data_dir / DATABASE_FILE)) as conn:
            (waiting,) = conn.execute("SELECT count(*) FROM waiting").fetchone()
            stamps = {stamp for (stamp,) in conn.execute("SELECT id FROM vectors")}
        return not waiting and stamps == set().union(*map(self._chroma.ids, self._live()))

    def _stored(self) -> dict[int, Any]:
        with closing(sqlite3.connect(self._server.data_dir / DATABASE_FILE)) as conn:
            return {stamp: np.frombuffer(one, "<f4") for stamp, one in conn.execute("SELECT id, vector FROM vectors")}

    def _held(self) -> dict[int, list[float]]:
        held: dict[int, list[float]] = {}
        for name in self._live():
            held |= self._chroma.vectors(name)
        return held

    def _live(self) -> list[str]:
        """The names on the Chroma server of the collections that searches ask."""
        with closing(sqlite3.connect(self._server.data_dir / DATABASE_FILE)) as conn:
            rows = conn.execute("SELECT folder, account_id, model, generation FROM collections").fetchall()
        live = tuple(f"-{number}-account-{account}-model-{model}-{last}" for number, account, model, last in rows)
        return [name for name in self._chroma.collections() if name.endswith(live)]

    def _count_failure(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except grpc.RpcError:
            self.failed += 1


def _command(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "reflexio_server", *arguments], check=True, capture_output=True, timeout=120)
