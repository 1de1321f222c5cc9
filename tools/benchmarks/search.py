"""How quickly the server searches and indexes, over the wire, beside what people build; two sizes in one run."""

import contextlib
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from reflexio.v1 import auth_service_pb2, auth_service_pb2_grpc, interaction_pb2, interaction_service_pb2_grpc
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.config import Settings
from reflexio_server.core import ranking
from reflexio_server.core.vector_cache import VectorCache
from reflexio_server.index.chroma import ChromaIndex
from reflexio_server.index.chroma_folder import CHROMA_FOLDER, newest_folder
from reflexio_server.index.embedder import Embedder
from reflexio_server.index.loading import load_embedder
from reflexio_server.storage import collections, interactions, standing, vectors, waiting
from reflexio_server.storage.database import Database
from tools.benchmarks.beside import Arm, in_turn
from tools.benchmarks.filling import SIZES, Language, fill, messages, users_of
from tools.server_process import PASSWORD, ServerProcess, create_account, rss_mb

TOTALS = (30_000, 300_000)
QUERIES = 300  # of each size of user and store
CALLERS = 8
CALLERS_SECONDS = 15
FRESH = 100
INDEX_ROUNDS, INDEX_TEXTS = 4, 512
BESIDE_SIZES = {1_000: 3, 100: 4, 10_000: 1}  # users that are searched beside another revision, as far as rows suffice
BESIDE_ROUNDS, BESIDE_SECONDS = 4, 4.0


class Store:
    """A filled data directory with a server on it."""

    def __init__(self, data_dir: Path, total: int, embedder: Embedder) -> None:
        self.data_dir = data_dir
        email = create_account(data_dir)
        fill(data_dir, email, total, embedder.model_id, embedder.dimensions, Language(total))
        self.server = ServerProcess(data_dir)
        with grpc.insecure_channel(self.server.address) as channel:
            login = auth_service_pb2.LoginRequest(email=email, password=PASSWORD)
            self.key = auth_service_pb2_grpc.AuthServiceStub(channel).Login(login, timeout=30).api_key
        self.caller = Caller(self.server.address, self.key)
        self.database = Database(data_dir, owner=False)
        with self.database.read() as conn:
            self.account_id, self.model = conn.exec_driver_sql("SELECT account_id, model FROM vectors LIMIT 1").one()

    def wait_for(self, done: Callable[[Any], bool], seconds: float, pause: float = 0.01) -> None:
        """Wait until the database says so, asking after each pause (seconds)."""
        deadline = time.monotonic() + seconds
        while True:
            with self.database.read() as conn:
                if done(conn):
                    return
            if time.monotonic() > deadline:
                raise RuntimeError(f"the index was not ready within {seconds} s")
            time.sleep(pause)

    def close(self) -> None:
        self.database.close()
        if self.server.process.poll() is None:
            self.server.kill()


class Caller:
    """The calls of one key on a channel of its own."""

    def __init__(self, address: str, key: str) -> None:
        self._stub = interaction_service_pb2_grpc.InteractionServiceStub(grpc.insecure_channel(address))
        self._named: dict[str, Any] = {"metadata": (("authorization", f"Bearer {key}"),), "timeout": 60}

    def search(self, query: str, user_id: str | None = None, **fields: Any) -> pb.SearchInteractionsResponse:
        request = pb.SearchInteractionsRequest(query=query, user_id=user_id, **fields)
        return self._stub.SearchInteractions(request, **self._named)

    def newest(self, user_id: str) -> None:
        self._stub.GetInteractions(pb.GetInteractionsRequest(user_id=user_id, page_size=30), **self._named)

    def publish(self, user_id: str, texts: Sequence[str]) -> pb.PublishInteractionsResponse:
        items = [interaction_pb2.InteractionData(content=text) for text in texts]
        request = pb.PublishInteractionsRequest(user_id=user_id, interactions=items)
        return self._stub.PublishInteractions(request, **self._named)

    def stream(self, requests: Iterable[pb.PublishInteractionsRequest]) -> pb.PublishInteractionStreamResponse:
        sent = (pb.PublishInteractionStreamRequest(request=request) for request in requests)
        return self._stub.PublishInteractionStream(sent, **self._named)

    def fill(self, requests: Sequence[pb.PublishInteractionsRequest], seconds: float) -> None:
        """Publish them all, and wait until a search finds each by its meaning."""
        for start in range(0, len(requests), 1_000):
            self.stream(requests[start : start + 1_000])
        deadline = time.monotonic() + seconds
        while self.search("anything", top_k=1).unindexed_count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the vectors were not ready within {seconds:.0f} s")
            time.sleep(0.5)


