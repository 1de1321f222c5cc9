"""`scripts/bench cluster`: all its figures, from a short run, and what it says where there is no PostgreSQL."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools import postgres_run
from tools.benchmarks import bare_copy, cluster

TREE = Path(__file__).parents[1]
FIGURES = {
    "cpu_ratio",
    "wal_ratio",
    "stream_ratio",
    "unary_p50_ratio",
    "search_p50_ratio",
    "one_account_ratio",
    "search_scale",
}


@pytest.mark.sqlite
@pytest.mark.timeout(600)
@pytest.mark.skipif(
    not postgres_run.binaries() and "REFLEXIO_TEST_ALL" not in os.environ, reason="there is no PostgreSQL"
)
def test_it_gives_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {"ROUNDS": 1, "STREAM_ROWS": 1_000, "UNARY_CALLS": 4, "SIZES": {1_000: 1}, "QUERIES": 3, "SECONDS": 0.5}
    for name, value in few.items():
        monkeypatch.setattr(cluster, name, value)
    monkeypatch.setattr(bare_copy, "ROUNDS", 1)
    monkeypatch.setattr(bare_copy, "ROUND_ROWS", {100: 500, 1_000: 2_000})
    figures, more = cluster.run()
    assert set(figures) == FIGURES
    assert all(figure > 0 for figure in figures.values()), figures
    assert 0.5 < figures["wal_ratio"] < 2
    assert set(more["a commit"]) == {f"of {rows} rows, statements and round trips" for rows in (1, 100, 1_000)}


def test_it_says_that_there_is_no_postgresql() -> None:
    command = [sys.executable, "-m", "tools.benchmarks", "cluster"]
    environment = {**os.environ, postgres_run.CHOSEN: "7"}
    done = subprocess.run(command, cwd=TREE, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "there is no PostgreSQL" in done.stderr
    assert "Traceback" not in done.stderr
