"""The figures of a run in a document: between two markers, a paragraph and lines of a table for each row."""

import os
import platform
import re
import sqlite3
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tools.faults.row import Row

BEGIN, END = "<!-- figures of scripts/faults -->\n", "<!-- end of the figures -->\n"
_HEAD = "| row | figure | must be | was | kept |\n|---|---|---|---|---|\n"


def write_report(document: Path, row: Row, rows: Mapping[str, Callable[..., Any]], seed: int) -> None:
    """Put what one row found in the place of what it found before; what the other rows found stays."""
    text = document.read_text()
    before, inside, after = text[: text.index(BEGIN)], _between(text), text[text.index(END) :]
    parts = {name: (_paragraph(inside, name), _lines(inside, name)) for name in rows}
    parts[row.name] = _described(row, rows[row.name], seed)
    paragraphs = "\n".join(paragraph for paragraph, _ in parts.values() if paragraph)
    table = "".join(lines for _, lines in parts.values())
    document.write_text(f"{before}{BEGIN}\nMachine: {_machine()}.\n\n{paragraphs}\n\n{_HEAD}{table}\n{after}")


def reported(document: Path) -> set[str]:
    """The rows that a document has figures of."""
    return set(re.findall(r"^- `([\w-]+)`", _between(document.read_text()), re.M))


def _between(text: str) -> str:
    return text[text.index(BEGIN) + len(BEGIN) : text.index(END)]


def _paragraph(inside: str, name: str) -> str:
    found = re.search(rf"^- `{name}` .*$", inside, re.M)
    return found[0] if found else ""


def _lines(inside: str, name: str) -> str:
    return "".join(re.findall(rf"^\| `{name}` \|.*\n", inside, re.M))


def _described(row: Row, runs: Callable[..., Any], seed: int) -> tuple[str, str]:
    said = _told_of(runs).splitlines()[0].rstrip(".")
    beside = [
        f"{name} {_number(value)}"
        for name, value in row.figures.items()
        if name not in row.bounds and not isinstance(value, dict)
    ]
    state = f"left out: {row.skipped}" if row.skipped else f"seed {seed}; {', '.join(beside)}"
    lines = [
        f"| `{row.name}` | {name} | {bound} | {_number(row.figures[name])} | "
        f"{'**no**' if name in row.missed else 'yes'} |\n"
        for name, bound in row.bounds.items()
    ]
    return f"- `{row.name}` {said} ({state})." + ("" if row.ok else " **Failed.**"), "".join(lines)


def _told_of(runs: Callable[..., Any]) -> str:
    """What a row does: its module's docstring, or its own in a module of several."""
    return (sys.modules[runs.__module__] if runs.__name__ == "run" else runs).__doc__ or ""


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
