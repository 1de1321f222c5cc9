"""With `--python-core` the threads that hold the interpreter's lock run on one core, what does without it on others.

On one core a lock that is given up, as SQLite's driver does at each row, is taken again before another thread wants it.
On several the others wake up each time: eight searches at once then took twice the processor time of one after another.
"""

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Made = TypeVar("Made")


class NoSuchCore(RuntimeError):
    """Python's threads cannot have the core that they are to have. The message says why."""


class _Division:
    """Which cores are Python's and which are not, and threads on these."""

    def __init__(self, python: set[int], others: set[int]) -> None:
        self.python = python
        self.others = others
        self.threads = ThreadPoolExecutor(len(others), thread_name_prefix="elsewhere", initializer=move_elsewhere)


_division: _Division | None = None


def keep_python_on(core: int) -> None:
    """Let this process run on this core alone: all threads that are there, and what they will start.

    Raises:
        NoSuchCore: this process may not run there, has no other core for the rest, or the system is not Linux.
    """
    global _division
    if sys.platform != "linux":
        raise NoSuchCore("--python-core is for Linux: leave it out")
    cores = os.sched_getaffinity(0)
    if core not in cores:
        raise NoSuchCore(f"--python-core {core}: this process may run on {_listed(cores)} only, give one of them")
    if len(cores) == 1:
        raise NoSuchCore(f"--python-core {core}: this process has no other core, leave it out")
    for thread in os.listdir("/proc/self/task"):
        with suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(thread), {core})
    _division = _Division({core}, cores - {core})


def elsewhere(work: Callable[Given, Made], *given: Given.args, **named: Given.kwargs) -> Made:
    """What work gives that does without the interpreter's lock for long: done on the other cores, if there are such.

    No more is done at a time than there are other cores: each wants the lock back at its end.
    """
    if _division is None:
        return work(*given, **named)
    return _division.threads.submit(work, *given, **named).result()


def move_elsewhere() -> None:
    """Let this thread run on the other cores from now on, if there are such."""
    if _division is not None:
        _move_to(_division.others)


@contextmanager
def everywhere() -> Iterator[None]:
    """Let this thread run on all cores for a while: for starting a process, which inherits it and is bound to none."""
    if _division is None:
        yield
        return
    _move_to(_division.python | _division.others)
    try:
        yield
    finally:
        _move_to(_division.python)


def _move_to(cores: set[int]) -> None:
    if sys.platform == "linux":
        with suppress(OSError):  # whoever manages this machine has taken the cores away, and put the threads elsewhere
            os.sched_setaffinity(0, cores)


def _listed(cores: set[int]) -> str:
    return ("core " if len(cores) == 1 else "the cores ") + ", ".join(map(str, sorted(cores)))
