"""What a row of the fault runs is given, and what it gives back."""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.faults.stores import DatabaseStore, FileStore, Store
from tools.postgres_run import Cluster

SECONDS = 60.0
SHORT_SECONDS = 6.0


OF_POSTGRES = "it is about PostgreSQL: --store postgres"
"""Why a row is left out on SQLite."""


@dataclass(frozen=True, slots=True)
class Run:
    """The circumstances of a row: an empty folder of its own, its seeded choices, and how long it may be."""

    folder: Path
    chosen: random.Random
    seconds: float
    short: bool
    cluster: Cluster | None = None
    """The PostgreSQL server where everything is kept; None: each in SQLite's file."""

    def store(self, name: str = "data") -> Store:
        """A new store, with its data folder in the row's."""
        data_dir = self.folder / name
        return FileStore(data_dir) if self.cluster is None else DatabaseStore(data_dir, self.cluster)

    @property
    def scale(self) -> float:
        """1 for the long form; quotas of kills and publishes are multiplied by it."""
        return self.seconds / SECONDS

    def deadlocks(self) -> int:
        """How often PostgreSQL has found one so far."""
        return 0 if self.cluster is None else self.cluster.log().count("deadlock detected")


@dataclass(slots=True)
class Row:
    """Figures, and every promise that was not kept."""

    name: str
    figures: dict[str, Any]
    failures: list[str] = field(default_factory=list)
    skipped: str = ""
    bounds: dict[str, str] = field(default_factory=dict)
    """What a figure must be, as the report shows it: "= 0", "≤ 64"."""
    missed: set[str] = field(default_factory=set)
    """The figures that are not what they must be."""

    @property
    def ok(self) -> bool:
        return not self.failures

    def line(self) -> str:
        figures = " ".join(f"{key}={value}" for key, value in self.figures.items() if not isinstance(value, dict))
        state = "skipped: " + self.skipped if self.skipped else "ok" if self.ok else "FAILED"
        return f"{self.name}: {state} {figures}".rstrip()

    def json(self) -> dict[str, Any]:
        rest = {"bounds": self.bounds, "failures": self.failures, "skipped": self.skipped}
        return {"row": self.name, "ok": self.ok, **self.figures, **rest}

    def expect(self, kept: bool, otherwise: str) -> None:
        if not kept:
            self.failures.append(otherwise)

    def exactly(self, figure: str, value: float, wanted: float) -> None:
        self._bounded(figure, value, f"= {wanted:g}", value == wanted)

    def at_most(self, figure: str, value: float, bound: float) -> None:
        self._bounded(figure, value, f"≤ {bound:g}", value <= bound)

    def at_least(self, figure: str, value: float, bound: float) -> None:
        self._bounded(figure, value, f"≥ {bound:g}", value >= bound)

    def between(self, figure: str, value: float, least: float, most: float) -> None:
        self._bounded(figure, value, f"{least:g}–{most:g}", least <= value <= most)

    def _bounded(self, figure: str, value: float, bound: str, kept: bool) -> None:
        self.figures[figure] = value
        self.bounds[figure] = bound
        if not kept:
            self.missed.add(figure)
            self.failures.append(f"{figure} is {value}, must be {bound}")
