"""Simulated power cuts: the server's own writes on a disk that loses, tears and shuffles what was not synced."""

import os
import platform
import random
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from reflexio_server.storage.database import DATABASE_FILE, Database, own
from reflexio_server.storage.store import DatabaseUnusable
from reflexio_server.storage.writer import Writer
from tools.faults.disk import Change, Disk, read_log
from tools.faults.fleet import Fleet
from tools.faults.power_child import ACCOUNT_ID, ACKNOWLEDGED, make_request
from tools.faults.row import Row, Run

CUTS, CONTROL_CUTS, SHORT_CUTS, SHORT_CONTROL_CUTS = 330, 66, 30, 10
_CUTS_A_LOG = 33  # then another workload
_REQUESTS = 1200  # several checkpoints
_SHORT_REQUESTS = 400
_AGAIN = 20  # requests that are sent again after a cut
_RECORD_SECONDS = 120
_REQUEST_SIZES = """SELECT r.request_id, count(i.id) FROM requests r LEFT JOIN interactions i ON i.request_ref = r.id
                    GROUP BY r.id"""


@dataclass(slots=True)
class Arm:
    """What an arm found: acknowledged requests over all cuts, lost ones, cuts that lost, and what else was wrong."""

    cuts: int = 0
    acknowledged: int = 0
    lost: int = 0
    cuts_with_loss: int = 0
    wrong: list[str] = field(default_factory=list)


def run(run: Run) -> Row:
    if run.cluster is not None:
        return Row("power-cut", {}, skipped="its disk is under SQLite's files; PostgreSQL has its own way of writing")
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None or platform.system() != "Linux":
        why = "there is no C compiler" if compiler is None else "it needs Linux's LD_PRELOAD"
        return Row("power-cut", {}, skipped=f"{why}, with which the writes are recorded")
    recorder = run.folder / "recorder.so"
    source = Path(__file__).with_name("recorder.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", recorder, source, "-ldl", "-lpthread"], check=True)
    cuts, control_cuts = (SHORT_CUTS, SHORT_CONTROL_CUTS) if run.short else (CUTS, CONTROL_CUTS)
    full = _arm(run, recorder, "FULL", cuts)
    control = _arm(run, recorder, "NORMAL", control_cuts)
    row = Row("power-cut", {}, full.wrong)
    row.at_least("cuts", full.cuts, cuts)
    row.at_least("acknowledged", full.acknowledged, 1)
    row.exactly("lost", full.lost, 0)
    row.figures["control_cuts"] = control.cuts
    row.at_least("control_lost", control.lost, 1)  # synchronous=NORMAL: else this row could not fail
    row.figures["control_cuts_with_loss"] = control.cuts_with_loss
    return row


def _arm(run: Run, recorder: Path, mode: str, cuts: int) -> Arm:
    arm = Arm()
    while arm.cuts < cuts:
        seed = run.chosen.randrange(1_000_000)
        log = _record(run, recorder, mode, seed)
        chosen = random.Random(seed)
        points = _points(log, min(_CUTS_A_LOG, cuts - arm.cuts), chosen)
        disk = Disk()
        promised: list[str] = []
        done = 0
        for point in points:
            for change in log[done:point]:
                if change.name == ACKNOWLEDGED:
                    promised += change.data.decode().split() if change.kind == "W" else []
                else:
                    disk.apply(change)
            done = point
            _cut(
                arm, run.folder / "cut", disk.after_cut(chosen), promised, seed, f"{mode}, seed {seed}, cut at {point}"
            )
    return arm


def _points(log: list[Change], count: int, chosen: random.Random) -> list[int]:
    """Where to cut: anywhere, right after acknowledgements (nothing had time to reach the disk) and in checkpoints."""
    acknowledgements = [at for at, change in enumerate(log, 1) if change.name == ACKNOWLEDGED]
    checkpoints = [at for at, change in enumerate(log, 1) if change.name == DATABASE_FILE]
    kinds = [range(len(log) + 1), acknowledgements, checkpoints]
    return sorted(chosen.choice(kinds[number % len(kinds)]) for number in range(count))


