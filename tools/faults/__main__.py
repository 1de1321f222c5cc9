"""`scripts/faults [ROW …]`: the seed, then a line of figures and a JSON line for each row; 1 when a promise broke."""

import json
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import click

from tools.faults import (
    balance,
    cancelled_calls,
    chroma_server,
    cluster_kill,
    database_away,
    erase,
    exit_matrix,
    freshness,
    graceful_stop,
    hostile_pictures,
    idle_streams,
    kill_sweep,
    leader,
    logins,
    order,
    outage,
    planted,
    pool,
    power_cut,
    slow_streams,
    soak,
    two_versions,
    unknown_commit,
    wire_fuzz,
)
from tools.faults.report import page_of
from tools.faults.row import SECONDS, SHORT_SECONDS, Row, Run
from tools.postgres_run import HOW, Cluster, binaries

ROWS: dict[str, Callable[[Run], Row]] = {
    "exit-matrix": exit_matrix.run,
    "kill-sweep": kill_sweep.run,
    "planted": planted.run,
    "power-cut": power_cut.run,
    "outage": outage.run,
    "login-timing": logins.timing,
    "login-throttle": logins.throttle,
    "login-flood": logins.flood,
    "erase": erase.run,
    "wire-fuzz": wire_fuzz.run,
    "hostile-pictures": hostile_pictures.run,
    "soak": soak.run,
    "graceful-stop": graceful_stop.run,
    "slow-streams": slow_streams.run,
    "idle-streams": idle_streams.run,
    "cancelled-calls": cancelled_calls.run,
    "chroma-server": chroma_server.run,
    "database-away": database_away.run,
    "cluster-kill": cluster_kill.run,
    "order": order.run,
    "freshness": freshness.run,
    "leader": leader.run,
    "balance": balance.run,
    "pool": pool.run,
    "unknown-commit": unknown_commit.run,
    "two-versions": two_versions.run,
}


def run_row(name: str, seed: int, seconds: float, short: bool, postgres: bool = False) -> Row:
    """Run one row in a folder of its own, which is kept only when a promise broke."""
    folder = Path(tempfile.mkdtemp(prefix=f"reflexio-faults-{name}-"))
    began = time.monotonic()
    cluster = Cluster(durable=True) if postgres else None
    try:
        row = run_on(name, Run(folder, random.Random(f"{seed} {name}"), seconds, short, cluster))
    except Exception:
        row = Row(name, {}, [traceback.format_exc()])
    except BaseException:
        click.echo(f"{name}: broken off; logs are in {folder}", err=True)
        raise
    finally:
        if cluster is not None:
            (folder / "postgres.log").write_text(cluster.log())
            cluster.close()
    row.figures["took_s"] = round(time.monotonic() - began, 1)
    if row.ok:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        row.failures.append(f"logs and spools are in {folder}")
    return row


def run_on(name: str, run: Run) -> Row:
    """Run one row, and see that no transactions of it waited for each other."""
    row = ROWS[name](run)
    if run.cluster is not None and not row.skipped:
        row.figures["postgres"] = run.cluster.version()
        if name != "planted":  # which makes them
            row.exactly("deadlocks", run.deadlocks(), 0)
    return row


@click.command(context_settings={"help_option_names": ["-h", "--help"]}, epilog=f"Rows: {', '.join(ROWS)}.")
@click.argument("names", nargs=-1, type=click.Choice(list(ROWS)), metavar="[ROW]...")
@click.option("--store", type=click.Choice(["sqlite", "postgres"]), default="sqlite", help="Where servers keep it all.")
@click.option("--seconds", type=click.FloatRange(2, 3600), help="Length of the kill sweep; its quotas scale with it.")
@click.option("--seed", type=int, help="Repeat a run's choices (not its timing).")
@click.option("--short", is_flag=True, help="Everything smaller: together about two minutes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines only.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write a page of the figures into this file.",
)
def main(
    names: tuple[str, ...],
    store: str,
    seconds: float | None,
    seed: int | None,
    short: bool,
    as_json: bool,
    report: Path | None,
) -> None:
    """Break clients, servers and disks, send what is broken or hostile, and count what is lost, doubled or let through;
    without a name all rows."""
    signal.signal(signal.SIGTERM, _as_interrupt)  # so that children are ended then too
    if seed is None:
        seed = random.SystemRandom().randrange(1_000_000)
    click.echo(json.dumps({"seed": seed}) if as_json else f"seed {seed}")
    postgres = store == "postgres"
    if postgres and not binaries():
        raise click.ClickException(HOW)
    ran: list[tuple[Row, Callable[[Run], Row]]] = []
    for name in names or ROWS:
        row = run_row(name, seed, seconds or (SHORT_SECONDS if short else SECONDS), short, postgres)
        ran.append((row, ROWS[name]))
        if not as_json:
            click.echo(row.line())
            for failure in row.failures:
                click.echo(f"  {failure}")
        click.echo(json.dumps(row.json() | {"seed": seed, "store": store}))
        if report is not None:
            report.write_text(page_of(ran, seed))
    sys.exit(0 if all(row.ok for row, _ in ran) else 1)


def _as_interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
