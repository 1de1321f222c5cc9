"""The runs can fail: with each planted fault they find what must not be."""

import random
from collections.abc import Callable

from tools.faults import balance, database_away, freshness, leader, order, pool, unknown_commit
from tools.faults.fleet import Fleet
from tools.faults.kill_sweep import Quotas, sweep
from tools.faults.plants import (
    ACKNOWLEDGE_FIRST,
    AGELESS,
    ALL_LEAD,
    AWAY_IS_UNFORESEEN,
    BELIEVE_COMMITS,
    DRAW_AHEAD,
    LOCK_BACKWARDS,
    NO_UNIQUE_KEY,
    READ_OLD_SNAPSHOTS,
    UNSPOOL_FIRST,
    WAIT_FOR_EVER,
)
from tools.faults.row import SHORT_SECONDS, Row, Run

_PLANTS = {
    ACKNOWLEDGE_FIRST: ("lost", Quotas(client_kills=0, server_kills=3, accepted=100)),
    UNSPOOL_FIRST: ("lost", Quotas(client_kills=6, server_kills=0, accepted=100)),
    NO_UNIQUE_KEY: ("duplicated", Quotas(client_kills=6, server_kills=2, accepted=100)),
}
"""What the sweep finds."""
_OF_POSTGRES: dict[str, tuple[Callable[[Run, str], Row], str]] = {
    BELIEVE_COMMITS: (unknown_commit.run, "lost"),
    AWAY_IS_UNFORESEEN: (database_away.run, "internal"),
    WAIT_FOR_EVER: (pool.run, "refused"),
    DRAW_AHEAD: (order.run, "never_seen"),
    LOCK_BACKWARDS: (order.run, "deadlocks"),
    ALL_LEAD: (leader.run, "leaders_too_many"),
    AGELESS: (balance.run, "least_share"),
    READ_OLD_SNAPSHOTS: (freshness.run, "not_seen"),
}
"""The row that finds it, in its short form, and the figure that is not what it must be then."""
_SECONDS = 2.0  # of the first sweep; each that follows takes so much longer, as a server starts slowly on some machines
_ROUNDS = 5  # a kill finds the moment by chance


def run(run: Run) -> Row:
    of_rows = _OF_POSTGRES if run.cluster else {}
    row = Row("planted", {"planted": len(_PLANTS) + len(of_rows)})
    caught = sum(_is_swept_up(row, run, plant) for plant in _PLANTS)
    for plant, (find, figure) in of_rows.items():
        folder = run.folder / plant
        folder.mkdir()
        before = run.deadlocks()
        found = find(Run(folder, random.Random(run.chosen.random()), SHORT_SECONDS, True, run.cluster), plant)
        found.exactly("deadlocks", run.deadlocks() - before, 0)
        row.figures[plant] = f"{figure} {found.figures.get(figure)}"
        row.expect(figure in found.missed, f"{plant} was not caught: {found.line()}")
        caught += figure in found.missed
    row.exactly("caught", caught, row.figures["planted"])
    return row


def _is_swept_up(row: Row, run: Run, plant: str) -> bool:
    what, quotas = _PLANTS[plant]
    found = {"lost": 0, "duplicated": 0, "rounds": 0}
    while not found[what] and found["rounds"] < _ROUNDS:
        found["rounds"] += 1
        store = run.store(f"{plant}-{found['rounds']}/data")
        with Fleet() as fleet:
            chosen = random.Random(run.chosen.random())
            verdict = sweep(fleet, store, chosen, _SECONDS * found["rounds"], quotas, plant).start.verdict
        found["lost"] += len(verdict.lost)
        found["duplicated"] += len(verdict.duplicated)
    row.figures[plant] = f"{found[what]} {what} in {found['rounds']} sweeps"
    row.expect(found[what] > 0, f"{plant} was not caught in {_ROUNDS} sweeps")
    return found[what] > 0
