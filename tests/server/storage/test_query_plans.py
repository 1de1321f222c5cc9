"""Reading never walks over a whole table: SQLite says for each statement by which index it finds the rows."""

import itertools
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection

from reflexio_server.model import (
    Cursor,
    Filter,
    NewInteraction,
    NewRequest,
    Picture,
    RequestCursor,
    RequestFilter,
    StoredRequest,
    UserAction,
)
from reflexio_server.storage import (
    collections,
    embedders,
    erasing,
    facts,
    interactions,
    requests,
    settling,
    vectors,
    waiting,
)
from reflexio_server.storage.accounts import add_account
from reflexio_server.storage.database import Database
from reflexio_server.storage.erasing import Part
from reflexio_server.storage.interactions import Scope
from reflexio_server.storage.publishing import store_requests
from reflexio_server.storage.requests import RequestScope
from reflexio_server.storage.tables import metadata

pytestmark = pytest.mark.sqlite  # its plans

ID = "01900000-0000-7000-8000-000000000000"
CONDITIONS: dict[str, Any] = {
    "request_id": "r",
    "request_group": "g",
    "sources": ("a", "b"),
    "roles": ("User",),
    "user_actions": (UserAction.CLICK,),
    "agent_version": "1",
    "start_time": 5,
    "end_time": 9,
    "most_recent_k": 10,
}
FILTERS = [
    {name: CONDITIONS[name] for name in names}
    for count in (0, 1, 2, len(CONDITIONS))
    for names in itertools.combinations(CONDITIONS, count)
]
# The rows of an owner, of a request, or known by their number or id, also from a list that was given; "start_time" and
# the like narrow it further.
BOUNDED = re.compile(
    r"(SEARCH \w+ USING (COVERING )?INDEX \w+ \((user_ref|account_id|request_ref|interaction_id|interaction_ref)=\?"
    r"|SEARCH \w+ USING INTEGER PRIMARY KEY \(rowid=\?\)|SCAN k VIRTUAL TABLE INDEX 1:$"
    r"|COMPOUND QUERY$|LEFT-MOST SUBQUERY$|SCAN CONSTANT ROW$|UNION ALL$|CORRELATED LIST SUBQUERY \d+$"
    r"|(LIST|CORRELATED SCALAR) SUBQUERY \d+$|USE TEMP B-TREE FOR ORDER BY$"
    r"|(CO-ROUTINE|SCAN) found$)"  # which goes through what was found as it comes
)

# What else an erase may do: look up single rows, walk a list it was given, or what is to be forgotten.
ERASING = re.compile(
    r"(SCAN k VIRTUAL TABLE INDEX 1:"
    r"|SEARCH \w+ USING (COVERING )?INDEX \w+ \(account_id=\? AND "
    r"|SEARCH \w+ USING INTEGER PRIMARY KEY \(rowid=\?\)"
    r"|USING ROWID SEARCH ON TABLE \w+ FOR IN-OPERATOR$"
    r"|(LIST|SCALAR|CORRELATED SCALAR) SUBQUERY \d+$)"
)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    opened = Database(tmp_path_factory.mktemp("plans"), owner=True)
    yield opened
    opened.close()


@contextmanager
def statements(conn: Connection) -> Iterator[list[str]]:
    """Every statement that SQLite is told, with its values; what the full text makes of them is its own affair."""
    seen: list[str] = []

    def note(statement: str) -> None:
        if not re.search("^--|'(full_text|interactions_fts)_", statement):
            seen.append(statement)

    driver = conn.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    driver.set_trace_callback(note)
    try:
        yield seen
    finally:
        driver.set_trace_callback(None)


def steps_of(conn: Connection, seen: Sequence[str]) -> list[str]:
    assert seen
    driver = conn.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return [step[3] for statement in seen for step in driver.execute(f"EXPLAIN QUERY PLAN {statement}")]


def plans(database: Database, read: Callable[[Connection], Any]) -> list[str]:
    with database.read() as conn:
        with statements(conn) as seen:
            read(conn)
        return steps_of(conn, seen)


