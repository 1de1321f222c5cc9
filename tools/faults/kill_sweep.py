"""SIGKILL at random moments, to processes that publish and to the server, while all of them share one spool folder."""

import random
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tools.faults.fleet import Flapper, Fleet, Server, end
from tools.faults.oracle import Start, accepted, client_environment, next_start
from tools.faults.row import Row, Run
from tools.faults.stores import Store

CLIENT_KILLS, SERVER_KILLS, ACCEPTED = 100, 20, 20_000  # in a minute
WRITERS = 4
_PAUSE = 0.005
_MOST_EACH = 2_000  # of a writer, so that the sweep is bounded in count too
_LONGEST_LIFE = 2.0
_LONGER = 3  # a loaded machine may take so many times as long to reach the quotas
_IDLE, _PLANTED_IDLE = 0.8, 4.0  # with a planted fault a kill must find something on its way
DRAIN_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Quotas:
    """What a sweep must reach to count."""

    client_kills: int
    server_kills: int
    accepted: int

    @classmethod
    def for_seconds(cls, scale: float) -> "Quotas":
        return cls(round(CLIENT_KILLS * scale), round(SERVER_KILLS * scale), round(ACCEPTED * scale))


@dataclass(slots=True)
class Sweep:
    """What a sweep did, and the start after it."""

    client_kills: int
    server_kills: int
    sweep_seconds: float
    drain_seconds: float
    start: Start


class Writer:
    """A place for a process that publishes; when it is killed another takes it."""

    def __init__(self, fleet: Fleet, server: Server, folder: Path, number: int, chosen: random.Random, plant: str):
        self.files: list[Path] = []
        self._fleet, self._server, self._folder, self._number = fleet, server, folder, number
        self._chosen = chosen
        self._plant = plant
        self._start()

    def _start(self) -> None:
        self._ids = self._folder / f"ids-{self._number}-{len(self.files)}"
        self.files.append(self._ids)
        self._dies_at: float | None = None
        self._process: subprocess.Popen[bytes] = self._fleet.start(
            "publisher",
            *("stay", str(_MOST_EACH), str(_PAUSE), str(self._ids)),
            log=self._folder / f"writer-{self._number}.log",
            environment=client_environment(self._server, self._folder / "spool"),
            plant=self._plant,
        )

    def kill_when_due(self) -> int:
        """Kill it when its time has come, which begins with its first id; returns how many were killed."""
        if self._dies_at is None:
            if self._ids.exists() and self._ids.stat().st_size:
                self._dies_at = time.monotonic() + self._chosen.uniform(0, _LONGEST_LIFE)
            elif self._process.poll() is not None:
                raise RuntimeError(f"a writer ended with {self._process.returncode}; see {self._folder}")
            return 0
        if time.monotonic() < self._dies_at:
            return 0
        alive = self._process.poll() is None
        end(self._process)
        self._start()
        return int(alive)

    def stop(self) -> None:
        end(self._process)


def sweep(fleet: Fleet, store: Store, chosen: random.Random, seconds: float, quotas: Quotas, plant: str = "") -> Sweep:
    """Sweep for so many seconds, longer when the quotas are not reached, then drain and judge."""
    folder = store.data_dir.parent
    server = Server(fleet, store, plant)
    server.start()
    began = time.monotonic()
    kills = 0
    with ExitStack() as opened:
        idle = _PLANTED_IDLE if plant else _IDLE
        flapper = Flapper(server, chosen, longest_up=0.5, longest_down=0.2, longest_idle=idle)
        if quotas.server_kills:
            opened.enter_context(flapper)
        writers = [Writer(fleet, server, folder, n, random.Random(chosen.random()), plant) for n in range(WRITERS)]
        files = [file for writer in writers for file in writer.files]
        while (passed := time.monotonic() - began) < _LONGER * seconds:
            flapper.check()
            kills += sum(writer.kill_when_due() for writer in writers)
            if passed > seconds and kills >= quotas.client_kills and server.kills >= quotas.server_kills:
                files = [file for writer in writers for file in writer.files]
                if len(accepted(*files)) >= quotas.accepted:
                    break
            time.sleep(0.02)
        for writer in writers:
            writer.stop()
            kills += 1
        swept = time.monotonic() - began
        files = [file for writer in writers for file in writer.files]
    ids = accepted(*files)
    began = time.monotonic()
    start = next_start(fleet, server, [folder / "spool"], folder / "adopter.log", ids, DRAIN_SECONDS)
    return Sweep(kills, server.kills, round(swept, 1), round(time.monotonic() - began, 1), start)


def run(run: Run) -> Row:
    quotas = Quotas.for_seconds(run.scale)
    with Fleet() as fleet:
        done = sweep(fleet, run.store(), run.chosen, run.seconds, quotas)
    row = Row("kill-sweep", {})
    row.at_least("client_kills", done.client_kills, quotas.client_kills)
    row.at_least("server_kills", done.server_kills, quotas.server_kills)
    done.start.verdict.report(row)
    row.at_least("accepted", done.start.verdict.accepted, quotas.accepted)
    row.figures |= {
        "missed_by_flush": done.start.missed_by_flush,
        "sweep_s": done.sweep_seconds,
        "drain_s": done.drain_seconds,
    }
    return row
