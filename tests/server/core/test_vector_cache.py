"""Users' vectors in memory are at every moment those of the searching snapshot, and never more than may be held."""

import hashlib
import itertools
import os
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Connection

from reflexio_server.core import vector_cache
from reflexio_server.core.vector_cache import VectorCache
from reflexio_server.model import NewInteraction, NewRequest, StoredRequest, UserAction
from reflexio_server.storage import embedders, interactions, standing, vectors, waiting
from reflexio_server.storage.accounts import add_account
from reflexio_server.storage.database import Database
from reflexio_server.storage.publishing import store_requests
from reflexio_server.storage.vectors import Vectors
from tests.support import LocalServer

pytestmark = pytest.mark.store

ACCOUNT, DIMENSIONS, MIB = 1, 8, 1024 * 1024
numbers = itertools.count()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path, owner=True, readers=8)
    with opened.write() as conn:
        add_account(conn, "a@example.com", "aaaaaaaaaa", "hash", 1)
        embedders.choose(conn, embedders.register(conn, "model", DIMENSIONS))
    yield opened
    opened.close()


def publish(database: Database, user: str, count: int) -> list[int]:
    """Rows that wait for their vectors."""
    items = tuple(NewInteraction("User", f"text {n}", UserAction.NONE, "", "", None, None) for n in range(count))
    name = f"request {next(numbers)}"
    made = NewRequest(name, user, "", "", "", items, hashlib.sha256(name.encode()).digest())
    with database.write() as conn:
        (outcome,) = store_requests(conn, [(ACCOUNT, made)], 1)
    assert isinstance(outcome, StoredRequest)
    return list(outcome.refs)


def embed(database: Database, refs: list[int], chunks: int = 1) -> None:
    """Random vectors for these rows."""
    with database.write() as conn:
        rows = waiting.among(conn, refs)
        made = np.random.default_rng(refs[0]).normal(size=(len(rows), chunks, DIMENSIONS)).astype(np.float32)
        vectors.store(conn, 1, list(zip(rows, made, strict=True)))


def user(conn: Connection, name: str) -> int:
    found = interactions.user_ref(conn, ACCOUNT, name)
    assert found
    return found


def check(cache: VectorCache, conn: Connection, name: str) -> int:
    """What the cache gives in this snapshot is what SQL has in it; how many there are."""
    held = cached(cache, conn, name, 100_000)
    wanted = vectors.of_user(conn, user(conn, name), 1)
    assert held is not None
    for column in ("rows", "matrix"):
        assert np.array_equal(getattr(held, column), getattr(wanted, column)), column
    return len(held)


def cached(cache: VectorCache, conn: Connection, name: str, most: int) -> Vectors | None:
    of = standing.of_user(conn, ACCOUNT, name)
    assert of
    return cache.get(conn, of, most)


def test_vectors_written_later_and_out_of_the_rows_order_are_there_at_the_next_search(database: Database) -> None:
    cache = VectorCache(MIB)
    first, second, third = (publish(database, "u", 5) for _ in range(3))
    with database.read() as conn:
        assert check(cache, conn, "u") == 0
    for count, refs, chunks in ((5, third, 1), (20, first, 3), (25, second, 1)):
        embed(database, refs, chunks)
        with database.read() as conn:
            assert check(cache, conn, "u") == count
    assert (cache.hits, cache.misses) == (3, 1)


def test_a_replay_changes_nothing(database: Database) -> None:
    cache = VectorCache(MIB)
    refs = publish(database, "u", 5)
    for _ in range(2):
        embed(database, refs)
        with database.read() as conn:
            assert check(cache, conn, "u") == 5