def is_bounded(database: Database, read: Callable[[Connection], Any]) -> None:
    found = plans(database, read)
    assert found
    assert [step for step in found if not BOUNDED.match(step)] == []


@pytest.mark.parametrize("user", [None, 7], ids=["account", "user"])
def test_interactions_are_found_by_an_index_whatever_the_filter(database: Database, user: int | None) -> None:
    after = Cursor(5, ID, 100)
    for fields in FILTERS:
        for scope in (Scope(1, user, Filter(**fields)), Scope(1, user, Filter(**fields), max_sequence=100)):
            is_bounded(database, lambda conn, scope=scope: list(interactions.listing(conn, scope, limit=31)))  # type: ignore[misc]
            is_bounded(
                database,
                lambda conn, scope=scope: list(  # type: ignore[misc]
                    interactions.listing(conn, scope, oldest_first=True, after=after, limit=31)
                ),
            )
            is_bounded(database, lambda conn, scope=scope: interactions.refs(conn, scope, 10))  # type: ignore[misc]
            is_bounded(database, lambda conn, scope=scope: waiting.count_in(conn, scope))  # type: ignore[misc]
            is_bounded(database, lambda conn, scope=scope: interactions.passing(conn, scope, range(1000)))  # type: ignore[misc]
    by_id = Scope(1, user, interaction_ids=(ID, "x"))
    for read in (
        lambda conn: list(interactions.listing(conn, by_id, limit=31)),
        lambda conn: interactions.existing_ids(conn, by_id),
    ):
        is_bounded(database, read)
        (main,) = [step for step in plans(database, read) if step.startswith("SEARCH interactions")]
        assert main.endswith("(interaction_id=?)"), "not all of the owner's are walked"


def test_pages_of_interactions_need_no_sorting(database: Database) -> None:
    """They come in the order of an index, unless a request or a thread names few of them."""
    for user, oldest in itertools.product((None, 7), (False, True)):
        for fields in FILTERS:
            if {"request_id", "request_group", "most_recent_k"} & set(fields):
                continue
            scope = Scope(1, user, Filter(**fields), max_sequence=100)
            read = interactions.listing
            found = plans(
                database,
                lambda conn, scope=scope: list(  # type: ignore[misc]
                    read(conn, scope, oldest_first=oldest, after=Cursor(5, ID, 100), limit=31)  # noqa: B023
                ),
            )
            assert not [step for step in found if "TEMP B-TREE" in step]
            (main,) = [step for step in found if step.startswith("SEARCH interactions")]
            assert "(created_at,interaction_id)" in main, "a later page begins where the one before ended"


def test_requests_are_found_by_an_index_and_come_in_its_order(database: Database) -> None:
    inside = RequestCursor((5, 5), (4, 4), (4, ID), 100)
    for count in range(5):
        for names in itertools.combinations(("request_id", "request_group", "start_time", "end_time"), count):
            wanted = RequestFilter(**{name: CONDITIONS[name] for name in names})
            for start, oldest in itertools.product((None, inside), (False, True)):
                scope = RequestScope(1, 7, wanted, 100, oldest)
                read = lambda conn, scope=scope, start=start: list(requests.by_thread(conn, scope, start, 31))  # noqa: E731
                is_bounded(database, read)
                if "request_id" not in names:
                    assert not [step for step in plans(database, read) if "TEMP B-TREE" in step]
            is_bounded(database, lambda conn, scope=scope: requests._of_thread(conn, scope, "g", (4, 4), 31))  # type: ignore[misc]
    is_bounded(database, lambda conn: requests.interactions_of(conn, [1, 2, 3]))


