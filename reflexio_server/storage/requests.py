"""Reading a user's requests by thread. `conn` is a snapshot from Database.read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Select, and_, exists, or_, select, tuple_

from reflexio_server.model import Place, Request, RequestCursor, RequestFilter
from reflexio_server.storage.tables import interactions, requests, users


@dataclass(frozen=True, slots=True)
class RequestScope:
    """Which requests are meant: those of a user that pass the filter and were stored up to `max_sequence`."""

    account_id: int
    user_ref: int
    filter: RequestFilter
    max_sequence: int


def by_thread(
    conn: Connection, scope: RequestScope, start: RequestCursor | None, limit: int
) -> Iterator[tuple[Request, Place]]:
    """Requests, those of a thread together, each with the place of its thread's newest.

    Threads come by their newest request, newest first, and so do the requests of one. Read on demand, so stop when
    you have enough; at most `limit` come. A cursor inside of a request has that one come first.
    """
    for head in _newest_of_threads(conn, scope, start):
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


def _newest_of_threads(conn: Connection, scope: RequestScope, start: RequestCursor | None) -> Iterator[Request]:
    newer = requests.alias("newer")
    has_newer = exists().where(
        _conditions(newer, scope), newer.c.request_group == requests.c.request_group, _place(newer) > _place(requests)
    )
    query = _rows().where(_conditions(requests, scope), or_(requests.c.request_group == "", ~has_newer))
    if scope.filter.start_time is not None:  # what the conditions say already, but found without a walk over all
        inside = select(interactions.c.request_ref).where(interactions.c.user_ref == scope.user_ref, _span(scope))
        query = query.where(requests.c.id.in_(inside))
    if start:
        query = query.where(_place(requests) <= tuple_(*start.head))
    # One at a time: the next one may be behind all of a long thread.
    for row in conn.execution_options(yield_per=1).execute(query):
        yield Request(*row)


def _of_thread(
    conn: Connection, scope: RequestScope, request_group: str, start: RequestCursor | None, limit: int
) -> list[Request]:
    query = _rows().where(_conditions(requests, scope), requests.c.request_group == request_group)
    if start:
        last = tuple_(*start.request)
        query = query.where(_place(requests) <= last if start.interaction else _place(requests) < last)
    return [Request(*row) for row in conn.execute(query.limit(limit))]


def _rows() -> Select[Any]:
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
        .order_by(requests.c.created_at.desc(), requests.c.sequence.desc())
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
