"""Reading never walks over a whole table: SQLite says for each statement by which index it finds the rows."""

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, event

from reflexio_server.model import Cursor, Filter, RequestCursor, RequestFilter, UserAction
from reflexio_server.storage import collections, interactions, requests, vectors
from reflexio_server.storage.database import Database
from reflexio_server.storage.interactions import Scope
from reflexio_server.storage.requests import RequestScope

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
# The rows of an owner, of a request, or known by their number or id; "start_time" and the like narrow it further.
BOUNDED = re.compile(
    r"(SEARCH \w+ USING (COVERING )?INDEX \w+ \((user_ref|account_id|request_ref|interaction_id|interaction_ref)=\?"
    r"|SEARCH \w+ USING INTEGER PRIMARY KEY \(rowid=\?\)"
    r"|(LIST|CORRELATED SCALAR) SUBQUERY \d+$|USE TEMP B-TREE FOR ORDER BY$)"
)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    opened = Database(tmp_path_factory.mktemp("plans"), owner=True)
    yield opened
    opened.close()


@contextmanager
def statements(conn: Connection) -> Iterator[list[tuple[str, Any]]]:
    """Every statement that is executed."""
    seen: list[tuple[str, Any]] = []

    def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        seen.append((statement, parameters))

    event.listen(conn, "before_cursor_execute", note)
    yield seen
    event.remove(conn, "before_cursor_execute", note)


def plans(database: Database, read: Callable[[Connection], Any]) -> list[str]:
    with database.read() as conn:
        with statements(conn) as seen:
            read(conn)
        assert seen
        return [
            step.detail
            for statement, parameters in seen
            for step in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]


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
            is_bounded(database, lambda conn, scope=scope: interactions.count_waiting(conn, scope))  # type: ignore[misc]
    by_id = Scope(1, user, interaction_ids=(ID, "x"))
    is_bounded(database, lambda conn: list(interactions.listing(conn, by_id, limit=31)))
    is_bounded(database, lambda conn: interactions.existing_ids(conn, by_id))


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
            assert "created_at" in main, "a later page begins where the one before ended"


def test_requests_are_found_by_an_index_and_come_in_its_order(database: Database) -> None:
    inside = RequestCursor((5, 5), (4, 4), (4, ID), 100)
    for count in range(5):
        for names in itertools.combinations(("request_id", "request_group", "start_time", "end_time"), count):
            scope = RequestScope(1, 7, RequestFilter(**{name: CONDITIONS[name] for name in names}), 100)
            for start in (None, inside):
                read = lambda conn, scope=scope, start=start: list(requests.by_thread(conn, scope, start, 31))  # noqa: E731
                is_bounded(database, read)
                if "request_id" not in names:
                    assert not [step for step in plans(database, read) if "TEMP B-TREE" in step]
            is_bounded(database, lambda conn, scope=scope: requests._of_thread(conn, scope, "g", inside, 31))  # type: ignore[misc]
    is_bounded(database, lambda conn: requests.interactions_of(conn, [1, 2, 3]))


def test_vectors_are_found_by_an_index(database: Database) -> None:
    for read in (
        lambda conn: vectors.of_user(conn, 7, 1),
        lambda conn: vectors.of_refs(conn, [1, 2], 1),
        lambda conn: vectors.after(conn, 1, 1, 5, 100),
        lambda conn: vectors.refs_of_stamps(conn, 1, [1, 2]),
        lambda conn: vectors.waiting_of_user(conn, 1, 7, 64),
        lambda conn: interactions.identities(conn, 1, [1, 2]),
        lambda conn: list(interactions.by_refs(conn, 1, [1, 2])),
        lambda conn: interactions.threads(conn, [1, 2]),
    ):
        is_bounded(database, read)


def test_the_lag_of_the_index_is_counted_in_what_waits_alone(database: Database) -> None:
    assert plans(database, vectors.count_waiting) == ["SCAN interactions USING INDEX interactions_waiting"]
    steps = plans(database, lambda conn: collections.count_not_applied(conn, 1))
    (walk,) = [step for step in steps if step.startswith("SEARCH vectors")]
    assert walk.endswith("COVERING INDEX vectors_by_account (account_id=? AND model=? AND id>?)")
    assert [step.split()[:2] for step in steps if step.startswith("SCAN")] == [["SCAN", "accounts"]]


def test_a_walk_would_be_noticed(database: Database) -> None:
    query = "SELECT id FROM interactions WHERE role = 'User'"
    with pytest.raises(AssertionError, match="SCAN interactions"):
        is_bounded(database, lambda conn: conn.exec_driver_sql(query))
