"""Takes a store out of SQLite into PostgreSQL, row for row, and goes on where it was broken off.

Rows go by the order of their keys, so what a broken-off run left of a table is its beginning: it is held against the
store, row by row, and what follows is copied. A mark keeps everybody else from the database until all is there.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, LargeBinary, String, Table, cast, delete, func, insert, select, text

from reflexio_server import words
from reflexio_server.storage import full_text, postgres, sqlite
from reflexio_server.storage.database import Database
from reflexio_server.storage.schema import mark_part
from reflexio_server.storage.tables import images, interactions, metadata, schema_range, words_state

ROWS_AT_ONCE = 2000
_BYTES_AT_ONCE = 8_000_000
"""What is copied in a transaction: at least one row, and no more once one of the two is reached."""

_FETCHED_AT_ONCE = 100
_IMAGES_AT_ONCE = 4

Row = tuple[Any, ...]
Show = Callable[[int, int], None]
"""Is told how many rows of how many are there."""


class ImportRefused(Exception):
    """The store was not taken in; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Imported:
    """Of each table how many rows it has, and how many of them were copied now; none when all were there before."""

    rows: dict[str, int]
    copied: dict[str, int]


def import_store(source: Database, target: Database, show: Show) -> Imported:
    """Copy everything; nobody may use either database meanwhile. `target`: one that was opened with `part`.

    Raises ImportRefused: what the target has is no beginning of this store.
    """
    with source.read() as conn:
        rows = _counts(conn)
    if not target.is_part:
        if _is_empty(target):
            with target.write() as conn:
                mark_part(conn, True)
        else:
            _must_be_all(source, target, rows, show)
            return Imported(rows, dict.fromkeys(rows, 0))
    copied = dict.fromkeys(rows, 0)
    done, total = 0, sum(rows.values())
    for table in _copied():
        with closing(_rows(source, table)) as coming:
            for _ in _beginning(target, table, coming):
                done += 1
                show(done, total)
            for batch in _batches(coming):
                with target.write() as conn:
                    postgres.insert_rows(conn, table.name, _names(table), batch)
                    if table is interactions:
                        full_text.add(conn, _texts(batch))
                copied[table.name] += len(batch)
                done += len(batch)
                show(done, total)
    copied[words_state.name] = rows[words_state.name]
    _finish(source, target, rows)
    show(total, total)
    return Imported(rows, copied)


def _copied() -> list[Table]:
    """Every table after those that it refers to, but for the one that is there from the beginning on."""
    return [table for table in _tables() if table is not words_state]


def _tables() -> list[Table]:
    """Every table of the store; what is about the schema itself is each database's own."""
    return [table for table in metadata.sorted_tables if table is not schema_range]


def _names(table: Table) -> tuple[str, ...]:
    return tuple(column.name for column in table.columns)


def _rows(database: Database, table: Table) -> Generator[Row]:
    """All rows by their keys, which both databases put into the same order."""
    keys = [cast(key, LargeBinary) if isinstance(key.type, String) else key for key in table.primary_key]
    at_once = _IMAGES_AT_ONCE if table is images else _FETCHED_AT_ONCE
    with database.read() as conn:
        for row in conn.execution_options(yield_per=at_once).execute(select(table).order_by(*keys)):
            yield tuple(row)


def _counts(conn: Connection) -> dict[str, int]:
    return {table.name: _count(conn, table) for table in _tables()}


def _count(conn: Connection, table: Table) -> int:
    return conn.execute(select(func.count()).select_from(table)).scalar_one()


def _is_empty(target: Database) -> bool:
    with target.read() as conn:
        return all(conn.execute(select(table).limit(1)).first() is None for table in _copied())


def _beginning(target: Database, table: Table, coming: Iterator[Row]) -> Generator[Row]:
    """The target's rows, as long as they are those that come; as many are taken of these."""
    with closing(_rows(target, table)) as there:
        for row in there:
            if next(coming, None) != row:
                raise _refused(target, table)
            yield row


def _must_be_all(source: Database, target: Database, rows: dict[str, int], show: Show) -> None:
    """The target, which is no part, has all of the store and nothing else."""
    done, total = 0, sum(rows.values())
    for table in _tables():
        with closing(_rows(source, table)) as coming:
            for _ in _beginning(target, table, coming):
                done += 1
                show(done, total)
            if next(coming, None) is not None:
                raise _refused(target, table)


def _refused(target: Database, table: Table) -> ImportRefused:
    has = "a part of another store, or of this one before it was used again" if target.is_part else "other data already"
    return ImportRefused(
        f"{target.name} has {has} (the table {table.name} differs): nothing was changed, make a new database for it"
    )


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(len(value) for value in row if isinstance(value, str | bytes))
        if len(batch) >= ROWS_AT_ONCE or size >= _BYTES_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _texts(rows: Sequence[Row]) -> list[tuple[int, str, str]]:
    """What the full text takes of interactions: just what it had, but for version 1, whose words nobody has.

    What an older version cut stays for core/renewal.py to be cut anew.
    """
    texts = []
    for row in rows:
        of = dict(zip(_names(interactions), row, strict=True))
        said = of["content"] if of["search_text"] is None else of["search_text"]
        indexed = said if of["words"] is None else of["words"]
        if of["words_version"] == 1:
            indexed = words.to_index(said)
        if indexed:
            texts.append((of["id"], full_text.owner(of["account_id"], of["user_ref"]), indexed))
    return texts


def _finish(source: Database, target: Database, rows: dict[str, int]) -> None:
    """Let new rows have numbers that none had, compare the counts, and let go of the mark, all at once."""
    with source.read() as conn:
        state = [dict(row._mapping) for row in conn.execute(select(words_state))]
        last_ids = {table: sqlite.next_ids(conn, table.name, 1)[0] - 1 for table in _copied()}
    with target.write() as conn:
        conn.execute(text("SET LOCAL statement_timeout = 0"))
        conn.execute(delete(words_state))
        conn.execute(insert(words_state), state)
        for table, last_id in last_ids.items():
            if table.autoincrement_column is not None:
                postgres.go_on_after(conn, table.name, table.autoincrement_column.name, last_id)
        there = _counts(conn)
        if wrong := [f"{name} {there[name]:,} of {rows[name]:,}" for name in rows if there[name] != rows[name]]:
            raise ImportRefused(f"{target.name} has other numbers of rows than the store: {', '.join(wrong)}")
        conn.execute(text("ANALYZE"))
        mark_part(conn, False)
