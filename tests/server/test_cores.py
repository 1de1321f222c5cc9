"""`--python-core`: which cores a server's threads may run on, by what the system says of each."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reflexio_server.core.accounts import CHECKS_AT_ONCE
from tests.command import run_alone, said
from tests.support import ServerProcess, create_account, log_in
from tests.wire import wait_until

CORES = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
pytestmark = pytest.mark.skipif(len(CORES) < 2, reason="needs Linux, and two cores")


def cores_of(pid: int) -> dict[str, set[int]]:
    """Where each thread of a process may run."""
    found = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            lines = Path(f"/proc/{pid}/task/{thread}/status").read_text().splitlines()
        except FileNotFoundError:
            continue
        allowed = next(line.split()[1] for line in lines if line.startswith("Cpus_allowed_list:"))
        ends = [part.split("-") for part in allowed.split(",")]
        found[thread] = {core for first, *last in ends for core in range(int(first), int([first, *last][-1]) + 1)}
    return found


@pytest.mark.parametrize("core", [CORES[:1], CORES[-1:]], ids=["first", "last"])
def test_python_keeps_to_its_core_and_the_model_runs_on_the_others(
    tmp_path: Path, model_dir: Path, core: list[int]
) -> None:
    email = create_account(tmp_path)
    server = ServerProcess(tmp_path, model_dir, "--python-core", str(core[0]))
    try:
        assert any(f"Python's threads keep to core {core[0]}" in line for line in server.lines)
        caller = log_in(server.address, email)
        caller.publish("u", *(f"boat number {number}" for number in range(100)))
        assert caller.search(query="a ship", user_id="u").hits[0].semantic > 0.3
        wait_until(lambda: caller.search(query="x").unindexed_count == 0, "all vectors")
        others = set(CORES) - set(core)
        found = list(cores_of(server.process.pid).values())
        assert {frozenset(one) for one in found} == {frozenset(core), frozenset(others)}
        assert found.count(others) <= len(others) + CHECKS_AT_ONCE, "the model's threads, and those for passwords"
        assert server.terminate() == 0
    finally:
        server.kill()


def test_without_the_setting_all_run_on_all(tmp_path: Path, model_dir: Path) -> None:
    server = ServerProcess(tmp_path, model_dir)
    try:
        assert all(found == set(CORES) for found in cores_of(server.process.pid).values())
    finally:
        server.kill()


def test_a_core_that_cannot_be_had_is_said(tmp_path: Path, model_dir: Path) -> None:
    arguments = ("--port", "0", "--data-dir", tmp_path, "--model-dir", model_dir)
    text = said(run_alone("serve", *arguments, "--python-core", "100000"))
    assert text.startswith("--python-core 100000: this process may run on the cores ")


WITH_ONE = """
import os, sys
from reflexio_server import cores
def allowed(): return sorted(os.sched_getaffinity(0))
every = allowed()
assert cores.elsewhere(allowed) == every, "not without the setting"
cores.move_elsewhere()
with cores.everywhere(): assert allowed() == every
os.sched_setaffinity(0, every[:1])
try:
    cores.keep_python_on(every[0])
except cores.NoSuchCore as error:
    print(error)
assert allowed() == every[:1]
"""
DIVIDED = """
import os, subprocess, sys, threading
from reflexio_server import cores
def allowed(): return sorted(os.sched_getaffinity(0))
def child():
    code = "import os; print(sorted(os.sched_getaffinity(0)))"
    return eval(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
every = allowed()
begun, over = threading.Event(), threading.Event()
earlier = threading.Thread(target=lambda: (begun.set(), over.wait(60)))
earlier.start()
cores.keep_python_on(every[-1])
assert allowed() == child() == every[-1:]
assert sorted(os.sched_getaffinity(earlier.native_id)) == every[-1:], "also what was there before"
over.set()
assert cores.elsewhere(allowed) == every[:-1]
try:
    with cores.everywhere():
        assert child() == every
        raise KeyError
except KeyError:
    assert allowed() == every[-1:]
try:
    cores.elsewhere({}.pop, 1)
except KeyError:
    print("raised as it was")
mover = threading.Thread(target=lambda: (cores.move_elsewhere(), print(allowed() == every[:-1])))
mover.start(); mover.join()
print("done")
"""


def test_one_core_is_too_few() -> None:
    assert run_code(WITH_ONE) == f"--python-core {CORES[0]}: this process has no other core, leave it out\n"


def test_work_is_done_on_the_other_cores_and_a_process_may_be_bound_to_none() -> None:
    assert run_code(DIVIDED) == "raised as it was\nTrue\ndone\n"


def run_code(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout
