"""The sweep can fail: with each planted fault it finds a loss or a duplicate."""

import random

from tools.faults.fleet import Fleet
from tools.faults.kill_sweep import Quotas, sweep
from tools.faults.plants import ACKNOWLEDGE_FIRST, NO_UNIQUE_KEY, UNSPOOL_FIRST
from tools.faults.row import Row, Run

_PLANTS = {
    ACKNOWLEDGE_FIRST: ("lost", Quotas(client_kills=0, server_kills=3, accepted=100)),
    UNSPOOL_FIRST: ("lost", Quotas(client_kills=6, server_kills=0, accepted=100)),
    NO_UNIQUE_KEY: ("duplicated", Quotas(client_kills=6, server_kills=2, accepted=100)),
}
_SECONDS = 2.0  # of the first sweep; each that follows takes so much longer, as a server starts slowly on some machines
_ROUNDS = 5  # a kill finds the moment by chance


def run(run: Run) -> Row:
    row = Row("planted", {"planted": len(_PLANTS)})
    caught = 0
    for plant, (what, quotas) in _PLANTS.items():
        found = {"lost": 0, "duplicated": 0, "rounds": 0}
        while not found[what] and found["rounds"] < _ROUNDS:
            found["rounds"] += 1
            store = run.store(f"{plant}-{found['rounds']}/data")
            with Fleet() as fleet:
                chosen = random.Random(run.chosen.random())
                verdict = sweep(fleet, store, chosen, _SECONDS * found["rounds"], quotas, plant).start.verdict
            found["lost"] += len(verdict.lost)
            found["duplicated"] += len(verdict.duplicated)
        caught += found[what] > 0
        row.figures[plant] = f"{found[what]} {what} in {found['rounds']} sweeps"
        row.expect(found[what] > 0, f"{plant} was not caught in {_ROUNDS} sweeps")
    row.exactly("caught", caught, len(_PLANTS))
    return row
