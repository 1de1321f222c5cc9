"""Two servers, a worker, PostgreSQL and Chroma are killed again and again: nothing is lost, doubled or told wrongly."""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.chroma_run import ChromaRun
from tools.faults.fleet import QUICK_EMBEDDER, Fleet, Server, end
from tools.faults.oracle import accepted, client_environment, next_start, wait_until_read
from tools.faults.repeating import Repeater, calling, judge
from tools.faults.row import OF_POSTGRES, Row, Run
from tools.faults.stores import Store
from tools.postgres_run import Cluster
from tools.soundness import against_chroma, faults

KILLS = {"server": 20, "worker": 10, "postgres": 10, "chroma": 10}
SHORT_KILLS = {"server": 4, "worker": 2, "postgres": 2, "chroma": 2}
ACCEPTED, SHORT_ACCEPTED = 20_000, 1_000
_PUBLISHERS, _CALLERS = 4, 4
_PAUSE = 0.03  # of a publisher, and at most so many each
_MOST_EACH, _SHORT_MOST_EACH = 8_000, 2_000
_LONGEST_UP, _LONGEST_DOWN = 1.0, 1.0
_LONGEST = 900.0
_DRAIN_SECONDS = 300.0


def run(run: Run, plant: str = "") -> Row:
    """Processes publish by the client and its spool; others call, and look at every answer."""
    if run.cluster is None:
        return Row("cluster-kill", {}, skipped=OF_POSTGRES)
    wanted, least = (SHORT_KILLS, SHORT_ACCEPTED) if run.short else (KILLS, ACCEPTED)
    row = Row("cluster-kill", {})
    with ChromaRun(run.folder / "chroma") as chroma, Fleet() as fleet:
        store = run.store("server-1")
        both = (*QUICK_EMBEDDER, "--chroma-url", chroma.url)
        first = Server(fleet, store, plant, ("--no-indexing", *both))
        second = Server(fleet, store.beside("server-2"), plant, ("--no-indexing", *both), api_key=first.api_key)
        worker = Server(fleet, store.beside("worker"), plant, both, api_key=first.api_key, works_behind=True)
        for server in (first, second, worker):
            server.start()
        callers = [
            Repeater([first.address, second.address], first.api_key, f"user {n}", random.Random(run.chosen.random()))
            for n in range(_CALLERS)
        ]
        spool, files = run.folder / "spool", [run.folder / f"ids-{number}" for number in range(_PUBLISHERS)]
        first.url = f"http://{first.address},{second.address}/"  # for clients, and the next start
        environment = client_environment(first, spool)
        kills = Killer(run.chosen, [first, second], worker, run.cluster, chroma)
        began = time.monotonic()
        with calling(callers):
            publishers = [
                fleet.start(
                    *("publisher", "stay", str(_SHORT_MOST_EACH if run.short else _MOST_EACH), str(_PAUSE), str(file)),
                    log=run.folder / "publishers.log",
                    environment=environment,
                )
                for file in files
            ]
            while time.monotonic() < began + _LONGEST and not (
                kills.has_made(wanted) and _count(callers, files) >= least
            ):
                kills.make_one(wanted)
            for publisher in publishers:
                end(publisher)
        row.figures["killed_s"] = round(time.monotonic() - began, 1)
        ids = accepted(*files)
        began = time.monotonic()
        start = next_start(fleet, first, [spool], run.folder / "adopter.log", ids, _DRAIN_SECONDS)
        row.figures["drain_s"] = round(time.monotonic() - began, 1)
        wait_until_read(second.caller())
        caller = second.caller()
        judge(row, callers, caller)
        caller.channel.close()
        for kind, least_kills in wanted.items():
            row.at_least(f"{kind}_kills", kills.made[kind], least_kills)
        row.at_least("accepted", row.figures["accepted"] + start.verdict.accepted, least)
        row.failures += start.verdict.failures(row.name)
        row.exactly("lost_of_spool", len(start.verdict.lost), 0)
        row.exactly("twice_of_spool", len(start.verdict.duplicated), 0)
        deadline = time.monotonic() + _DRAIN_SECONDS
        while store.rows("SELECT 1 FROM waiting LIMIT 1") and time.monotonic() < deadline:
            time.sleep(0.5)
        unsound = faults(store.data_dir, store.url)
        row.expect(not unsound, f"the database has {unsound}")
        while (found := _compared(store, chroma))["missing"] and time.monotonic() < deadline:
            time.sleep(0.5)
        row.figures["vectors"] = found["vectors"]
        row.exactly("missing_vectors", found["missing"], 0)
        row.exactly("wrong_vectors", found["wrong"], 0)
    return row


def _compared(store: Store, chroma: ChromaRun) -> Counter[str]:
    found = against_chroma(store.rows, chroma)
    if not store.rows("SELECT 1 FROM collections LIMIT 1"):  # few vectors are compared without one
        found["missing"] = 0
    return found


class Killer:
    """Kills one after another, and starts each again."""

    def __init__(
        self, chosen: random.Random, servers: Sequence[Server], worker: Server, cluster: Cluster, chroma: ChromaRun
    ) -> None:
        self.made: Counter[str] = Counter()
        self._chosen = chosen
        self._servers, self._worker, self._cluster, self._chroma = servers, worker, cluster, chroma
        for server in (*servers, worker):
            server.prepare()

    def has_made(self, wanted: dict[str, int]) -> bool:
        return all(self.made[kind] >= count for kind, count in wanted.items())

    def make_one(self, wanted: dict[str, int]) -> None:
        """Of a kind of which some are still wanted, or of any."""
        left = [kind for kind, count in wanted.items() for _ in range(count - self.made[kind])]
        kind = self._chosen.choice(left or list(wanted))
        time.sleep(self._chosen.uniform(0, _LONGEST_UP))
        kill, start = self._of(kind)
        kill()
        time.sleep(self._chosen.uniform(0, _LONGEST_DOWN))
        start()
        self.made[kind] += 1

    def _of(self, kind: str) -> tuple[Callable[[], None], Callable[[], None]]:
        if kind == "postgres":
            return self._cluster.stop, self._cluster.start
        if kind == "chroma":
            return self._chroma.kill, self._chroma.start
        server = self._worker if kind == "worker" else self._chosen.choice(self._servers)

        def start() -> None:
            server.start()
            server.prepare()

        return server.kill, start


def _count(callers: Sequence[Repeater], files: Sequence[Path]) -> int:
    return len(accepted(*files)) + sum(len(one.accepted) for one in callers)
