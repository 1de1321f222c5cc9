"""Statements that are compiled once, and run by the driver itself.

Core takes 50 to 250 times as long to run a statement that finds one row by its number as the driver alone: it looks the
statement up by its shape, binds, wraps and unpacks. What runs in every call is therefore prepared, as a constant of its
module. It is still written in Core, or as `text()` where a dialect has words of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter, methodcaller
from typing import Any, TypeVar

from sqlalchemy import Connection, Executable
from sqlalchemy.engine import Compiled
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

from reflexio_server import ending

Row = tuple[Any, ...]
T = TypeVar("T")

_ALL, _ONE, _CHANGED = methodcaller("fetchall"), methodcaller("fetchone"), attrgetter("rowcount")


class Prepared:
    """A statement whose values are `bindparam`s, given by their names at each call.

    Errors of the driver are raised as Core raises them. The driver gives up the interpreter's lock at each row it steps
    over: where many are expected let the statement make one of them (`json_group_array`).
    """

    def __init__(self, statement: Executable) -> None:
        assert isinstance(statement, ClauseElement)
        self._statement = statement
        self._compiled: dict[str, tuple[str, Sequence[str], dict[str, Any]]] = {}

    def rows(self, conn: Connection, **values: Any) -> list[Row]:
        """All rows, each a tuple."""
        found: list[Row] = self._run(conn, values, _ALL)
        return found

    def each(self, conn: Connection, **values: Any) -> Iterator[Row]:
        """Row after row, read on demand: what is not asked for is not read, but for one."""
        driver: Any = conn.connection.driver_connection
        # A driver that would read all rows at once has another function for this.
        run = getattr(driver, "on_demand", driver.execute)
        rows: Iterator[Row] = self._run(conn, values, iter, run)
        try:
            yield from rows
        except Exception as error:
            raise as_core(conn, self._compiled[conn.dialect.name][0], error) from error

    def row(self, conn: Connection, **values: Any) -> Row | None:
        """The first row, None when there is none."""
        found: Row | None = self._run(conn, values, _ONE)
        return found

    def scalar(self, conn: Connection, **values: Any) -> Any:
        """The first column of the first row, None when there is none."""
        row = self.row(conn, **values)
        return None if row is None else row[0]

    def run(self, conn: Connection, **values: Any) -> int:
        """Run a statement that changes rows; how many it changed."""
        changed: int = self._run(conn, values, _CHANGED)
        return changed

    def _run(
        self,
        conn: Connection,
        values: dict[str, Any],
        take: Callable[[Any], Any],
        run: Callable[[str, Sequence[Any]], Any] | None = None,
    ) -> Any:
        dialect = conn.dialect
        prepared = self._compiled.get(dialect.name)
        if prepared is None:
            prepared = self._compiled[dialect.name] = _compiled(self._statement.compile(dialect=dialect))
        sql, names, constants = prepared
        arguments = [values[name] if name in values else constants[name] for name in names]
        return execute(conn, sql, arguments, take, run)


def execute(
    conn: Connection,
    sql: str,
    arguments: Sequence[Any] = (),
    take: Callable[[Any], T] = _CHANGED,
    run: Callable[[str, Sequence[Any]], Any] | None = None,
) -> T:
    """Have the driver run a statement; what is taken of its cursor. Errors are raised as Core raises them.

    `run`: a function of the driver's, by default its `execute`.
    """
    driver: Any = conn.connection.driver_connection
    ending.check()
    try:
        return take((run or driver.execute)(sql, arguments))
    except Exception as error:
        raise as_core(conn, sql, error) from error


def as_core(conn: Connection, sql: str, error: Exception) -> BaseException:
    """An error of the driver as Core raises it; a connection that is lost is not used again."""
    dialect = conn.dialect
    base = dialect.loaded_dbapi.Error
    lost = isinstance(error, base) and dialect.is_disconnect(error, conn.connection.driver_connection, None)
    made = DBAPIError.instance(
        sql, None, error, base, hide_parameters=True, connection_invalidated=lost, dialect=dialect
    )
    if lost:
        conn.invalidate(error)
    return made


def _compiled(compiled: Compiled) -> tuple[str, Sequence[str], dict[str, Any]]:
    """The text, the names of its values in their order, and the values that the statement itself gives."""
    assert isinstance(compiled, SQLCompiler)
    assert compiled.positiontup is not None, "values are given by their places"
    given = {name: value for name, value in compiled.params.items() if not compiled.binds[name].required}
    return str(compiled), compiled.positiontup, given
