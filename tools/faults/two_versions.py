"""Servers of two versions on one database, while its schema is expanded, all are replaced, and it is contracted."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tools.benchmarks.beside import TREE, code_of
from tools.benchmarks.calls import log_in
from tools.faults.fleet import EMAIL, QUICK_EMBEDDER, Fleet, Server
from tools.faults.plants import LATER
from tools.faults.plants import VARIABLE as PLANT_VARIABLE
from tools.faults.repeating import Repeater, calling, judge
from tools.faults.row import OF_POSTGRES, SHORT_SECONDS, Row, Run
from tools.faults.stores import COMMAND_SECONDS, DatabaseStore, environment
from tools.server_process import OWN, Code, create_account

VERSION_BEFORE = "ef41a7d7ca36130fd2bb1358280dd031e68c4fba"
"""The first one of which several servers work on one PostgreSQL; it has the tag serves-postgresql, too.

A checkout without its history takes HEAD instead, and says so.
"""

EXPANDED, CONTRACTED = "9001", "9002"
_CALLERS = 4


def run(run: Run, plant: str = "") -> Row:
    """Calls go to both servers in turn all the time; those that are refused for a moment are tried again."""
    if run.cluster is None:
        return Row("two-versions", {}, skipped=OF_POSTGRES)
    before = VERSION_BEFORE if _is_here(VERSION_BEFORE) else "HEAD"
    seconds = SHORT_SECONDS / 2 if run.short else run.seconds / 6
    row = Row("two-versions", {"before": before[:10]})
    with tempfile.TemporaryDirectory(prefix="reflexio-before-") as folder, code_of(before, Path(folder)) as old:
        store = run.store()
        assert isinstance(store, DatabaseStore)
        of_store = Code(old.tree, old.python, {**(old.environment or {}), **environment(store)})
        create_account(store.data_dir, EMAIL, code=of_store)
        with Fleet() as fleet:
            servers = [Server(fleet, store.beside(f"data-{n}"), "", QUICK_EMBEDDER, api_key="later") for n in (1, 2)]
            for server in servers:
                _become(server, old)
            key = log_in(servers[0].address, EMAIL)
            for server in servers:
                server.api_key = key
            addresses = [server.address for server in servers]
            callers = [
                Repeater(addresses, key, f"user {number}", random.Random(run.chosen.random()), reads=1)
                for number in range(_CALLERS)
            ]
            first, second = servers
            with calling(callers):
                time.sleep(seconds)
                row.exactly("expanded", _migrate(store, EXPANDED), 0)
                time.sleep(seconds)
                for server, code, schema in (
                    (first, OWN, EXPANDED),
                    (first, old, ""),  # as when the new version is taken back
                    (first, OWN, EXPANDED),
                ):
                    _become(server, code, schema)
                    time.sleep(seconds)
                row.at_least("contracted_too_early", _migrate(store, CONTRACTED), 1)
                _become(second, OWN, EXPANDED)
                row.exactly("contracted", _migrate(store, CONTRACTED), 0)
                time.sleep(seconds)
                row.exactly("older_starts", _starts(store, old), 0)
            judge(row, callers, caller := first.caller())
            caller.channel.close()
    return row


def _is_here(revision: str) -> bool:
    asked = ["git", "-C", str(TREE), "cat-file", "-e", f"{revision}^{{commit}}"]
    return subprocess.run(asked, capture_output=True, timeout=60).returncode == 0


def _become(server: Server, code: Code, schema: str = "") -> None:
    """End a server as an operator does, and start another version in its place."""
    server.stop()
    server.code, server.plant = code, f"{LATER}{schema}" if schema else ""
    server.start()


def _migrate(store: DatabaseStore, schema: str) -> int:
    """`reflexio-server migrate` of the version to come with this schema; its exit code."""
    command = [sys.executable, "-m", "tools.faults.serve", "migrate", "--data-dir", str(store.data_dir)]
    whole = {**os.environ, **environment(store), PLANT_VARIABLE: f"{LATER}{schema}"}
    done = subprocess.run(command, input=b"\n", env=whole, capture_output=True, timeout=COMMAND_SECONDS)
    return done.returncode


def _starts(store: DatabaseStore, code: Code) -> int:
    """Whether a server of a version that is too old comes up: 1, or 0 when it says what is wrong and ends."""
    folder = str(store.data_dir.with_name("too-old"))
    command = [code.python, "-m", "reflexio_server", "serve", "--port", "0", "--data-dir", folder, *QUICK_EMBEDDER]
    whole = {**(code.env or os.environ), **environment(store)}
    process = subprocess.Popen(command, cwd=code.tree, env=whole, stderr=subprocess.PIPE, start_new_session=True)
    try:
        _, said = process.communicate(timeout=COMMAND_SECONDS)
        return int(process.returncode == 0 or b"use a newer version" not in said)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return 1
