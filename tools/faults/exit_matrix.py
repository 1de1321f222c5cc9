"""Every way a process can end × a server that is up, down or flapping: after the next start nothing is missing."""

import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tools.faults.fleet import Flapper, Fleet, Server, end
from tools.faults.oracle import Verdict, accepted, client_environment, judge, next_start
from tools.faults.publisher import WAYS
from tools.faults.row import Row, Run

COUNT = 100
STATES = ("up", "down", "flapping")
EXIT_SECONDS = 60.0  # to publish and to end, on a loaded machine
FLAPPING_PAUSE = 0.02  # so that a cell sees the server come or go
_AT_ONCE = 3
_EXPECTED_EXIT = {"exception": 1, "sigterm": -signal.SIGTERM, "sigint": -signal.SIGINT, "sigkill": -signal.SIGKILL}
_EXPECTED_COUNT = {"fork": 3 * COUNT, "spawn": 2 * COUNT}


@dataclass(slots=True)
class Cell:
    """One way with one state of the server, on a spool folder of its own."""

    way: str
    state: str
    folder: Path
    wrong: list[str] = field(default_factory=list)
    exit_seconds: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.way}, server {self.state}"

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def ids(self) -> list[str]:
        return accepted(self.folder / "ids")

    def publish(self, fleet: Fleet, server: Server) -> None:
        """Run the process to its end, and check that it accepted all and ended as it should."""
        self.folder.mkdir(parents=True)
        pause = FLAPPING_PAUSE if self.state == "flapping" else 0
        arguments = (self.way, str(COUNT), str(pause), str(self.folder / "ids"))
        began = time.monotonic()
        environment = client_environment(server, self.spool)
        process = fleet.start("publisher", *arguments, log=self.log, environment=environment)
        try:
            status = process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.wrong.append(f"{self.name}: it did not end within {EXIT_SECONDS:g} s")
            end(process)
            return
        self.exit_seconds = time.monotonic() - began
        if status != _EXPECTED_EXIT.get(self.way, 0):
            self.wrong.append(f"{self.name}: it ended with {status}: {self.log.read_text()[-300:]}")
        if len(self.ids()) != (wanted := _EXPECTED_COUNT.get(self.way, COUNT)):
            self.wrong.append(f"{self.name}: it accepted {len(self.ids())} of {wanted}")


def run(run: Run) -> Row:
    with Fleet() as fleet:
        server = Server(fleet, run.store())
        cells: list[Cell] = []
        verdicts: list[Verdict] = []
        flaps = 0
        for state in STATES:
            of_state = [Cell(way, state, run.folder / state / way) for way in WAYS]
            flaps += _publish_all(fleet, server, state, of_state, run)
            # The long form starts a process for each cell; the short one has a client for each in one process.
            groups = [of_state] if run.short else [[cell] for cell in of_state]
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                verdicts += [v for found in pool.map(lambda group: _judge(fleet, server, group), groups) for v in found]
            cells += of_state
    row = Row("exit-matrix", {"cells": len(cells)})
    for cell, verdict in zip(cells, verdicts, strict=True):
        row.failures += cell.wrong + verdict.failures(cell.name)
    row.figures["accepted"] = sum(v.accepted for v in verdicts)
    row.exactly("lost", sum(len(v.lost) for v in verdicts), 0)
    row.exactly("duplicated", sum(len(v.duplicated) for v in verdicts), 0)
    row.at_least("flaps", flaps, 1)
    row.figures["slowest_cell_s"] = round(max(cell.exit_seconds for cell in cells), 1)
    return row


def _publish_all(fleet: Fleet, server: Server, state: str, cells: list[Cell], run: Run) -> int:
    """Run the cells with the server in this state, and leave it up; returns how often it flapped."""
    with ExitStack() as opened:
        if state == "down":
            server.kill()
        elif state == "up":
            server.start()
        kills = server.kills
        if state == "flapping":
            opened.enter_context(Flapper(server, run.chosen, longest_up=1.0, longest_down=0.5, longest_idle=1.5))
        waiting = state == "down" or (state == "flapping" and run.short)  # most of it, so all at once is fine
        with ThreadPoolExecutor(len(cells) if waiting else _AT_ONCE) as pool:
            list(pool.map(lambda cell: cell.publish(fleet, server), cells))
    if state == "down":
        server.start()
        return 0
    return server.kills - kills


def _judge(fleet: Fleet, server: Server, cells: list[Cell]) -> list[Verdict]:
    """The next start of these cells. Ids are unique in the account: what is doubled is named by its cell."""
    everything = [one for cell in cells for one in cell.ids()]
    found = next_start(fleet, server, [c.spool for c in cells], cells[0].log, everything, EXIT_SECONDS).found
    verdicts = []
    for cell in cells:
        ids = cell.ids()
        verdicts.append(judge(ids, {one: found[one] for one in ids if one in found}))
    return verdicts
