"""Four servers store in the same accounts at once: who follows by numbers sees all, and sequences have no gap."""

import random
import threading
import time
from collections import defaultdict

import psycopg

from tools.faults.fleet import QUICK_EMBEDDER, Fleet, Server, make_accounts
from tools.faults.repeating import Repeater, calling
from tools.faults.row import OF_POSTGRES, Row, Run

PROCESSES, ACCOUNTS = 4, 8  # so that several accounts share a lane, and a transaction
SECONDS, SHORT_SECONDS = 60.0, 8.0
_PAUSE = 0.01
_TABLES = ("interactions", "vectors")
_PATIENCE = 60.0


class Follower(threading.Thread):
    """Reads new rows of each account as caches and the index do: what has a higher number than the last one."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.seen: dict[str, set[int]] = {table: set() for table in _TABLES}
        self._url = url

    def run(self) -> None:
        last: dict[tuple[str, int], int] = defaultdict(int)
        with psycopg.connect(self._url, autocommit=True) as conn:
            accounts = [account for (account,) in conn.execute("SELECT id FROM accounts").fetchall()]
            ends = False
            while not ends:
                ends = self.over.is_set()  # looked at before the rows: the last round sees all
                for table in _TABLES:
                    for account in accounts:
                        query = f"SELECT id FROM {table} WHERE account_id = %s AND id > %s ORDER BY id"
                        found = [one for (one,) in conn.execute(query, (account, last[table, account]))]
                        self.seen[table].update(found)
                        last[table, account] = max((last[table, account], *found))
                self.over.wait(_PAUSE)


def run(run: Run, plant: str = "") -> Row:
    """Also the vectors, which whichever server is first makes of each text."""
    if run.cluster is None:
        return Row("order", {}, skipped=OF_POSTGRES)
    store = run.store()
    keys = make_accounts(store, *(f"order{number}@example.com" for number in range(ACCOUNTS)))
    row = Row("order", {})
    with Fleet() as fleet:
        servers = [
            Server(fleet, store.beside(f"data-{number}"), plant, arguments=QUICK_EMBEDDER, api_key=keys[0])
            for number in range(PROCESSES)
        ]
        for server in servers:
            server.start()
        callers = [
            Repeater([server.address], key, f"user {number} {account}", random.Random(run.chosen.random()))
            for number, server in enumerate(servers)
            for account, key in enumerate(keys)
        ]
        assert store.url
        follower = Follower(store.url)
        follower.start()
        with calling(callers):
            time.sleep(SHORT_SECONDS if run.short else SECONDS)
        deadline = time.monotonic() + _PATIENCE
        while store.rows("SELECT 1 FROM waiting LIMIT 1") and time.monotonic() < deadline:
            time.sleep(0.2)
        follower.over.set()
        follower.join(_PATIENCE)
    for table in _TABLES:
        row.figures[table] = len(there := {one for (one,) in store.rows(f"SELECT id FROM {table}")})
        row.figures[f"{table}_never_seen"] = len(there - follower.seen[table])
    row.at_least("vectors", row.figures["vectors"], 1)
    row.exactly("never_seen", sum(row.figures[f"{table}_never_seen"] for table in _TABLES), 0)
    sequences = store.rows(
        "SELECT count(*), count(DISTINCT sequence), min(sequence), max(sequence) FROM interactions GROUP BY account_id"
    )
    row.exactly(
        "gaps", sum(not (least == 1 and count == distinct == most) for count, distinct, least, most in sequences), 0
    )
    attempts = [one for each in callers for one in each.attempts]
    row.exactly("internal", sum(one.code not in ("OK", "UNAVAILABLE", "RESOURCE_EXHAUSTED") for one in attempts), 0)
    return row
