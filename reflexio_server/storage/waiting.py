"""What waits for its vectors: the rows themselves are the outbox of the index."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import BindParameter, Connection, Select, bindparam, func, or_, select, update

from reflexio_server.storage import expressions
from reflexio_server.storage.interactions import SHAPES, Scope, Shape, in_scope, tables_of, values_of
from reflexio_server.storage.prepared import Prepared
from reflexio_server.storage.rows import CANNOT_BE_EMBEDDED, NOTHING_TO_EMBED
from reflexio_server.storage.tables import interactions, vectors


@dataclass(frozen=True, slots=True)
class Waiting:
    """A row that has text but no vector yet."""

    ref: int
    account_id: int
    user_ref: int
    text: str


def _rows() -> Select[Any]:
    text = func.coalesce(interactions.c.search_text, interactions.c.content)
    return select(interactions.c.id, interactions.c.account_id, interactions.c.user_ref, text)


_waits = interactions.c.model.is_(None)
_most: BindParameter[int] = bindparam("most")
_OLDEST = Prepared(
    _rows().where(interactions.c.id > bindparam("after"), _waits).order_by(interactions.c.id).limit(_most)
)
_OF_USER = Prepared(
    _rows()
    .where(interactions.c.account_id == bindparam("account_id"), interactions.c.user_ref == bindparam("user_ref"))
    .where(_waits)
    .order_by(interactions.c.id.desc())
    .limit(_most)
)
_AMONG = Prepared(
    _rows().where(interactions.c.id.in_(expressions.among_numbers("refs")), _waits).order_by(interactions.c.id)
)
# "+ 0" lets SQLite look through the index of what waits; the minimum of the bare id it seeks through all rows.
_FIRST = Prepared(select(func.min(interactions.c.id + 0)).where(_waits))


def oldest(conn: Connection, after: int, limit: int) -> list[Waiting]:
    """Rows of all accounts that wait, oldest first, after this row number."""
    return [Waiting(*row) for row in _OLDEST.rows(conn, after=after, most=limit)]


def first(conn: Connection) -> int | None:
    """The lowest number of a row that waits."""
    found: int | None = _FIRST.scalar(conn)
    return found


def count(conn: Connection) -> int:
    """How many rows of all accounts wait; takes as long as there are many."""
    return conn.execute(select(func.count()).where(interactions.c.model.is_(None))).scalar_one()


def of_user(conn: Connection, account_id: int, user_ref: int, limit: int) -> list[Waiting]:
    """Rows of one user that wait, newest first."""
    return [Waiting(*row) for row in _OF_USER.rows(conn, account_id=account_id, user_ref=user_ref, most=limit)]


def among(conn: Connection, refs: Sequence[int]) -> list[Waiting]:
    """Which of these rows wait, in the order of storing."""
    return [Waiting(*row) for row in _AMONG.rows(conn, refs=json.dumps(list(refs)))]


def of_every_row(conn: Connection, after: int, limit: int) -> list[Waiting]:
    """Rows of all accounts that have text, whether they wait or not, oldest first, after this row number."""
    query = _rows().where(
        interactions.c.id > after, or_(interactions.c.model.is_(None), interactions.c.model != NOTHING_TO_EMBED)
    )
    return [Waiting(*row) for row in conn.execute(query.order_by(interactions.c.id).limit(limit))]


def lost(conn: Connection, account_id: int, model: int) -> list[int]:
    """Rows of an account that should have vectors of the live model, and have none."""
    there = select(vectors.c.id).where(vectors.c.interaction_ref == interactions.c.id, vectors.c.model == model)
    query = select(interactions.c.id).where(
        interactions.c.account_id == account_id,
        interactions.c.model.is_not(None),
        interactions.c.model.not_in((NOTHING_TO_EMBED, CANNOT_BE_EMBEDDED)),
        ~there.exists(),
    )
    return list(conn.execute(query).scalars())


def let_wait(conn: Connection, refs: Sequence[int]) -> None:
    """Let rows wait for their vectors again. Needs a write transaction."""
    conn.execute(update(interactions).where(interactions.c.id.in_(refs)).values(model=None))


def count_in(conn: Connection, scope: Scope) -> int:
    """How many rows in the scope have text but no vector yet."""
    given = values_of(scope)
    return int(_count_in(frozenset(given)).scalar(conn, **given))


@lru_cache(SHAPES)
def _count_in(shape: Shape) -> Prepared:
    # Account and user are said again because the index of what waits begins with them.
    owner = [interactions.c[name] == bindparam(name) for name in ("account_id", "user_ref") if name in shape]
    return Prepared(select(func.count()).select_from(tables_of(shape)).where(in_scope(shape), *owner, _waits))
