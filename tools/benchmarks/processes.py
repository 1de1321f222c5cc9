"""What a server's process and those it started take of memory and processors, as Linux tells."""

import os
from contextlib import suppress
from pathlib import Path

from tools.server_process import rss_mb

_TICKS = os.sysconf("SC_CLK_TCK")  # of /proc/PID/stat in a second


def tree(pid: int) -> list[int]:
    """The process and all that descend from it, itself first."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            children.setdefault(int(_fields(stat)[1]), []).append(int(stat.parent.name))
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found


def memory_mb(pid: int, figure: str = "VmRSS") -> float:
    """Of the process and its descendants together, in MiB; by "VmHWM" the sum of what each has had at most."""
    total = 0.0
    for one in tree(pid):
        with suppress(OSError, IndexError):
            total += rss_mb(one, figure)
    return total


def threads_ns(pids: list[int]) -> dict[Path, int]:
    """How long each thread of these processes has computed, in nanoseconds."""
    found: dict[Path, int] = {}
    for pid in pids:
        for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with suppress(OSError):
                found[file] = int(file.read_text().split()[0])
    return found


def computed_ms(before: dict[Path, int], after: dict[Path, int]) -> float:
    """How long the threads computed between the two, in milliseconds."""
    return sum(ns - before.get(thread, 0) for thread, ns in after.items()) / 1e6


def cpu_s(pid: int) -> tuple[float, float]:
    """How long the process has computed, and its children with theirs, those that have ended too; in seconds."""
    own = children = 0.0
    for one in tree(pid):
        with suppress(OSError):
            ticks = [int(field) for field in _fields(Path(f"/proc/{one}/stat"))[11:15]]
            itself, ended = sum(ticks[:2]) / _TICKS, sum(ticks[2:]) / _TICKS
            own, children = (own + itself, children + ended) if one == pid else (own, children + itself + ended)
    return own, children


def _fields(stat: Path) -> list[str]:
    """From the process's state on; the name before it may have spaces."""
    return stat.read_text().rpartition(")")[2].split()
