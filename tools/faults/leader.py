"""Of three servers the one that leads is killed or stalled: another leads soon, and nothing is built anew."""

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial

from reflexio.v1 import interaction_pb2 as noun
from tools.chroma_run import ChromaRun
from tools.faults.fleet import QUICK_EMBEDDER, Fleet, Server
from tools.faults.repeating import Repeater, calling, judge
from tools.faults.row import OF_POSTGRES, Row, Run
from tools.soundness import against_chroma, faults

PROCESSES = 3
KILLS, STALLS, SHORT_KILLS, SHORT_STALLS = 10, 3, 2, 1
KILLED_SECONDS, STALLED_SECONDS = 1.0, 16.0
_SHORT_MARGIN = 8  # the short form is a test, beside other programs
_STORED = 5_500  # an account with fewer vectors than 5,000 asks no index
_PATIENCE = 180.0


def run(run: Run, plant: str = "") -> Row:
    """Who led and was stalled goes on as one of the others."""
    if run.cluster is None:
        return Row("leader", {}, skipped=OF_POSTGRES)
    kills, stalls = (SHORT_KILLS, SHORT_STALLS) if run.short else (KILLS, STALLS)
    row = Row("leader", {})
    with ChromaRun(run.folder / "chroma") as chroma, Fleet() as fleet:
        store = run.store("server-0")
        arguments = (*QUICK_EMBEDDER, "--chroma-url", chroma.url)
        servers = [Server(fleet, store, plant, arguments)]
        for number in range(1, PROCESSES):
            beside = store.beside(f"server-{number}")
            servers.append(Server(fleet, beside, plant, arguments, api_key=servers[0].api_key))
        for server in servers:
            server.start()
        caller = servers[0].caller()
        _wait(partial(_any_leads, servers))
        if plant:
            time.sleep(5)
            row.exactly("leaders_too_many", sum(map(_leads, servers)) - 1, 0)
            return row
        for first in range(0, _STORED, 100):
            texts = (noun.InteractionData(content=f"boat {first + number}") for number in range(100))
            caller.publish(f"stored {first % 1000}", *texts)
        _wait(lambda: not store.rows("SELECT 1 FROM waiting LIMIT 1") and _is_whole(against_chroma(store.rows, chroma)))
        before = set(store.rows("SELECT folder, account_id, model, generation FROM collections"))
        addresses = [server.address for server in servers]
        publisher = Repeater(addresses, servers[0].api_key, "user", random.Random(run.chosen.random()), pause=0.05)
        took: dict[str, list[float]] = {"killed": [], "stalled": []}
        most = 0
        with calling([publisher]):
            for how in ["killed"] * kills + ["stalled"] * stalls:
                _wait(lambda: sum(map(_leads, servers)) == 1)
                leader = next(server for server in servers if _leads(server))
                others = [server for server in servers if server is not leader]
                began = time.monotonic()
                if how == "killed":
                    leader.kill()
                else:
                    os.kill(leader.pid, signal.SIGSTOP)
                _wait(partial(_any_leads, others))
                took[how].append(time.monotonic() - began)
                if how == "killed":
                    leader.start()
                else:
                    os.kill(leader.pid, signal.SIGCONT)
                    _wait(partial(_leads_no_more, leader))
                most = max(most, sum(map(_leads, servers)))
        judge(row, [publisher], caller)
        caller.channel.close()
        margin = _SHORT_MARGIN if run.short else 1
        row.at_least("kills", len(took["killed"]), kills)
        row.at_least("stalls", len(took["stalled"]), stalls)
        row.at_most("longest_after_kill_s", round(max(took["killed"]), 2), margin * KILLED_SECONDS)
        row.at_most("longest_after_stall_s", round(max(took["stalled"]), 2), margin * STALLED_SECONDS)
        row.exactly("leaders_too_many", most - 1, 0)
        _wait(lambda: not store.rows("SELECT 1 FROM waiting LIMIT 1") and _is_whole(against_chroma(store.rows, chroma)))
        after = set(store.rows("SELECT folder, account_id, model, generation FROM collections"))
        row.exactly("built_anew", len(after - before), 0)
        found = against_chroma(store.rows, chroma)
        row.exactly("vectors_amiss", found["missing"] + found["extra"] + found["wrong"], 0)
        unsound = faults(store.data_dir, store.url)
        row.expect(not unsound, f"the database has {unsound}")
    return row


def _leads(server: Server) -> bool:
    """Whether the process that runs said last that it leads."""
    said = server.said() if server.alive() else ""
    return said.rfind("this process leads:") > said.rfind("this process leads no more")


def _any_leads(servers: Sequence[Server]) -> bool:
    return any(map(_leads, servers))


def _leads_no_more(server: Server) -> bool:
    return not _leads(server)


def _is_whole(found: dict[str, int]) -> bool:
    return found["vectors"] >= _STORED and not found["missing"] and not found["extra"]


def _wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not done():
        if time.monotonic() > deadline:
            raise RuntimeError("it did not come to be in time")
        time.sleep(0.01)
