"""PostgreSQL beside bare COPY and beside SQLite, and several servers on one PostgreSQL beside one."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from reflexio_server.config import Settings
from reflexio_server.index.loading import load_embedder
from tools.benchmarks import bare_copy
from tools.benchmarks.bare_copy import Copies, Watched, Work
from tools.benchmarks.beside import in_turn
from tools.benchmarks.calls import log_in, ms, together
from tools.benchmarks.filling import Language, fill, users_of
from tools.benchmarks.ingest import PER_REQUEST, stream_per_s, streams_per_s
from tools.benchmarks.stores import EMAIL, Store, say, wait_for_index
from tools.chroma_run import ChromaRun
from tools.postgres_run import Cluster
from tools.server_process import create_account

PROCESSES = 2
STREAM_ROWS, MESSAGE_ROWS = 20_000, 100
ROUNDS = 5
UNARY_CALLS = 400
WRITERS = 4
QUERIES = 300
SIZES = {1_000: 5, 10_000: 1}  # how many users of each size are searched
CALLERS = 16
SECONDS = 4.0  # that so many callers search
_MOST_ROWS = max(bare_copy.ROUND_ROWS)


def run() -> tuple[dict[str, float], dict[str, Any]]:
    """The figures, and for the table what they are made of."""
    cluster = Cluster(durable=True)
    try:
        return _run(cluster)
    finally:
        cluster.close()


def _run(cluster: Cluster) -> tuple[dict[str, float], dict[str, Any]]:
    say("the writer beside bare COPY")
    rounds, exchanged = bare_copy.of_writer(cluster)
    with tempfile.TemporaryDirectory(prefix="reflexio-bench-") as name:
        folder = Path(name)
        with _servers(folder / "empty", cluster.new(), 1, "--no-indexing") as (store,):
            say("streams beside bare COPY")
            streamed, copied = _streams(store, cluster)
            say("unary publishes beside SQLite's")
            unary = _unary(store, folder / "sqlite")
        say("one account beside accounts of their own")
        one, own = _one_account(folder / "accounts", cluster.new())
        with _filled(folder, cluster) as (stores, sqlite):
            say("searches beside SQLite's")
            searches = _searches(stores[0], sqlite)
            sqlite.end_server()
            say("searches of two processes beside one")
            few, many = _scale(stores)
    cpu = {rows: _middle(pairs, lambda work: work.cpu_us) for rows, pairs in rounds.items()}
    wal = {rows: _middle(pairs, lambda work: work.wal_bytes) for rows, pairs in rounds.items()}
    figures = {
        "cpu_ratio": _worst(cpu),
        "wal_ratio": _worst(wal),
        "stream_ratio": streamed / copied,
        "unary_p50_ratio": unary[0] / unary[1],
        "search_p50_ratio": _worst(searches),
        "one_account_ratio": one / own,
        "search_scale": many / few,
    }
    more: dict[str, Any] = {
        "us of CPU a row": _beside(cpu, "rows a commit, writer and COPY"),
        "bytes of WAL a row": _beside(wal, "rows a commit, writer and COPY"),
        "a commit": {f"of {rows} rows, statements and round trips": f"{a}, {b}" for rows, (a, b) in exchanged.items()},
        "rows/s": {"of streams and COPY": f"{streamed:.0f}, {copied:.0f}"},
        "p50, ms": {
            "of a unary publish, PostgreSQL and SQLite": f"{unary[0]:.2f}, {unary[1]:.2f}",
            **_beside(searches, "interactions of a searched user, PostgreSQL and SQLite"),
        },
        f"rows/s of {WRITERS} writers": {f"to {PROCESSES} processes, one account and own": f"{one:.0f}, {own:.0f}"},
        f"searches/s of {CALLERS} callers": {f"1 and {PROCESSES} processes, callers beside": f"{few:.0f}, {many:.0f}"},
    }
    return {name: round(figure, 3) for name, figure in figures.items()}, more


@contextmanager
def _servers(folder: Path, url: str, number: int, *arguments: str) -> Iterator[list[Store]]:
    """So many servers on one database, each with a data directory of its own."""
    create_account(folder / "0", EMAIL, url=url)
    with ExitStack() as opened:
        yield [_opened(opened, folder / str(place), url, *arguments) for place in range(number)]


def _opened(opened: ExitStack, data_dir: Path, url: str | None, *arguments: str) -> Store:
    store = Store(data_dir, EMAIL, arguments, url)
    opened.callback(store.close)
    return store


def _streams(store: Store, cluster: Cluster) -> tuple[float, float]:
    """Rows a second of streams, and of bare COPY of the same rows in the largest transactions that the writer makes."""
    assert store.url
    watched = Watched(store.url)
    copies = Copies(watched, cluster.new())
    rounds = []
    try:
        for number in range(-1, ROUNDS):
            streamed = stream_per_s(
                store.address, store.key, f"stream-{number}", PER_REQUEST, STREAM_ROWS, MESSAGE_ROWS // PER_REQUEST
            )
            copied = copies.catch_up(_MOST_ROWS, PER_REQUEST).per_s
            if number >= 0:  # the one before warms up both
                rounds.append((streamed, copied))
        return _middle_round(rounds)
    finally:
        copies.close()
        watched.close()


def _unary(store: Store, folder: Path) -> tuple[float, float]:
    """p50 of publishing one interaction, one caller, in turn at both."""
    create_account(folder, EMAIL)
    sqlite = Store(folder, EMAIL, store.arguments)
    try:
        numbers = count()
        taken = [
            in_turn(lambda one: ms(lambda: one.caller.publish("ada", [f"turn {next(numbers)}"])), store, sqlite, number)
            for number in range(UNARY_CALLS)
        ]
        return _p50s(taken)
    finally:
        sqlite.close()


def _one_account(folder: Path, url: str) -> tuple[float, float]:
    """Rows a second of streams to all processes, of one account and of accounts of their own."""
    with _servers(folder, url, PROCESSES, "--no-indexing") as stores:
        emails = [create_account(folder / "0", url=url) for _ in range(WRITERS)]
        at = [stores[number % PROCESSES] for number in range(WRITERS)]
        own = [(store.address, log_in(store.address, email)) for store, email in zip(at, emails, strict=True)]
        arms = ([(store.address, store.key) for store in at], own)
        names = count()

        def per_s(writers: Sequence[tuple[str, str]]) -> float:
            name = f"writers-{next(names)}"
            return streams_per_s(writers, name, PER_REQUEST, STREAM_ROWS, MESSAGE_ROWS // PER_REQUEST)

        return _middle_round([in_turn(per_s, *arms, number) for number in range(-1, ROUNDS)][1:])


@contextmanager
def _filled(folder: Path, cluster: Cluster) -> Iterator[tuple[list[Store], Store]]:
    """Servers on one PostgreSQL and one on SQLite with the same rows, all of which have their vectors."""
    total = sum(size * number for size, number in SIZES.items())
    url, embedder = cluster.new(), load_embedder("minilm", Settings().model_dir)
    places: list[tuple[Path, str | None]] = [(folder / "of postgres" / "0", url), (folder / "of sqlite", None)]
    for data_dir, database in places:
        create_account(data_dir, EMAIL, url=database)
        fill(data_dir, EMAIL, total, embedder.model_id, embedder.dimensions, Language(total), SIZES, database)
    with ExitStack() as opened:
        chroma = opened.enter_context(ChromaRun(folder / "chroma"))
        stores = [
            _opened(opened, folder / "of postgres" / str(place), url, "--chroma-url", chroma.url)
            for place in range(PROCESSES)
        ]
        sqlite = _opened(opened, folder / "of sqlite", None)
        for store in (stores[0], sqlite):
            wait_for_index(store.database, store.database.name)
        yield stores, sqlite


def _searches(store: Store, sqlite: Store) -> dict[int, tuple[float, float]]:
    """p50 by the size of the user, whose vectors are in memory, in turn at both."""
    language = Language(1)
    found = {}
    for size in SIZES:
        users, taken = users_of(size, SIZES), []
        for number in range(-len(users), QUERIES):
            question, user = language.question(), users[number % len(users)]
            taken.append(in_turn(lambda one: ms(lambda: one.caller.search(question, user)), store, sqlite, number))  # noqa: B023
        found[size] = _p50s(taken[len(users) :])  # the first of a user reads its vectors
    return found


def _scale(stores: Sequence[Store]) -> tuple[float, float]:
    """Searches a second of so many callers at one process, and shared by all."""
    language = Language(2)
    questions, users = [language.question() for _ in range(1_000)], users_of(1_000, SIZES)

    def per_s(asked: Sequence[Store]) -> float:
        def ask(store: Store) -> int:
            return len(together(store, CALLERS // len(asked), questions, users, SECONDS))

        with ThreadPoolExecutor(len(asked)) as pool:
            return sum(pool.map(ask, asked)) / SECONDS

    return _middle_round([in_turn(per_s, stores[:1], stores, number) for number in range(-1, ROUNDS)][1:])


def _middle(pairs: Sequence[tuple[Work, Work]], figure: Callable[[Work], float]) -> tuple[float, float]:
    return _middle_round([(figure(one), figure(other)) for one, other in pairs])


def _middle_round(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """That of the median ratio."""
    return sorted(pairs, key=lambda pair: pair[0] / pair[1])[len(pairs) // 2]


def _p50s(taken: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return median(one for one, _ in taken), median(other for _, other in taken)


def _worst(pairs: dict[int, tuple[float, float]]) -> float:
    return max(one / other for one, other in pairs.values())


def _beside(pairs: dict[int, tuple[float, float]], of: str) -> dict[str, str]:
    return {f"of {size} {of}": f"{one:.2f}, {other:.2f}" for size, (one, other) in pairs.items()}
