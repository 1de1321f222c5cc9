"""What waits for its vectors: the outbox of the index."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from reflexio_server.storage import expressions
from reflexio_server.storage.interactions import SHAPES, Scope, Shape, in_scope, tables_of, values_of
from reflexio_server.storage.prepared import Prepared
from reflexio_server.storage.rows import CANNOT_BE_EMBEDDED, NOTHING_TO_EMBED
from reflexio_server.storage.tables import interactions, vectors, waiting


@dataclass(frozen=True, slots=True)
class Waiting:
    """A row that has text but no vector yet."""

    ref: int
    account_id: int
    user_ref: int
    text: str


has_text = or_(interactions.c.model.is_(None), interactions.c.model != NOTHING_TO_EMBED)
"""That an interaction has something to embed."""

waits = exists().where(waiting.c.id == interactions.c.id).correlate(interactions)
"""That an interaction waits."""


def _rows() -> Select[Any]:
    text = func.coalesce(interactions.c.search_text, interactions.c.content)
    return select(interactions.c.id, interactions.c.account_id, interactions.c.user_ref, text)


_outbox = waiting.c
_waiting_rows = _rows().select_from(waiting.join(interactions, interactions.c.id == _outbox.id))
_most: BindParameter[int] = bindparam("most")
_OLDEST = Prepared(_waiting_rows.where(_outbox.id > bindparam("after")).order_by(_outbox.id).limit(_most))
_OF_USER = Prepared(
    _waiting_rows.where(_outbox.account_id == bindparam("account_id"), _outbox.user_ref == bindparam("user_ref"))
    .order_by(_outbox.id.desc())
    .limit(_most)
)
_AMONG = Prepared(_waiting_rows.where(_outbox.id.in_(expressions.among_numbers("refs"))).order_by(_outbox.id))
_FIRST = Prepared(select(func.min(_outbox.id)))


def oldest(conn: Connection, after: int, limit: int) -> list[Waiting]:
    """Rows of all accounts that wait, oldest first, after this row number."""
    return [Waiting(*row) for row in _OLDEST.rows(conn, after=after, most=limit)]


def first(conn: Connection) -> int | None:
    """The lowest number of a row that waits."""
    found: int | None = _FIRST.scalar(conn)
    return found


def count(conn: Connection) -> int:
    """How many rows of all accounts wait; takes as long as there are many."""
    return conn.execute(select(func.count()).select_from(waiting)).scalar_one()


def of_user(conn: Connection, account_id: int, user_ref: int, limit: int) -> list[Waiting]:
    """Rows of one user that wait, newest first."""
    return [Waiting(*row) for row in _OF_USER.rows(conn, account_id=account_id, user_ref=user_ref, most=limit)]


def among(conn: Connection, refs: Sequence[int]) -> list[Waiting]:
    """Which of these rows wait, in the order of storing."""
    return [Waiting(*row) for row in _AMONG.rows(conn, refs=json.dumps(list(refs)))]


def of_every_row(conn: Connection, after: int, limit: int) -> list[Waiting]:
    """Rows of all accounts that have text, whether they wait or not, oldest first, after this row number."""
    query = _rows().where(interactions.c.id > after, has_text)
    return [Waiting(*row) for row in conn.execute(query.order_by(interactions.c.id).limit(limit))]


def lost(conn: Connection, account_id: int, model: int) -> list[int]:
    """Rows of an account that should have vectors of the live model, and have none."""
    there = select(vectors.c.id).where(vectors.c.interaction_ref == interactions.c.id, vectors.c.model == model)
    query = select(interactions.c.id).where(
        interactions.c.account_id == account_id,
        has_text,
        or_(interactions.c.model.is_(None), interactions.c.model != CANNOT_BE_EMBEDDED),
        ~waits,
        ~there.exists(),
    )
    return list(conn.execute(query).scalars())


def let_wait(conn: Connection, refs: Sequence[int]) -> None:
    """Let rows wait for their vectors again. Needs a transaction that has locked their accounts."""
    let_wait_where(conn, interactions.c.id.in_(refs))


def let_wait_where(conn: Connection, which: ColumnElement[bool]) -> int:
    """The same with those that fulfil this; how many did not wait before."""
    conn.execute(update(interactions).where(which, interactions.c.model.is_not(None)).values(model=None))
    new = select(interactions.c.id, interactions.c.account_id, interactions.c.user_ref).where(which, ~waits)
    return conn.execute(insert(waiting).from_select(["id", "account_id", "user_ref"], new)).rowcount


def wait_no_more(conn: Connection, which: ColumnElement[bool]) -> None:
    """Let those of the table `waiting` that fulfil this wait no longer. Needs a transaction as `let_wait` does."""
    conn.execute(delete(waiting).where(which))


def count_in(conn: Connection, scope: Scope) -> int:
    """How many rows in the scope have text but no vector yet."""
    given = values_of(scope)
    return int(_count_in(frozenset(given)).scalar(conn, **given))


@lru_cache(SHAPES)
def _count_in(shape: Shape) -> Prepared:
    owner = [_outbox[name] == bindparam(name) for name in ("account_id", "user_ref") if name in shape]
    theirs = interactions.c.id.in_(select(_outbox.id).where(*owner))
    return Prepared(select(func.count()).select_from(tables_of(shape)).where(in_scope(shape), theirs))