def _record(run: Run, recorder: Path, mode: str, seed: int) -> list[Change]:
    """Let a process write, and return what it did to its files."""
    folder = run.folder / f"{mode}-{seed}"
    folder.mkdir()
    log = run.folder / f"{mode}-{seed}.log"
    environment = {"LD_PRELOAD": str(recorder), "FAULTS_FOLDER": str(folder), "FAULTS_LOG": str(log)}
    count = _SHORT_REQUESTS if run.short else _REQUESTS
    with Fleet() as fleet:
        said = run.folder / "power_child.log"
        arguments = (str(folder), str(seed), str(count), mode)
        status = fleet.start("power_child", *arguments, log=said, environment=environment).wait(_RECORD_SECONDS)
    if status:
        raise RuntimeError(f"the recorded process ended with {status}:\n{said.read_text()[-2000:]}")
    changes = read_log(log)
    shutil.rmtree(folder)
    log.unlink()
    return changes


def _cut(arm: Arm, folder: Path, files: dict[str, bytes], promised: list[str], seed: int, where: str) -> None:
    """Open what is left by the server's code, and look for what was promised."""
    folder.mkdir()
    for name, content in files.items():
        fd = os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
    arm.cuts += 1
    arm.acknowledged += len(promised)
    try:
        with own(folder):
            database = Database(folder, owner=True)
            try:
                lost, wrong = _check(database, promised, seed)
            finally:
                database.close()
    except (DatabaseUnusable, SQLAlchemyError) as error:
        lost, wrong = promised, [str(error)]
    arm.lost += len(lost)
    arm.cuts_with_loss += bool(lost)
    if lost:
        wrong.append(f"{len(lost)} of {len(promised)} acknowledged requests lost")
    arm.wrong += [f"{where}: {one}" for one in wrong]
    shutil.rmtree(folder)


def _check(database: Database, promised: list[str], seed: int) -> tuple[list[str], list[str]]:
    """The lost requests, and what else is wrong."""
    wrong = []
    with database.write() as conn:
        if (found := conn.execute(text("PRAGMA integrity_check")).scalars().all()) != ["ok"]:
            wrong.append(f"integrity_check: {found[:3]}")
        if found := conn.execute(text("PRAGMA foreign_key_check")).all():
            wrong.append(f"foreign_key_check: {found[:3]}")
        conn.execute(text("INSERT INTO full_text(full_text) VALUES ('integrity-check')"))
        has_account = conn.execute(text("SELECT count(*) FROM accounts")).scalar_one()
    before = _counts(database)
    lost = [one for one in promised if one not in before]
    if has_account:
        again = [*promised[-_AGAIN:], *(f"request-{number}" for number in range(_AGAIN))]
        requests = [make_request(int(one.split("-")[1]), seed) for one in again]
        writer = Writer(database, 10)
        writer.publish(ACCOUNT_ID, requests).result()
        writer.close()
    for one, count in _counts(database).items():
        if count != (wanted := len(make_request(int(one.split("-")[1]), seed).interactions)):
            wrong.append(f"{one} has {count} of {wanted} interactions, after it was sent again")
    with database.read() as conn:
        row = conn.execute(text("SELECT count(*), count(DISTINCT sequence), max(sequence) FROM interactions")).one()
    if len({*row} - {None}) > 1 and row[0]:
        wrong.append(f"sequences have gaps or repeats: {tuple(row)}")
    return lost, wrong


def _counts(database: Database) -> dict[str, int]:
    with database.read() as conn:
        rows = conn.execute(text(_REQUEST_SIZES)).all()
    counts: dict[str, int] = {}
    for request_id, count in rows:
        counts[request_id] = counts.get(request_id, 0) + count
    return counts
