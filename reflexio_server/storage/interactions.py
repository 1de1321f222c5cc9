"""Reading interactions. Every function sees one account only; `conn` is a snapshot from Database.read."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, FromClause, and_, bindparam, func, select, tuple_

from reflexio_server.model import Cursor, Filter, Identity, ImageInfo, Interaction, UserAction
from reflexio_server.storage import expressions
from reflexio_server.storage.expressions import among_numbers, among_texts
from reflexio_server.storage.prepared import Prepared, Row
from reflexio_server.storage.tables import account_counters, images, interactions, requests, users

_ROWS_AT_ONCE = 50  # rows of up to 70 KiB are fetched in parts, so that a large page costs little memory
_MOST = 2**63 - 1
SHAPES = 64  # statements that are kept, of the many that the conditions of a filter make
_ACTIONS = {int(action): action for action in UserAction}


@dataclass(frozen=True, slots=True)
class Scope:
    """Which rows are meant: an account's, or one user's of it, that pass the filter or have one of the ids.

    `max_sequence` leaves out what was stored later.
    """

    account_id: int
    user_ref: int | None
    filter: Filter = Filter()
    interaction_ids: tuple[str, ...] = ()
    max_sequence: int | None = None


Shape = frozenset[str]
"""Which conditions a scope has, by the names of their values: all that its statements hang on."""


def values_of(scope: Scope) -> dict[str, Any]:
    """The values of a scope's conditions, by their names; lists are JSON. What is not asked for is left out."""
    wanted = scope.filter
    given = {
        "account_id": scope.account_id,
        "user_ref": scope.user_ref,
        "max_sequence": scope.max_sequence,
        "interaction_ids": _json(scope.interaction_ids),
        "request_id": wanted.request_id or None,
        "request_group": wanted.request_group or None,
        "sources": _json(wanted.sources),
        "roles": _json(sorted({role.casefold() for role in wanted.roles})),
        "user_actions": _json(wanted.user_actions),
        "agent_version": wanted.agent_version or None,
        "start_time": wanted.start_time,
        "end_time": wanted.end_time,
        "most_recent_k": wanted.most_recent_k or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def user_ref(conn: Connection, account_id: int, user_id: str) -> int | None:
    """The number of a user, None when the account has no such user."""
    found: int | None = _USER_REF.scalar(conn, account_id=account_id, user_id=user_id)
    return found


def last_sequence(conn: Connection, account_id: int) -> int:
    """The sequence of the account's newest interaction, 0 when it has none."""
    return int(_LAST_SEQUENCE.scalar(conn, account_id=account_id))


def listing(
    conn: Connection, scope: Scope, *, oldest_first: bool = False, after: Cursor | None = None, limit: int
) -> Iterator[Interaction]:
    """Interactions by (created_at, interaction_id); read on demand, so stop when you have enough."""
    given = values_of(scope)
    low, high = (given.get("start_time", -_MOST), ""), (given.get("end_time", _MOST), "")
    if after and oldest_first:
        low = max(low, (after.created_at, after.interaction_id))
    elif after:
        high = min(high, (after.created_at, after.interaction_id))
    shape = frozenset(given)
    if "most_recent_k" not in shape:  # which are counted among those of the time; else the bounds say it
        shape -= {"start_time", "end_time"}
    given |= {"low_time": low[0], "low_id": low[1], "high_time": high[0], "high_id": high[1], "limit": limit}
    yield from map(_interaction, _listing(shape, oldest_first).each(conn, **given))


def by_refs(conn: Connection, account_id: int, refs: Sequence[int]) -> Iterator[Interaction]:
    """The account's interactions with these numbers, in their order; read on demand. Missing ones are left out."""
    for start in range(0, len(refs), _ROWS_AT_ONCE):
        part = refs[start : start + _ROWS_AT_ONCE]
        found = {row[0]: row for row in _BY_REFS.rows(conn, account_id=account_id, refs=json.dumps(list(part)))}
        yield from (_interaction(found[ref]) for ref in part if ref in found)


def identities(conn: Connection, account_id: int, wanted: Sequence[int]) -> dict[int, Identity]:
    """The ids of the account's interactions with these numbers; missing ones are left out."""
    found = _IDENTITIES.rows(conn, account_id=account_id, refs=json.dumps(list(wanted)))
    return {ref: Identity(*ids) for ref, *ids in found}


def refs(conn: Connection, scope: Scope, most: int | None = None) -> NDArray[np.int64]:
    """Numbers of the rows in the scope, newest first, all or at most `most`."""
    given = values_of(scope)
    found = _refs(frozenset(given)).scalar(conn, **given, limit=_MOST if most is None else most)
    return np.array(json.loads(found), dtype=np.int64)


def passing(conn: Connection, scope: Scope, wanted: Sequence[int]) -> NDArray[np.int64]:
    """Which of these rows are in the scope, in rising order."""
    given = values_of(scope)
    found = _passing(frozenset(given)).scalar(conn, **given, refs=json.dumps(list(wanted)))
    return np.sort(np.array(json.loads(found), dtype=np.int64))


def count_of_user(conn: Connection, user: int) -> int:
    return int(_COUNT_OF_USER.scalar(conn, user_ref=user))


def existing_ids(conn: Connection, scope: Scope) -> set[str]:
    given = values_of(scope)
    return set(json.loads(_existing_ids(frozenset(given)).scalar(conn, **given)))


def image_of(conn: Connection, account_id: int, interaction_id: str) -> tuple[ImageInfo, bytes] | None:
    """The picture of an interaction; None when there is no such interaction, or it has none."""
    row = _IMAGE_OF.row(conn, account_id=account_id, interaction_id=interaction_id)
    return None if row is None else (ImageInfo(*row[:-1]), row[-1])


def image_data(conn: Connection, account_id: int, sha256: bytes) -> bytes:
    return bytes(_IMAGE_DATA.scalar(conn, account_id=account_id, sha256=sha256))


def in_scope(shape: Shape, *, by_id: bool = False) -> ColumnElement[bool]:
    """What the rows of a scope of this shape fulfil, for a Prepared that is given its `values_of`.

    `by_id`: few are named by their numbers, so nothing else should be walked.
    """
    # A request or a thread is found among the requests; saying the user of the interactions too would make SQLite
    # walk all of the user's.
    owner = requests if {"request_id", "request_group"} & shape else interactions
    name = "user_ref" if "user_ref" in shape else "account_id"
    if (by_id or "interaction_ids" in shape) and "most_recent_k" not in shape:  # the newest are found by walking
        all_of = [owner.c[name] + 0 == bindparam(name)]
    elif "request_group" in shape and not {"request_id", "user_ref"} & shape:
        of_account = select(users.c.id).where(users.c.account_id == bindparam("account_id")).correlate(None)
        all_of = [requests.c.user_ref.in_(of_account)]  # a thread is found by its user
    else:
        all_of = [owner.c[name] == bindparam(name)]
    for column, listed, one_of in (
        (interactions.c.interaction_id, among_texts, "interaction_ids"),
        (requests.c.source, among_texts, "sources"),
        (interactions.c.user_action, among_numbers, "user_actions"),
    ):
        if one_of in shape:
            all_of.append(column.in_(listed(one_of)))
    for column, same in ((requests.c.request_group, "request_group"), (requests.c.agent_version, "agent_version")):
        if same in shape:
            all_of.append(column == bindparam(same))
    if "max_sequence" in shape:
        all_of.append(interactions.c.sequence <= bindparam("max_sequence"))
    if "request_id" in shape:
        all_of += [requests.c.account_id == bindparam("account_id"), requests.c.request_id == bindparam("request_id")]
    if "roles" in shape:
        all_of.append(expressions.is_one_of(interactions.c.role, "roles"))
    if "start_time" in shape:
        all_of.append(interactions.c.created_at >= bindparam("start_time"))
    if "end_time" in shape:
        all_of.append(interactions.c.created_at < bindparam("end_time"))
    if "most_recent_k" in shape:
        newest = select(interactions.c.id).select_from(tables_of(shape)).where(*all_of).order_by(*_NEWEST_FIRST)
        return interactions.c.id.in_(newest.limit(bindparam("most_recent_k")).correlate(None))
    return and_(*all_of)


def tables_of(shape: Shape) -> FromClause:
    """What the conditions of this shape look at."""
    if {"request_id", "request_group", "sources", "agent_version"} & shape:
        return _WITH_REQUEST
    return interactions


def _interaction(row: Row) -> Interaction:
    image = None if row[15] is None else ImageInfo(*row[15:])
    columns = (*row[:10], _ACTIONS[row[10]], *row[11:15], image)
    return Interaction(*columns)


def _json(values: Sequence[Any]) -> str | None:
    return json.dumps(values) if values else None


_KEY = (interactions.c.created_at, interactions.c.interaction_id)
_NEWEST_FIRST = tuple(column.desc() for column in _KEY)
_WITH_REQUEST = interactions.join(requests, requests.c.id == interactions.c.request_ref)
_BY_ID = (
    # "+ 0" keeps SQLite from walking all of the account.
    interactions.c.account_id + 0 == bindparam("account_id"),
    interactions.c.id.in_(among_numbers("refs")),
)
WITH_IMAGE = and_(images.c.account_id == interactions.c.account_id, images.c.sha256 == interactions.c.image_sha256)
_IMAGE = (
    *(images.c.sha256, images.c.media_type, images.c.width, images.c.height, images.c.size_bytes),
    func.coalesce(images.c.text, ""),
)
_ROWS = select(  # in the order of Interaction
    interactions.c.id,
    interactions.c.interaction_id,
    interactions.c.sequence,
    users.c.user_id,
    requests.c.request_id,
    requests.c.request_group,
    requests.c.source,
    requests.c.agent_version,
    interactions.c.role,
    interactions.c.content,
    interactions.c.user_action,
    interactions.c.user_action_description,
    interactions.c.interacted_image_url,
    interactions.c.created_at,
    interactions.c.stored_at,
    *_IMAGE,
).select_from(_WITH_REQUEST.join(users, users.c.id == interactions.c.user_ref).outerjoin(images, WITH_IMAGE))

_USER_REF = Prepared(
    select(users.c.id).where(users.c.account_id == bindparam("account_id"), users.c.user_id == bindparam("user_id"))
)
_LAST_SEQUENCE = Prepared(
    select(account_counters.c.last_sequence).where(account_counters.c.account_id == bindparam("account_id"))
)
_COUNT_OF_USER = Prepared(
    select(func.count()).select_from(interactions).where(interactions.c.user_ref == bindparam("user_ref"))
)
_BY_REFS = Prepared(_ROWS.where(*_BY_ID))
_IDENTITIES = Prepared(
    select(interactions.c.id, interactions.c.interaction_id, users.c.user_id, requests.c.request_id)
    .select_from(_WITH_REQUEST.join(users, users.c.id == interactions.c.user_ref))
    .where(*_BY_ID)
)
_IMAGE_OF = Prepared(
    select(*_IMAGE, images.c.data)
    .join_from(interactions, images, WITH_IMAGE)
    .where(
        interactions.c.account_id == bindparam("account_id"),
        interactions.c.interaction_id == bindparam("interaction_id"),
    )
)
_IMAGE_DATA = Prepared(
    select(images.c.data).where(images.c.account_id == bindparam("account_id"), images.c.sha256 == bindparam("sha256"))
)


@lru_cache(SHAPES)
def _listing(shape: Shape, oldest_first: bool) -> Prepared:
    above = tuple_(*_KEY) > tuple_(bindparam("low_time"), bindparam("low_id"))
    below = tuple_(*_KEY) < tuple_(bindparam("high_time"), bindparam("high_id"))
    query = _ROWS.where(in_scope(shape), above, below).limit(bindparam("limit"))
    return Prepared(query.order_by(*(_KEY if oldest_first else _NEWEST_FIRST)))


@lru_cache(SHAPES)
def _refs(shape: Shape) -> Prepared:
    newest = select(interactions.c.id).select_from(tables_of(shape)).where(in_scope(shape)).order_by(*_NEWEST_FIRST)
    return Prepared(expressions.as_one(newest.limit(bindparam("limit"))))


@lru_cache(SHAPES)
def _passing(shape: Shape) -> Prepared:
    named = interactions.c.id.in_(among_numbers("refs"))
    query = select(interactions.c.id).select_from(tables_of(shape)).where(in_scope(shape, by_id=True), named)
    return Prepared(expressions.as_one(query))


@lru_cache(SHAPES)
def _existing_ids(shape: Shape) -> Prepared:
    query = select(interactions.c.interaction_id).select_from(tables_of(shape)).where(in_scope(shape))
    return Prepared(expressions.as_one(query))
