"""Reading a user's requests by thread. `conn` is a snapshot from Database.read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Select, and_, exists, or_, select, tuple_

from reflexio_server.model import Place, Request, RequestCursor, RequestFilter
from reflexio_server.storage.tables import interactions, requests, users


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
    for head in _first_of_threads(conn, scope, start):
        begun = start if start and head.place == start.head else None
        if head.request_group:
            found = _of_thread(conn, scope, head.request_group, begun, limit)
        else:
            found = [head] if begun is None or begun.interaction else []
        yield from ((request, head.place) for request in found)
        limit -= len(found)
        if limit <= 0:
            return


def interactions_of(conn: Connection, request_refs: Sequence[int]) -> dict[int, list[tuple[int, str, int]]]:
    """Each request's interactions in the order they happened: (created_at, interaction_id, ref)."""
    key = (interactions.c.created_at, interactions.c.interaction_id)
    query = select(interactions.c.request_ref, *key, interactions.c.id)
    query = query.where(interactions.c.request_ref.in_(request_refs)).order_by(*key)
    found: dict[int, list[tuple[int, str, int]]] = {ref: [] for ref in request_refs}
    for request_ref, created_at, interaction_id, ref in conn.execute(query):
        found[request_ref].append((created_at, interaction_id, ref))
    return found


def _first_of_threads(conn: Connection, scope: RequestScope, start: RequestCursor | None) -> Iterator[Request]:
    before = requests.alias("before")
    has_before = exists().where(
        _conditions(before, scope),
        before.c.request_group == requests.c.request_group,
        _place(before) < _place(requests) if scope.oldest_first else _place(before) > _place(requests),
    )
    query = _rows(scope).where(_conditions(requests, scope), or_(requests.c.request_group == "", ~has_before))
    if scope.filter.start_time is not None:  # what the conditions say already, but found without a walk over all
        inside = select(interactions.c.request_ref).where(interactions.c.user_ref == scope.user_ref, _span(scope))
        query = query.where(requests.c.id.in_(inside))
    if start:
        query = query.where(_from(scope, start.head))
    # One at a time: the next one may be behind all of a long thread.
    for row in conn.execution_options(yield_per=1).execute(query):
        yield Request(*row)


def _of_thread(
    conn: Connection, scope: RequestScope, request_group: str, start: RequestCursor | None, limit: int
) -> list[Request]:
    query = _rows(scope).where(_conditions(requests, scope), requests.c.request_group == request_group)
    if start:
        last = tuple_(*start.request)
        inside = start.interaction is not None
        behind = _place(requests) > last if scope.oldest_first else _place(requests) < last
        query = query.where(_from(scope, start.request) if inside else behind)
    return [Request(*row) for row in conn.execute(query.limit(limit))]


def _from(scope: RequestScope, place: Place) -> ColumnElement[bool]:
    at = tuple_(*place)
    return _place(requests) >= at if scope.oldest_first else _place(requests) <= at


def _rows(scope: RequestScope) -> Select[Any]:
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
        .order_by(*(order if scope.oldest_first else (column.desc() for column in order)))
    )


def _place(table: FromClause) -> ColumnElement[Any]:
    return tuple_(table.c.created_at, table.c.sequence)


def _conditions(table: FromClause, scope: RequestScope) -> ColumnElement[bool]:
    wanted = scope.filter
    all_of = [table.c.user_ref == scope.user_ref, table.c.sequence <= scope.max_sequence]
    if wanted.request_id:
        all_of += [table.c.account_id == scope.account_id, table.c.request_id == wanted.request_id]
    if wanted.request_group:
        all_of.append(table.c.request_group == wanted.request_group)
    if wanted.start_time is not None:
        all_of.append(exists().where(interactions.c.request_ref == table.c.id, _span(scope)))
    elif wanted.end_time is not None:
        all_of.append(table.c.created_at < wanted.end_time)  # that of its first interaction, unless it was erased
        earlier = interactions.c.created_at < wanted.end_time
        begins = exists().where(interactions.c.request_ref == table.c.id, earlier)
        all_of.append(or_(table.c.published_ids.is_(None), begins))
    return and_(*all_of)


def _span(scope: RequestScope) -> ColumnElement[bool]:
    since = interactions.c.created_at >= scope.filter.start_time
    end = scope.filter.end_time
    return since if end is None else and_(since, interactions.c.created_at < end)
