"""The figures of a run as a page: what they were measured on, and for each row a paragraph and lines of a table."""

import os
import platform
import re
import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tools.faults.row import Row

_HEAD = "| row | figure | must be | was | kept |\n|---|---|---|---|---|\n"


def page_of(rows: Sequence[tuple[Row, Callable[..., Any]]], seed: int) -> str:
    """Rows with the functions that ran them, as Markdown."""
    paragraphs = "\n".join(_paragraph(row, told_of(runs), seed) for row, runs in rows)
    lines = "".join(
        f"| `{row.name}` | {name} | {bound} | {_number(row.figures[name])} | "
        f"{'**no**' if name in row.missed else 'yes'} |\n"
        for row, _ in rows
        for name, bound in row.bounds.items()
    )
    return f"# Fault runs\n\nMachine: {_machine()}.\n\n{paragraphs}\n\n{_HEAD}{lines}"


def told_of(runs: Callable[..., Any]) -> str:
    """What a row does: the first line of its module's docstring, or of its own in a module of several."""
    text = (sys.modules[runs.__module__] if runs.__name__ == "run" else runs).__doc__ or ""
    return text.splitlines()[0].rstrip(".")


def _paragraph(row: Row, told: str, seed: int) -> str:
    beside = ", ".join(
        f"{name} {_number(value)}"
        for name, value in row.figures.items()
        if name not in row.bounds and not isinstance(value, dict)
    )
    state = f"left out: {row.skipped}" if row.skipped else f"seed {seed}; {beside}"
    return f"- `{row.name}` {told} ({state})." + ("" if row.ok else " **Failed.**")


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _machine() -> str:
    """What the figures depend on; no date, no name."""
    model = memory = "?"
    cpu, meminfo = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    if cpu.exists() and (found := re.search(r"model name\s*: (.+)", cpu.read_text())):
        model = found[1]
    if meminfo.exists() and (found := re.search(r"MemTotal:\s*(\d+)", meminfo.read_text())):
        memory = f"{int(found[1]) / 2**20:.0f} GiB"
    kernel = ".".join(platform.release().split(".")[:2])
    return (
        f"{os.cpu_count()} cores ({model}), shared with others, {memory}, {platform.system()} {kernel}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )
