"""The page of client examples, run as it stands by its own checker, against a fresh server and account."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import PASSWORD, LocalServer, create_account

RUNNER = Path(__file__).resolve().parents[2] / "shared" / "seed" / "run_page.py"


@pytest.mark.skipif(not RUNNER.exists(), reason="the page of examples is not beside the project (../shared/seed)")
def test_every_example_of_the_page_runs(server: LocalServer, tmp_path: Path) -> None:
    email = create_account(server.data_dir)
    url = f"http://{server.address}/"
    command = [sys.executable, str(RUNNER), "--url", url, "--email", email, "--password", PASSWORD]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    last = re.fullmatch(r"(\d+) passed, 0 failed", run.stdout.strip().splitlines()[-1])
    assert last, run.stdout
    assert int(last[1]) > 20
