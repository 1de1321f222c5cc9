"""Searches, reads and starts of this tree's server and of another revision's, in turn, on stores with the same rows."""

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

from tools.benchmarks.beside import Arm, in_turn
from tools.benchmarks.callers import CALLERS, SEVERAL
from tools.benchmarks.calls import Caller, ms, percentile, together
from tools.benchmarks.filling import Language, users_of
from tools.benchmarks.latencies import publish_thread, thread_page
from tools.benchmarks.starting import of_start
from tools.benchmarks.stores import say

SECONDS = 4.0
QUERIES, ROUNDS, STARTS, PAGES = 300, 4, 5, 10  # with so many seconds

_FILL = """
import sys
from pathlib import Path
from reflexio_server.config import Settings
from reflexio_server.index.loading import load_embedder
from tools.benchmarks.filling import Language, fill
data_dir, email, total = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
embedder = load_embedder("minilm", Settings().model_dir)
fill(data_dir, email, total, embedder.model_id, embedder.dimensions, Language(total))
"""
_WAIT_FOR_INDEX = """
import sys, time
from pathlib import Path
from reflexio_server.storage import collections, embedders
from reflexio_server.storage.database import Database
database = Database(Path(sys.argv[1]), owner=False)
while True:
    with database.read() as conn:
        if not collections.lagging_accounts(conn, embedders.state(conn).live):
            break
    time.sleep(0.5)
"""
"""Both run on each tree's own code, so they use only what was there in 947ee1d."""


def beside(new: Arm, old: Arm, total: int, seconds: float) -> list[dict[str, float]]:
    """The figures of both. Callers who are many ask for so many seconds at a time; less makes all of it less."""
    queries, rounds, starts, pages = (max(1, round(n * seconds / SECONDS)) for n in (QUERIES, ROUNDS, STARTS, PAGES))
    say(f"filling both with {total} interactions, and waiting for their indexes")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda arm: _fill(arm, total), (new, old)))
    taken: dict[str, list[tuple[float, float]]] = {}

    def take(figure: str, call: Callable[[Any], float], arms: tuple[Any, Any]) -> None:
        pairs = taken.setdefault(figure, [])
        pairs.append(in_turn(call, *arms, len(pairs)))

    say("asking in turn")
    language, callers = Language(1), (_caller(new), _caller(old))
    users, (reader,) = users_of(1_000), users_of(10_000)
    for user in users:  # the first search of a user reads its vectors
        take("first", lambda caller: ms(lambda: caller.search(language.question(), user)), callers)  # noqa: B023
    for number in range(queries):
        # Another question for each: a server may keep the vectors of those that it was asked last.
        question, other, user = language.question(), language.question(), users[number % len(users)]
        take("p50_ms", lambda caller: ms(lambda: caller.search(question, user)), callers)  # noqa: B023
        take("p50_ms_account", lambda caller: ms(lambda: caller.search(other)), callers)  # noqa: B023
        take("get_p50_ms", lambda caller: ms(lambda: caller.newest(reader)), callers)
    questions = [language.question() for _ in range(1_000)]
    for _ in range(rounds):
        for count in CALLERS:
            p99s: list[float] = []

            def per_s(arm: Arm) -> float:
                times = together(arm, count, questions, users, seconds)  # noqa: B023
                p99s.append(percentile(times, 99))  # noqa: B023
                return len(times) / seconds

            take(f"search_per_s_{count}", per_s, (new, old))
            if count == SEVERAL:
                in_order = len(taken[f"search_per_s_{count}"]) % 2  # the new one was first
                taken.setdefault("p99_ms_of_8", []).append((p99s[1 - in_order], p99s[in_order]))

    say("starting in turn")
    for arm in (new, old):
        arm.stop()
    for _ in range(starts):
        take("start_cpu_s", lambda arm: of_start(arm.start)[0], (new, old))
    for arm in (new, old):
        arm.start("--no-indexing")
        publish_thread(_caller(arm))
    for _ in range(pages):
        take("thread_page_ms", lambda arm: thread_page(_caller(arm)), (new, old))
    del taken["first"]
    return [{figure: _middle([pair[place] for pair in pairs]) for figure, pairs in taken.items()} for place in (0, 1)]


def _fill(arm: Arm, total: int) -> None:
    if arm.is_new:
        try:
            arm.run(_FILL, arm.email, str(total))
        except BaseException:
            shutil.rmtree(arm.data_dir)  # half of it must not be taken for the whole next time
            raise
    arm.start()
    arm.run(_WAIT_FOR_INDEX)


def _caller(arm: Arm) -> Caller:
    return Caller(arm.address, arm.key)


def _middle(figures: Sequence[float]) -> float:
    return round(median(figures), 2)
