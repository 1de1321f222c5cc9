"""How quickly the server searches, reads and indexes, over the wire, and what it takes; several sizes in one run."""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reflexio_server.config import Settings
from reflexio_server.index.embedder import Embedder
from reflexio_server.index.loading import load_embedder
from tools.benchmarks import callers, indexing, latencies, memory, nearest, starting
from tools.benchmarks.filling import Language
from tools.benchmarks.stores import Store, filled, say, wait_for_index

TOTALS = (30_000, 300_000)


@dataclass(frozen=True)
class _Run:
    """What the parts measure: the filled stores by size, in `large` the one that is measured where it is one only."""

    stores: dict[int, Store]
    embedder: Embedder
    language: Language
    arguments: tuple[str, ...]

    @property
    def large(self) -> Store:
        return self.stores.get(max(TOTALS)) or self.stores[max(self.stores)]


Part = Callable[[_Run], dict[str, Any]]
OF_STORES: dict[str, Part] = {
    "latencies": lambda run: latencies.latencies(run.stores, run.language),
    "account": lambda run: latencies.account(run.stores, run.language),
    "absent": lambda run: latencies.absent(run.stores, run.language),
    "callers": lambda run: callers.quiet(run.large, run.language),
    "fresh": lambda run: indexing.fresh(run.large, run.language),
    "index": lambda run: indexing.rates(run.large, run.language, run.embedder),
    "memory": lambda run: indexing.memory(run.large, run.language),
    "busy": lambda run: callers.busy(run.large, run.language),
    "stall": lambda run: indexing.stall(run.large, run.language),
    "rank": lambda run: nearest.rank(run.large, run.language),
}
"""In this order: the last three end the server."""
OF_THEIR_OWN: dict[str, Part] = {
    "start": lambda run: starting.start(run.arguments),
    "thread": lambda run: latencies.thread(run.arguments),
    "accounts": lambda run: memory.of_accounts(run.arguments),
    "large": lambda run: memory.of_large_messages(run.arguments),
}
"""They begin with an empty store."""
PARTS = OF_THEIR_OWN | OF_STORES
USUAL = [name for name in PARTS if name != "absent"]


def run(
    totals: Sequence[int] = TOTALS,
    parts: Sequence[str] = USUAL,
    folder: Path | None = None,
    arguments: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The figures of these parts, of stores of these sizes, which stay in `folder` if one is given.

    `arguments` are those of every server that is started but the one that the stall is measured in.
    """
    figures: dict[str, Any] = {}
    with ExitStack() as opened:
        bench = _Run({}, load_embedder("minilm", Settings().model_dir), Language(1), arguments)
        for name, part in OF_THEIR_OWN.items():
            if name in parts:
                say(f"measuring: {name}")
                figures |= part(bench)
        if set(parts) & set(OF_STORES):
            folder = folder or Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="reflexio-bench-")))
            for total in sorted(totals):
                bench.stores[total] = filled(folder, total, bench.embedder, arguments)
                opened.callback(bench.stores[total].close)
            for total, store in bench.stores.items():
                wait_for_index(store.database, f"{total} interactions")
        for name, part in OF_STORES.items():
            if name in parts:
                say(f"measuring: {name}")
                figures |= part(bench)
    return figures
