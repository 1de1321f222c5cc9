"""`scripts/bench NAME --beside REV`: two servers of two trees, asked in turn; a revision beside itself has ratio 1."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).parents[1]
SHORT = {"search": ("--total", "20000", "--seconds", "1"), "ingest": ("--rows", "1000")}
FIGURES = {
    "search": {
        "p50_ms",
        "p50_ms_account",
        "get_p50_ms",
        "search_per_s_1",
        "search_per_s_8",
        "search_per_s_32",
        "p99_ms_of_8",
        "start_cpu_s",
        "thread_page_ms",
    },
    "ingest": {"stream_rows_per_s", "pairs_rows_per_s", "unary_per_s"},
}


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.benchmarks", *arguments]
    return subprocess.run(command, cwd=TREE, capture_output=True, text=True, timeout=380)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", SHORT)
def test_a_revision_beside_itself(name: str) -> None:
    done = bench(name, "--beside", "HEAD", *SHORT[name], "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    ratio = figures.pop("ratio")
    assert set(figures) == set(ratio) == FIGURES[name]
    assert all(figure > 0 for figure in figures.values())
    assert all(1 / 8 < value < 8 for value in ratio.values()), ratio
    trees = subprocess.run(["git", "worktree", "list"], cwd=TREE, capture_output=True, text=True, check=True).stdout
    assert "reflexio-beside-" not in trees


def test_a_revision_that_is_not_there_is_named() -> None:
    done = bench("ingest", "--beside", "nothing-of-this-name")
    assert done.returncode == 1
    assert "nothing-of-this-name" in done.stderr
    assert "Traceback" not in done.stderr