def run() -> dict[str, Any]:
    """Fill a small and a large store, start a server on each, and measure."""
    embedder = load_embedder("minilm", Settings().model_dir)
    language = Language(1)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as opened:
        stores: dict[int, Store] = {}
        for total in TOTALS:
            stores[total] = Store(Path(folder) / str(total), total, embedder)
            opened.callback(stores[total].close)
        for total, store in stores.items():
            _say(f"waiting until Chroma holds all {total}")
            store.wait_for(lambda conn, model=store.model: not collections.lagging_accounts(conn, model), 1800, pause=1)  # type: ignore[misc]
        _say("searching, one call at a time")
        figures = _latencies(stores, language)
        large = stores[max(stores)]
        _say("fresh interactions")
        fresh = _fresh(large, language)
        _say("indexing, beside the model alone")
        index_per_s, embed_per_s = _indexing(large, embedder, language)
        large.caller.search(language.question())
        memory = round(rss_mb(large.server.process.pid))
        _say(f"{CALLERS} callers, alone and then beside a bulk stream")
        figures |= _callers(large, language)
        for store in stores.values():
            store.server.terminate()
        _say("the ranking alone, and Chroma with a filter by user")
        figures |= _rank(large, language)
    return figures | {
        "index_per_s": round(index_per_s),
        "embed_per_s": round(embed_per_s),
        "index_ratio": round(index_per_s / embed_per_s, 2),
        "fresh_ms": {"p50": _percentile(fresh, 50), "p99": _percentile(fresh, 99)},
        "rss_mb": memory,
    }


