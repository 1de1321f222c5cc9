"""The short form of scripts/faults, each row as a test; the long form is `scripts/faults`."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.faults.__main__ import ROWS, run_on
from tools.faults.row import SHORT_SECONDS, Row, Run
from tools.postgres_run import Cluster

SEED = random.SystemRandom().randrange(1_000_000)
ZERO = {
    "exit-matrix": ("lost", "duplicated"),
    "kill-sweep": ("lost", "duplicated"),
    "planted": (),
    "power-cut": ("lost",),
    "outage": ("lost", "duplicated", "out_of_order"),
    "login-timing": (),
    "login-throttle": (),
    "login-flood": (),
    "graceful-stop": ("lost", "exit_code"),
    "slow-streams": ("open_refused",),
    "idle-streams": ("open_refused", "open_unary_errors", "default_unary_errors"),
    "cancelled-calls": ("good_errors",),
    "chroma-server": ("failed_calls", "wrong_vectors", "missing_vectors", "vectors_too_many"),
    "erase": (
        "lost",
        "back",
        "back_in_search",
        "back_in_search_after_rebuild",
        "revived_by_late_retry",
        "erased_on_disk",
    ),
    "wire-fuzz": ("unforeseen_codes", "leaks", "logged_errors", "wrong_afterwards", "rpcs_left_out"),
    "hostile-pictures": ("wrong",),
    "soak": ("failed_callers", "files_grown"),
    "database-away": ("lost", "twice", "internal", "collections_forgotten"),
    "cluster-kill": ("lost", "twice", "lost_of_spool", "twice_of_spool", "internal"),
    "leader": ("leaders_too_many", "built_anew", "vectors_amiss"),
    "balance": ("failed",),
    "order": ("never_seen", "gaps", "internal"),
    "freshness": ("not_seen",),
    "pool": ("hung", "other_codes"),
    "unknown-commit": ("lost", "twice", "replayed_first"),
    "two-versions": ("lost", "twice", "internal"),
}
ABOVE_ZERO = {
    "exit-matrix": ("accepted", "flaps"),
    "kill-sweep": ("accepted", "client_kills", "server_kills"),
    "planted": (),
    "power-cut": ("cuts", "acknowledged", "control_lost"),
    "outage": ("accepted",),
    "login-timing": ("tries_each", "known_p50_ms", "unknown_p50_ms"),
    "login-throttle": ("refused", "throttled", "owner_logins"),
    "login-flood": ("refused", "throttled", "publishes"),
    "graceful-stop": ("in_flight", "finished", "streamed"),
    "slow-streams": ("slow_taken", "slow_refused", "open_taken", "blocked_taken", "blocked_refused"),
    "idle-streams": ("open_timed_out", "default_timed_out", "default_refused", "open_unary_calls"),
    "cancelled-calls": ("cancelled", "good_calls"),
    "chroma-server": ("vectors", "searches_while_away"),
    "erase": ("server_kills", "published", "erased"),
    "wire-fuzz": ("requests", "raw_connections"),
    "hostile-pictures": ("pictures", "refused"),
    "soak": ("calls", "files"),
    "database-away": ("accepted", "refused"),
    "cluster-kill": ("accepted", "server_kills", "worker_kills", "postgres_kills", "chroma_kills"),
    "leader": ("kills", "stalls"),
    "balance": ("calls",),
    "order": ("interactions", "vectors"),
    "freshness": ("searches",),
    "pool": ("answered", "refused"),
    "unknown-commit": ("accepted", "cuts"),
    "two-versions": ("accepted",),
}


OF_FILES = ("erased_on_disk",)
"""Figures that only SQLite's files have."""
OF_POSTGRES = (
    "database-away",
    "cluster-kill",
    "leader",
    "order",
    "balance",
    "freshness",
    "pool",
    "unknown-commit",
    "two-versions",
)
"""Rows about PostgreSQL, whatever the tests keep everything in."""


@pytest.fixture
def cluster(name: str, store: str, request: pytest.FixtureRequest) -> Iterator[Cluster | None]:
    """A PostgreSQL server of the row's own, that it may kill."""
    if store == "sqlite" and name not in OF_POSTGRES:
        yield None
        return
    request.getfixturevalue("postgres_url")  # there is one, or the test is skipped
    made = Cluster(durable=True)
    yield made
    made.close()


@pytest.mark.timeout(900)  # beside other programs
@pytest.mark.parametrize("name", ROWS)
def test_row(name: str, tmp_path: Path, cluster: Cluster | None) -> None:
    print(f"seed {SEED}")
    row: Row = run_on(name, Run(tmp_path, random.Random(f"{SEED} {name}"), SHORT_SECONDS, True, cluster))
    print(row.line())
    if row.skipped:
        pytest.skip(row.skipped)
    assert row.failures == []
    zero = [figure for figure in ZERO[name] if cluster is None or figure not in OF_FILES]
    assert [row.figures[figure] for figure in zero] == [0] * len(zero)
    assert all(row.figures[figure] > 0 for figure in ABOVE_ZERO[name])
    if name == "planted":
        assert row.figures["caught"] == row.figures["planted"] == (11 if cluster else 3)
    if name == "exit-matrix":
        assert row.figures["cells"] == 30
