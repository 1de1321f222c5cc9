"""20,000 published while the server is down: drained when it comes, each process's in the order it published."""

import itertools
import time
from collections.abc import Callable

from tools.faults.fleet import START_SECONDS, Fleet, Server
from tools.faults.oracle import accepted, client_environment, judge, stored
from tools.faults.row import Row, Run

PROCESSES = 4
COUNT, SHORT_COUNT = 20_000, 4_000
DRAIN_SECONDS = 120.0


def run(run: Run) -> Row:
    count = SHORT_COUNT if run.short else COUNT
    each = count // PROCESSES
    files = [run.folder / f"ids-{number}" for number in range(PROCESSES)]
    with Fleet() as fleet:
        server = Server(fleet, run.store())
        environment = client_environment(server, run.folder / "spool")
        processes = [
            fleet.start("publisher", "stay", str(each), "0", str(ids), log=run.folder / "log", environment=environment)
            for ids in files
        ]
        _wait(lambda: len(accepted(*files)) == count, START_SECONDS)
        starting = time.monotonic()
        server.start()
        began = time.monotonic()
        _wait(lambda: all(process.poll() is not None for process in processes), DRAIN_SECONDS)
        drained = time.monotonic() - began
        found = stored(server)
    verdict = judge(accepted(*files), found)
    order = [[found[one][0] for one in accepted(ids) if one in found] for ids in files]
    out_of_order = sum(a > b for sequences in order for a, b in itertools.pairwise(sequences))
    row = Row("outage", {})
    verdict.report(row)
    row.exactly("accepted", verdict.accepted, count)
    row.exactly("out_of_order", out_of_order, 0)
    row.figures |= {"server_start_s": round(began - starting, 1), "drain_s": round(drained, 1)}
    return row


def _wait(done: Callable[[], bool], seconds: float) -> None:
    """Wait until it is done, at most so long: what is missing then shows in the figures."""
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.05)
