"""Prepared statements do what Core does, in less time."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, bindparam, select, text
from sqlalchemy.exc import OperationalError

from reflexio_server.storage.database import Database
from reflexio_server.storage.prepared import Prepared
from reflexio_server.storage.tables import accounts

pytestmark = pytest.mark.store

# The second row cannot be made: what Core raises when it is fetched.
LATE = Prepared(text("SELECT json(value) FROM json_each(:values)"))
VALUES = '["1", "no JSON", "3"]'


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[Connection]:
    database = Database(tmp_path, owner=True)
    with database.read() as conn:
        yield conn
    database.close()


@pytest.mark.sqlite
@pytest.mark.parametrize(
    "read",
    [
        lambda conn: LATE.rows(conn, values=VALUES),
        lambda conn: list(LATE.each(conn, values=VALUES)),
        lambda conn: LATE.row(conn, values='["no JSON"]'),
        lambda conn: Prepared(text("SELECT no_such_column")).rows(conn),
    ],
    ids=["rows", "each", "row", "prepare"],
)
def test_errors_are_those_of_core(conn: Connection, read: Callable[[Connection], Any]) -> None:
    with pytest.raises(OperationalError) as caught:
        read(conn)
    assert "no JSON" not in str(caught.value), "what people said stays out of the log"


@pytest.mark.sqlite
def test_each_reads_on_demand(conn: Connection) -> None:
    rows = LATE.each(conn, values='["1", "2", "3", "no JSON"]')
    assert [next(rows), next(rows)] == [("1",), ("2",)]


def test_a_value_that_lacks_is_none_of_another_call(conn: Connection) -> None:
    found = Prepared(select(accounts.c.id).where(accounts.c.id == bindparam("id"), accounts.c.email == "a@example.com"))
    assert found.row(conn, id=1) is None
    with pytest.raises(KeyError):
        found.row(conn)
