"""Reading a user's requests by thread. `conn` is a snapshot from Database.read."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Select, and_, bindparam, exists, or_, select, tuple_

from reflexio_server.model import Place, Request, RequestCursor, RequestFilter
from reflexio_server.storage import expressions
from reflexio_server.storage.prepared import Prepared
from reflexio_server.storage.tables import interactions, requests, users

_FIRST, _LAST = -(2**63), 2**63 - 1  # times and sequences lie between


@dataclass(frozen=True, slots=True)
class RequestScope:
    """Which requests are meant: those of a user that pass the filter and were stored up to `max_sequence`.

    `oldest_first` is the order of threads and of the requests in each.
    """

    account_id: int
    user_ref: int
    filter: RequestFilter
    max_sequence: int
    oldest_first: bool = False


def by_thread(
    conn: Connection, scope: RequestScope, start: RequestCursor | None, limit: int
) -> Iterator[tuple[Request, Place]]:
    """Requests, those of a thread together, each with the place of its thread's first in this order.

    Threads come by their newest request, newest first, and so do the requests of one; or all by the oldest. Read on
    demand, so stop when you have enough; at most `limit` come. A cursor inside of a request has that one come first.
    """
    head = _next_head(conn, scope, None if start is None else _before(scope, start.head))
    while head is not None:
        begun = start if start and head.place == start.head else None
        if head.request_group:
            place = _before(scope, head.place)
            if begun:
                place = _before(scope, begun.request) if begun.interaction else begun.request
            found = _of_thread(conn, scope, head.request_group, place, limit)
        else:
            found = [head] if begun is None or begun.interaction else []
        yield from ((request, head.place) for request in found)
        limit -= len(found)
        if limit <= 0:
            return
        head = _next_head(conn, scope, head.place, head.request_group)


def interactions_of(conn: Connection, request_refs: Sequence[int]) -> dict[int, list[tuple[int, str, int]]]:
    """Each request's interactions in the order they happened: (created_at, interaction_id, ref)."""
    found: dict[int, list[tuple[int, str, int]]] = {ref: [] for ref in request_refs}
    for request_ref, *interaction in _INTERACTIONS_OF.rows(conn, refs=json.dumps(list(request_refs))):
        found[request_ref].append(tuple(interaction))
    return found


def _before(scope: RequestScope, place: Place) -> Place:
    """The place that is next to this one, against the order."""
    created_at, sequence = place
    return created_at, max(sequence - 1, _FIRST) if scope.oldest_first else min(sequence + 1, _LAST)


def _next_head(conn: Connection, scope: RequestScope, after: Place | None, listed: str = "") -> Request | None:
    """The first request of the next thread whose first comes after this place; not of the thread `listed`.

    One at a time: the next one may be behind all of a long thread.
    """
    shape = frozenset(name for name in ("request_id", "request_group") if getattr(scope.filter, name))
    row = _head(shape, scope.oldest_first).row(conn, **_values(scope, after), listed=listed)
    return None if row is None else Request(*row)


def _of_thread(conn: Connection, scope: RequestScope, request_group: str, after: Place, limit: int) -> list[Request]:
    shape = frozenset({"request_id"} if scope.filter.request_id else ())
    values = _values(scope, after) | {"request_group": request_group, "limit": limit}
    return [Request(*row) for row in _thread(shape, scope.oldest_first).rows(conn, **values)]


def _values(scope: RequestScope, after: Place | None) -> dict[str, Any]:
    """What the statements are given: the bounds of the filter, and of the places that come after one."""
    wanted = scope.filter
    start = _FIRST if wanted.start_time is None else wanted.start_time
    end = _LAST if wanted.end_time is None else wanted.end_time
    low, high = (_FIRST, _FIRST), (end, _FIRST)
    if after is not None:
        low, high = (after, high) if scope.oldest_first else (low, min(after, high))
    return {
        "account_id": scope.account_id,
        "user_ref": scope.user_ref,
        "max_sequence": scope.max_sequence,
        "request_id": wanted.request_id,
        "request_group": wanted.request_group,
        "start_time": start,
        "end_time": end,
        "low_time": low[0],
        "low_sequence": low[1],
        "high_time": high[0],
        "high_sequence": high[1],
    }