def test_vectors_are_found_by_an_index(database: Database) -> None:
    for read in (
        lambda conn: vectors.of_user(conn, 7, 1),
        lambda conn: vectors.erasures(conn, [1, 2]),
        lambda conn: vectors.of_refs(conn, np.arange(1, 1000), 1),
        lambda conn: vectors.after(conn, 1, 1, 5, 100),
        lambda conn: vectors.newest_up_to(conn, 1, 1, 500, 5),
        lambda conn: vectors.rows_of_stamps(conn, 1, list(range(1000))),
        lambda conn: waiting.of_user(conn, 1, 7, 64),
        lambda conn: interactions.identities(conn, 1, [1, 2]),
        lambda conn: list(interactions.by_refs(conn, 1, [1, 2])),
        lambda conn: facts.of_refs(conn, np.arange(1, 1000)),
        lambda conn: facts.neighbours(conn, np.arange(1, 1000)),
    ):
        is_bounded(database, read)


def test_the_lag_of_the_index_is_counted_in_what_waits_alone(database: Database) -> None:
    assert plans(database, waiting.count) == ["SCAN waiting"]
    steps = plans(database, lambda conn: collections.count_not_applied(conn, 1))
    few, walk = [step for step in steps if step.startswith("SEARCH vectors")]
    assert few.endswith("COVERING INDEX vectors_by_account (account_id=? AND model=?)"), "which ends at a bound"
    assert walk.endswith("COVERING INDEX vectors_by_account (account_id=? AND model=? AND id>?)")
    assert [step.split()[:2] for step in steps if step.startswith("SCAN")] == [["SCAN", "accounts"]]


def test_erasing_walks_no_table(database: Database) -> None:
    """Also not the look-ups of the foreign keys, which no plan shows: each child's column leads an index."""
    ids: list[str] = []
    for erase in (
        lambda conn: erasing.erase_interaction(conn, 1, ids[0], "ann", 5),
        lambda conn: erasing.erase_interaction(conn, 1, ids[1], None, 5),
        lambda conn: erasing.erase_request(conn, 1, "r1", "ann", 5),
        lambda conn: erasing.part_of(conn, 1, "ann", "g"),
        lambda conn: erasing.erase_some(conn, Part(1, 1, "g", 100), 500, 5),
        lambda conn: erasing.erase_some(conn, Part(1, 1, None, 100), 500, 5),
        lambda conn: settling.pending(conn, 1, 100),
        lambda conn: settling.pending_of_model(conn, 1, 1),
        lambda conn: settling.note_settled(conn, [1, 2]),
    ):
        with database.write() as conn:
            ids[:] = _fill(conn)
            with statements(conn) as seen:
                erase(conn)
            found = steps_of(conn, seen)
            assert [step for step in found if not (BOUNDED.match(step) or ERASING.match(step))] == []
            children = [
                (table.name, column.name)
                for table in metadata.tables.values()
                for column in table.columns
                if column.foreign_keys and table.name not in ("api_keys", "collections", "jobs", "live_model")
            ]
            for table, column in children:
                if column not in ("account_id", "model"):  # accounts and models are never deleted
                    (plan,) = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN SELECT 1 FROM {table} WHERE {column} = 1")
                    assert f"({column}=?)" in plan.detail, plan.detail
            conn.rollback()


def _fill(conn: Connection) -> list[str]:
    """A user with a thread of three requests, with pictures and vectors: the ids of their interactions."""
    add_account(conn, "a@example.com", "aaaaaaaaaa", "hash", 1)
    number = embedders.register(conn, "model", 4)
    embedders.choose(conn, number)
    picture = Picture(b"x", bytes(32), "image/png", 1, 1)
    items = tuple(NewInteraction("User", f"text {n}", UserAction.NONE, "", "", picture, None) for n in range(3))
    made = [NewRequest(f"r{n}", "ann", "g", "", "", items, bytes(32)) for n in range(3)]
    stored = store_requests(conn, [(1, one) for one in made], 1)
    vectors.store(conn, number, [(row, np.ones((1, 4), dtype=np.float32)) for row in waiting.oldest(conn, 0, 100)])
    return [one for outcome in stored if isinstance(outcome, StoredRequest) for one in outcome.interaction_ids]


def test_a_walk_would_be_noticed(database: Database) -> None:
    query = "SELECT id FROM interactions WHERE role = 'User'"
    with pytest.raises(AssertionError, match="SCAN interactions"):
        is_bounded(database, lambda conn: conn.exec_driver_sql(query))