def test_a_search_whose_snapshot_is_older_does_not_see_what_a_later_one_brought(database: Database) -> None:
    cache = VectorCache(MIB)
    embed(database, publish(database, "u", 5))
    with database.read() as old:
        assert check(cache, old, "u") == 5
        embed(database, publish(database, "u", 7))
        with database.read() as new:
            assert check(cache, new, "u") == 12
        assert check(cache, old, "u") == 5
    with database.read() as conn:
        assert check(cache, conn, "u") == 12
    assert cache.misses == 1


def test_what_a_search_looks_at_is_not_changed_under_it(database: Database) -> None:
    cache = VectorCache(MIB)
    embed(database, publish(database, "u", 5))
    with database.read() as conn:
        held = cached(cache, conn, "u", 100)
    assert held
    before = held.matrix.copy()
    for _ in range(20):
        embed(database, publish(database, "u", 3))
        with database.read() as conn:
            check(cache, conn, "u")
    assert np.array_equal(held.matrix, before)


def test_no_more_is_held_than_may_be_and_the_least_recently_searched_goes_first(database: Database) -> None:
    rows = 100
    most = 3 * (rows * (DIMENSIONS * 4 + vector_cache._ROW_BYTES) + 1000) + 500  # three users and a half
    cache = VectorCache(most)
    for name in "abcde":
        embed(database, publish(database, name, rows))
    with database.read() as conn:
        for name in "abcab":
            assert check(cache, conn, name) == rows
        assert (cache.hits, cache.misses) == (2, 3)
        check(cache, conn, "d")  # c goes
        for name, found in (("a", True), ("b", True), ("d", True), ("c", False)):
            hits = cache.hits
            check(cache, conn, name)
            assert (cache.hits > hits) == found, name
            assert cache.bytes_held <= most


def test_a_user_that_alone_is_too_large_is_read_each_time(database: Database) -> None:
    cache = VectorCache(10_000)
    embed(database, publish(database, "large", 1000))
    embed(database, publish(database, "small", 10))
    with database.read() as conn:
        for name in ("small", "large", "large", "small"):
            check(cache, conn, name)
        assert cache.bytes_held <= 10_000
        assert (cache.hits, cache.misses) == (1, 3)


def test_a_user_of_more_than_asked_for_is_not_compared_one_by_one(database: Database) -> None:
    cache = VectorCache(MIB)
    embed(database, publish(database, "u", 10))
    with database.read() as conn:
        assert cached(cache, conn, "u", 9) is None
        assert cached(cache, conn, "u", 10)
    embed(database, publish(database, "u", 1))
    with database.read() as conn:
        assert cached(cache, conn, "u", 10) is None
        assert cached(cache, conn, "u", 11)


def test_searches_at_once_while_vectors_are_written(database: Database) -> None:
    seed = int(os.environ.get("REFLEXIO_TEST_SEED") or random.SystemRandom().getrandbits(32))
    print(f"REFLEXIO_TEST_SEED={seed}")
    cache = VectorCache(8_000)  # so that users are dropped and read again all the time
    names = "abcd"
    for name in names:
        embed(database, publish(database, name, 20))
    done = threading.Event()

    def search(number: int) -> int:
        source = random.Random(seed + number)
        searches = 0
        while not done.is_set() or not searches:
            with database.read() as conn:
                for name in source.choices(names, k=3):
                    check(cache, conn, name)
            searches += 1
        return searches

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(search, number) for number in range(4)]
        source = random.Random(seed)
        try:
            for _ in range(60):
                embed(database, publish(database, source.choice(names), source.randrange(1, 10)))
        finally:
            done.set()
        assert all(future.result(60) for future in running)
    assert cache.hits
    assert cache.misses > len(names)


def test_the_server_counts_and_starts_empty(start: Callable[..., LocalServer], tmp_path: Path) -> None:
    server = start(tmp_path / "data")
    caller = server.new_caller()
    for count in range(1, 4):
        caller.publish("u", f"A grey kitten, number {count}")
        assert len(caller.search(user_id="u", query="young cat").hits) == count
    assert (server.app.cache.hits, server.app.cache.misses) == (2, 1)