Shape = frozenset[str]
"""Which names the filter has: request_id, request_group."""

_REF = (interactions.c.created_at, interactions.c.interaction_id)
_INTERACTIONS_OF = Prepared(
    select(interactions.c.request_ref, *_REF, interactions.c.id)
    .where(interactions.c.request_ref.in_(expressions.among_numbers("refs")))
    .order_by(*_REF)
)


@cache
def _head(shape: Shape, oldest_first: bool) -> Prepared:
    """Found without walking any thread more than once, nor one that was just listed more than by its names."""
    is_first = and_(*(before.is_(None) for before in _before_in_thread(shape, oldest_first)))
    alone = requests.c.request_group == ""
    starts = and_(requests.c.request_group != bindparam("listed"), is_first)
    return Prepared(_rows(shape, oldest_first).where(or_(alone, starts)).limit(1))


@cache
def _thread(shape: Shape, oldest_first: bool) -> Prepared:
    return Prepared(_rows(shape | {"request_group"}, oldest_first).limit(bindparam("limit")))


def _before_in_thread(shape: Shape, oldest_first: bool) -> list[ColumnElement[Any]]:
    """The request before this one in its thread: of the same time, and of another one.

    Not (created_at, sequence) at once, of which SQLite looks for the first by an index, and goes through all of a time.
    The nearest first, which mostly passes the filter: else a long thread would be walked for each of its requests.
    """
    before = requests.alias("before")
    created_at, sequence = before.c.created_at, before.c.sequence
    if oldest_first:
        same_time, other_time = sequence < requests.c.sequence, created_at < requests.c.created_at
        order = (created_at.desc(), sequence.desc())
    else:
        same_time = sequence > requests.c.sequence
        other_time = and_(created_at > requests.c.created_at, created_at < bindparam("end_time"))
        order = (created_at.asc(), sequence.asc())
    query = select(before.c.id).where(_conditions(before, shape), before.c.request_group == requests.c.request_group)
    at_the_time = query.where(created_at == requests.c.created_at, same_time).order_by(order[1])
    return [found.limit(1).scalar_subquery() for found in (at_the_time, query.where(other_time).order_by(*order))]


def _rows(shape: Shape, oldest_first: bool) -> Select[Any]:
    order = (requests.c.created_at, requests.c.sequence)
    return (
        select(
            requests.c.id,
            requests.c.request_id,
            users.c.user_id,
            requests.c.request_group,
            requests.c.source,
            requests.c.agent_version,
            requests.c.created_at,
            requests.c.sequence,
            requests.c.stored_at,
        )
        .join_from(requests, users, users.c.id == requests.c.user_ref)
        .where(
            _conditions(requests, shape),
            tuple_(*order) > tuple_(bindparam("low_time"), bindparam("low_sequence")),
            tuple_(*order) < tuple_(bindparam("high_time"), bindparam("high_sequence")),
        )
        .order_by(*(order if oldest_first else (column.desc() for column in order)))
    )


def _conditions(table: FromClause, shape: Shape) -> ColumnElement[bool]:
    inside = exists().where(
        interactions.c.request_ref == table.c.id,
        interactions.c.created_at >= bindparam("start_time"),
        interactions.c.created_at < bindparam("end_time"),
    )
    # When its first interaction happened, unless that was erased.
    begins = and_(table.c.created_at >= bindparam("start_time"), table.c.published_ids.is_(None))
    all_of = [
        table.c.user_ref == bindparam("user_ref"),
        table.c.sequence <= bindparam("max_sequence"),
        or_(begins, inside),
    ]
    if "request_id" in shape:
        all_of += [table.c.account_id == bindparam("account_id"), table.c.request_id == bindparam("request_id")]
    if "request_group" in shape:
        all_of.append(table.c.request_group == bindparam("request_group"))
    return and_(*all_of)
