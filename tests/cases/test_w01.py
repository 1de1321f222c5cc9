"""W1: Ctrl-C, or any exception of a signal handler, at whatever moment of whatever call, leaves no lock held.

B2: nor does it while a fork is prepared, and the child is sound.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

INTERRUPTS = Path(__file__).with_name("interrupts.py")
FUNCTIONS = [node.name for node in ast.parse(INTERRUPTS.read_text()).body if isinstance(node, ast.FunctionDef)]
# pytest's own time-out uses the signal that the tests do. Python's hooks around a fork can leave its own locks taken,
# for which the end of the interpreter would wait.
RUN = "import os, sys, pytest; os._exit(pytest.main(['-q', '-p', 'no:timeout', '-o', 'addopts=', sys.argv[1]]))"


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name.startswith("test_")])
def test_in_a_process_of_its_own(name: str) -> None:
    command = [sys.executable, "-c", RUN, f"{INTERRUPTS}::{name}"]
    done = subprocess.run(command, cwd=INTERRUPTS.parents[2], capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