def beside(new: Arm, old: Arm, rows: int) -> list[dict[str, float]]:
    """The figures of both: searches one at a time, reading, and how many searches eight callers get through."""
    language = Language(rows)
    sizes: dict[int, int] = {}
    for size, most in BESIDE_SIZES.items():
        room = rows - sum(size * count for size, count in sizes.items())
        sizes |= {size: min(most, room // size)} if room >= size else {}
    callers = Caller(new.address, new.key), Caller(old.address, old.key)
    _say(f"filling both with {rows} interactions, and waiting for their vectors")
    sent = list(messages(rows, language, sizes))
    with ThreadPoolExecutor(2) as filling:
        list(filling.map(lambda caller: caller.fill(sent, 120 + rows / 10), callers))

    _say("asking in turn")
    users = {size: users_of(size, sizes) for size in sizes}
    taken: dict[str, list[tuple[float, float]]] = {}

    def ask(kind: str, call: Callable[[Caller], Any]) -> None:
        pairs = taken.setdefault(kind, [])
        pairs.append(in_turn(lambda caller: _ms(lambda: call(caller)), *callers, len(pairs)))

    for user in (name for names in users.values() for name in names):
        ask("the first search of a user", lambda caller: caller.search(language.question(), user))  # noqa: B023
    for number in range(min(QUERIES, rows // 20)):
        question = language.question()
        for size, names in users.items():
            ask(f"user of {size}", lambda caller: caller.search(question, names[number % len(names)]))  # noqa: B023
        ask("account", lambda caller: caller.search(question))  # noqa: B023
        ask("get", lambda caller: caller.newest(max(users.items())[1][0]))
    questions = [language.question() for _ in range(1_000)]
    seconds = min(BESIDE_SECONDS, rows / 1_000)
    for number in range(BESIDE_ROUNDS):
        count = lambda arm: len(_call_together(arm, questions, users[1_000], seconds)) / seconds  # noqa: E731
        taken.setdefault("together", []).append(in_turn(count, new, old, number))

    def figures(place: int) -> dict[str, float]:
        of = {kind: [pair[place] for pair in pairs] for kind, pairs in taken.items()}
        return {
            "p50_ms": _percentile(of["user of 1000"], 50),
            **{f"p50_ms_{size}": _percentile(of[f"user of {size}"], 50) for size in sizes if size != 1_000},
            "p50_ms_account": _percentile(of["account"], 50),
            "get_p50_ms": _percentile(of["get"], 50),
            "search_per_s": _percentile(of["together"], 50),
        }

    return [figures(0), figures(1)]


def _latencies(stores: dict[int, Store], language: Language) -> dict[str, Any]:
    """Searches of users of each size, in the small and the large store by turns; some find their user's vectors not
    yet in memory, as the first search of a user always does."""
    taken: dict[int, dict[int, list[float]]] = {total: {size: [] for size in SIZES} for total in stores}
    for store in stores.values():
        store.caller.search("the first call of a connection", "nobody")
    for size in SIZES:
        users = users_of(size)
        for number in range(QUERIES):
            question = language.question()
            for total, store in stores.items():
                ask = _asking(store, question, users[number % len(users)])
                taken[total][size].append(_ms(ask))
    gets = [_ms(lambda: stores[max(stores)].caller.newest(users_of(10_000)[0])) for _ in range(QUERIES)]

    def table(percent: float) -> dict[str, dict[str, float]]:
        return {
            str(total): {str(size): _percentile(times, percent) for size, times in sizes.items()}
            for total, sizes in taken.items()
        }

    small, large = (float(np.percentile(taken[total][1_000], 50)) for total in (min(stores), max(stores)))
    return {
        "p50_ms": table(50),
        "p99_ms": table(99),
        "growth": round(large / small, 2),
        "growth_ms": round(large - small, 2),
        "get_p50_ms": _percentile(gets, 50),
    }


def _asking(store: Store, question: str, user: str) -> Callable[[], Any]:
    return lambda: store.caller.search(question, user)


def _fresh(store: Store, language: Language) -> list[float]:
    """From the acknowledgement of a publish until a search finds it by its meaning, in ms."""
    taken: list[float] = []
    users = users_of(1_000)
    for number in range(FRESH):
        user = users[number % len(users)]
        text = f"{language.turns(1)[0]} {number}"
        (published,) = store.caller.publish(user, [text]).interaction_ids
        began = time.perf_counter()
        while True:
            hits = store.caller.search(text, user).hits
            if any(hit.interaction.interaction_id == published and hit.semantic > 0 for hit in hits):
                break
        taken.append((time.perf_counter() - began) * 1000)
    return taken


def _indexing(store: Store, embedder: Embedder, language: Language) -> tuple[float, float]:
    """Texts a second: from publishing to vectors stored, and the model alone in one thread; by turns, same texts."""
    indexing = embedding = 0.0
    for number in range(INDEX_ROUNDS):
        texts = language.turns(INDEX_TEXTS)
        began = time.perf_counter()
        for text in texts:
            embedder.embed(text)
        embedding += time.perf_counter() - began
        began = time.perf_counter()
        store.caller.publish(f"indexed {number}", texts)
        store.wait_for(lambda conn: waiting.first(conn) is None, 120)
        indexing += time.perf_counter() - began
    return INDEX_ROUNDS * INDEX_TEXTS / indexing, INDEX_ROUNDS * INDEX_TEXTS / embedding


def _callers(store: Store, language: Language) -> dict[str, float]:
    """Eight callers at once, searching users of 1,000: alone, and while a process of its own streams publishes."""
    questions = [language.question() for _ in range(1_000)]
    arm = Arm(store.server.address, store.key)
    quiet = _call_together(arm, questions, users_of(1_000), CALLERS_SECONDS)
    context = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
    stop = context.Event()
    bulk = context.Process(target=stream_bulk, args=(store.server.address, store.key, stop), daemon=True)
    bulk.start()
    try:
        with store.database.read() as conn:
            before = interactions.last_sequence(conn, store.account_id)
        store.wait_for(lambda conn: interactions.last_sequence(conn, store.account_id) > before, 60)
        busy = _call_together(arm, questions, users_of(1_000), CALLERS_SECONDS)
    finally:
        stop.set()
        bulk.join(60)
        bulk.kill()
    return {
        "search_per_s": round(len(busy) / CALLERS_SECONDS),
        "quiet_p99_ms": _percentile(quiet, 99),
        "busy_p99_ms": _percentile(busy, 99),
    }


def _call_together(arm: Arm, questions: Sequence[str], users: Sequence[str], seconds: float) -> list[float]:
    start = threading.Barrier(CALLERS)

    def call(number: int) -> list[float]:
        caller = Caller(arm.address, arm.key)
        caller.search("the first call of a connection", "nobody")
        start.wait()
        taken: list[float] = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            place = number + CALLERS * len(taken)
            question, user = questions[place % len(questions)], users[place % len(users)]
            began = time.perf_counter()
            caller.search(question, user)
            taken.append((time.perf_counter() - began) * 1000)
        return taken

    with ThreadPoolExecutor(CALLERS) as callers:
        return [ms for taken in callers.map(call, range(CALLERS)) for ms in taken]


def stream_bulk(address: str, key: str, stop: Any) -> None:
    """Publish over streams of 1,000 requests, as fast as they are taken, until told to stop."""
    texts = Language(2).turns(2_000)
    caller = Caller(address, key)

    def requests(stream: int) -> Iterator[pb.PublishInteractionsRequest]:
        for number in range(1_000):
            if stop.is_set():
                return
            part = texts[number * 10 % len(texts) :][:10]
            items = [interaction_pb2.InteractionData(content=text) for text in part]
            yield pb.PublishInteractionsRequest(
                user_id=f"bulk {number % 50}", interactions=items, request_id=f"bulk_{stream}_{number}"
            )

    stream = 0
    while not stop.is_set():
        caller.stream(requests(stream))
        stream += 1


def _rank(store: Store, language: Language) -> dict[str, float]:
    """The ten nearest of a user of 1,000, vector given: ours, and one Chroma collection with a filter by user."""
    cache = VectorCache(Settings().vector_cache_mb * 1024 * 1024)
    ours: list[float] = []
    theirs: list[float] = []
    folder = newest_folder(store.data_dir / CHROMA_FOLDER)
    assert folder
    index = ChromaIndex(folder)
    with store.database.read() as conn:
        live = collections.live_collection(conn, store.account_id, store.model)
        assert live
        found = [standing.of_user(conn, store.account_id, name) for name in users_of(1_000)]
        standings = [one for one in found if one]
        for number in range(-len(standings), 100):
            of = standings[number % len(standings)]
            user = of.user_ref or 0
            mine = vectors.of_user(conn, user, store.model)
            vector = mine.matrix[language.random.integers(len(mine))]

            def rank(of: standing.Standing = of, vector: vectors.Matrix = vector) -> None:
                held = cache.get(conn, of, len(mine))  # noqa: B023
                assert held
                refs, semantic, _ = ranking.best_per_interaction(held.rows, held.cosines(vector))
                ranking.rank(refs, semantic, np.zeros(len(refs)), 10)

            def where(user: int = user, vector: vectors.Matrix = vector) -> None:
                index.query(live.name, vector, 10, user)

            ours_ms, theirs_ms = _ms(rank), _ms(where)
            if number >= 0:  # the first of each user warms up both
                ours.append(ours_ms)
                theirs.append(theirs_ms)
    index.close()
    rank_ms, where_ms = float(np.percentile(ours, 50)), float(np.percentile(theirs, 50))
    return {
        "rank_ms": round(rank_ms, 3),
        "chroma_where_ms": round(where_ms, 2),
        "vs_chroma_where": round(where_ms / rank_ms, 1),
    }


def _ms(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def _percentile(taken: Sequence[float], percent: float) -> float:
    return round(float(np.percentile(taken, percent)), 2)


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
