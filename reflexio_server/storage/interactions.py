"""Reading interactions. Every function sees one account only; `conn` is a snapshot from Database.read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select

from reflexio_server.model import Cursor, Filter, Identity, ImageInfo, Interaction, UserAction
from reflexio_server.storage import sqlite
from reflexio_server.storage.tables import accounts, images, interactions, requests, users

_ROWS_AT_ONCE = 50  # rows of up to 70 KiB are fetched in parts, so that a large page costs little memory
_IDS_AT_ONCE = 1000


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


def user_ref(conn: Connection, account_id: int, user_id: str) -> int | None:
    """The number of a user, None when the account has no such user."""
    return conn.execute(select(users.c.id).where(users.c.account_id == account_id, users.c.user_id == user_id)).scalar()


def last_sequence(conn: Connection, account_id: int) -> int:
    """The sequence of the account's newest interaction, 0 when it has none."""
    query = select(accounts.c.last_sequence).where(accounts.c.id == account_id)
    return int(conn.execute(query).scalar_one())


def count_of_account(conn: Connection, account_id: int) -> int:
    query = select(accounts.c.last_sequence - accounts.c.erased).where(accounts.c.id == account_id)
    return int(conn.execute(query).scalar_one())


def listing(
    conn: Connection, scope: Scope, *, oldest_first: bool = False, after: Cursor | None = None, limit: int
) -> Iterator[Interaction]:
    """Interactions by (created_at, interaction_id); read on demand, so stop when you have enough."""
    key = (interactions.c.created_at, interactions.c.interaction_id)
    query = _rows().where(in_scope(scope)).limit(limit)
    query = query.order_by(*key) if oldest_first else query.order_by(*(column.desc() for column in key))
    if after:
        query = query.where(_beyond(after, oldest_first))
    for row in conn.execution_options(yield_per=_ROWS_AT_ONCE).execute(query):
        yield _interaction(row)


def by_refs(conn: Connection, account_id: int, refs: Sequence[int]) -> Iterator[Interaction]:
    """The account's interactions with these numbers, in their order; read on demand. Missing ones are left out."""
    for start in range(0, len(refs), _ROWS_AT_ONCE):
        part = refs[start : start + _ROWS_AT_ONCE]
        query = _rows().where(_by_id(account_id), interactions.c.id.in_(part))
        found = {row.id: row for row in conn.execute(query)}
        yield from (_interaction(found[ref]) for ref in part if ref in found)


def identities(conn: Connection, account_id: int, wanted: Sequence[int]) -> dict[int, Identity]:
    """The ids of the account's interactions with these numbers; missing ones are left out."""
    found: dict[int, Identity] = {}
    for start in range(0, len(wanted), _IDS_AT_ONCE):
        query = (
            select(interactions.c.id, interactions.c.interaction_id, users.c.user_id, requests.c.request_id)
            .join(requests, requests.c.id == interactions.c.request_ref)
            .join(users, users.c.id == interactions.c.user_ref)
            .where(_by_id(account_id), interactions.c.id.in_(wanted[start : start + _IDS_AT_ONCE]))
        )
        found.update({ref: Identity(*ids) for ref, *ids in conn.execute(query)})
    return found


def refs(conn: Connection, scope: Scope, most: int | None = None) -> NDArray[np.int64]:
    """Numbers of the rows in the scope, newest first, all or at most `most`."""
    query = (
        select(interactions.c.id)
        .select_from(interactions.join(requests, requests.c.id == interactions.c.request_ref))
        .where(in_scope(scope))
        .order_by(interactions.c.created_at.desc(), interactions.c.interaction_id.desc())
        .limit(most)
    )
    return np.array(conn.execute(query).scalars().all(), dtype=np.int64)


def passing(conn: Connection, scope: Scope, wanted: Sequence[int]) -> NDArray[np.int64]:
    """Which of these rows are in the scope, in rising order."""
    query = (
        select(interactions.c.id)
        .select_from(interactions.join(requests, requests.c.id == interactions.c.request_ref))
        .where(in_scope(scope, by_id=True), interactions.c.id.in_(sqlite.numbers(wanted)))
    )
    return np.array(sorted(conn.execute(query).scalars()), dtype=np.int64)


def threads(conn: Connection, wanted: Sequence[int]) -> NDArray[np.int64]:
    """The number of the thread of each of these rows, in their order."""
    found = {ref: thread_number(user, group) for ref, user, group in sqlite.request_groups(conn, wanted)}
    return np.array([found.get(ref, 0) for ref in wanted], dtype=np.int64)


def thread_number(user: int, request_group: str | None) -> int:
    """A number for the thread of a user that has this name, the same as long as the process lives; 0 without a name."""
    return hash((user, request_group)) if request_group else 0  # of 64 bits, so two threads with one are not met


def count_of_user(conn: Connection, user: int) -> int:
    query = select(func.count()).select_from(interactions).where(interactions.c.user_ref == user)
    return int(conn.execute(query).scalar_one())


def existing_ids(conn: Connection, scope: Scope) -> set[str]:
    query = (
        select(interactions.c.interaction_id)
        .select_from(interactions.join(requests, requests.c.id == interactions.c.request_ref))
        .where(in_scope(scope))
    )
    return set(conn.execute(query).scalars())


def image_of(conn: Connection, account_id: int, interaction_id: str) -> tuple[ImageInfo, bytes] | None:
    """The picture of an interaction; None when there is no such interaction, or it has none."""
    query = (
        select(*_image_columns, images.c.data)
        .join_from(interactions, images, _image_join)
        .where(interactions.c.account_id == account_id, interactions.c.interaction_id == interaction_id)
    )
    row = conn.execute(query).one_or_none()
    return None if row is None else (_image(row), row.data)


def image_data(conn: Connection, account_id: int, sha256: bytes) -> bytes:
    query = select(images.c.data).where(images.c.account_id == account_id, images.c.sha256 == sha256)
    return bytes(conn.execute(query).scalar_one())


_image_join = and_(images.c.account_id == interactions.c.account_id, images.c.sha256 == interactions.c.image_sha256)
_image_columns = (images.c.sha256, images.c.media_type, images.c.width, images.c.height, images.c.size_bytes)


def _rows() -> Select[Any]:
    return select(
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
        *_image_columns,
    ).select_from(
        interactions.join(requests, requests.c.id == interactions.c.request_ref)
        .join(users, users.c.id == interactions.c.user_ref)
        .outerjoin(images, _image_join)
    )


def _interaction(row: Any) -> Interaction:
    return Interaction(
        ref=row.id,
        interaction_id=row.interaction_id,
        sequence=row.sequence,
        user_id=row.user_id,
        request_id=row.request_id,
        request_group=row.request_group,
        source=row.source,
        agent_version=row.agent_version,
        role=row.role,
        content=row.content,
        user_action=UserAction(row.user_action),
        user_action_description=row.user_action_description,
        interacted_image_url=row.interacted_image_url,
        created_at=row.created_at,
        stored_at=row.stored_at,
        image=None if row.sha256 is None else _image(row),
    )


def _image(row: Any) -> ImageInfo:
    return ImageInfo(row.sha256, row.media_type, row.width, row.height, row.size_bytes)


def _beyond(cursor: Cursor, oldest_first: bool) -> ColumnElement[bool]:
    created_at, interaction_id = interactions.c.created_at, interactions.c.interaction_id
    if oldest_first:
        later = and_(created_at == cursor.created_at, interaction_id > cursor.interaction_id)
        return and_(created_at >= cursor.created_at, or_(created_at > cursor.created_at, later))
    earlier = and_(created_at == cursor.created_at, interaction_id < cursor.interaction_id)
    return and_(created_at <= cursor.created_at, or_(created_at < cursor.created_at, earlier))


def _by_id(account_id: int) -> ColumnElement[bool]:
    """The account's rows, where few are named by their numbers: "+ 0" keeps SQLite from walking all of the account."""
    return interactions.c.account_id + 0 == account_id


def in_scope(scope: Scope, *, by_id: bool = False) -> ColumnElement[bool]:
    """What the scope's rows fulfil; `by_id`: few are named by their numbers, so nothing else should be walked."""
    wanted = scope.filter
    # A request or a thread is found among the requests; saying the user of the interactions too would make SQLite
    # walk all of the user's.
    owner = requests if wanted.request_id or wanted.request_group else interactions
    if scope.user_ref is None:
        column, value = owner.c.account_id, scope.account_id
    else:
        column, value = owner.c.user_ref, scope.user_ref
    if by_id and not wanted.most_recent_k:  # the newest are found by walking
        all_of = [column + 0 == value]
    elif wanted.request_group and not wanted.request_id and scope.user_ref is None:
        of_account = select(users.c.id).where(users.c.account_id == scope.account_id).correlate(None)
        all_of = [requests.c.user_ref.in_(of_account)]  # a thread is found by its user
    else:
        all_of = [column == value]
    if scope.max_sequence is not None:
        all_of.append(interactions.c.sequence <= scope.max_sequence)
    if scope.interaction_ids:
        all_of.append(interactions.c.interaction_id.in_(scope.interaction_ids))
    if wanted.request_id:
        all_of += [requests.c.account_id == scope.account_id, requests.c.request_id == wanted.request_id]
    if wanted.request_group:
        all_of.append(requests.c.request_group == wanted.request_group)
    if wanted.sources:
        all_of.append(requests.c.source.in_(wanted.sources))
    if wanted.agent_version:
        all_of.append(requests.c.agent_version == wanted.agent_version)
    if wanted.roles:
        all_of.append(sqlite.is_one_of(interactions.c.role, wanted.roles))
    if wanted.user_actions:
        all_of.append(interactions.c.user_action.in_([int(action) for action in wanted.user_actions]))
    if wanted.start_time is not None:
        all_of.append(interactions.c.created_at >= wanted.start_time)
    if wanted.end_time is not None:
        all_of.append(interactions.c.created_at < wanted.end_time)
    if wanted.most_recent_k:
        all_of = [interactions.c.id.in_(_newest(and_(*all_of), wanted.most_recent_k))]
    return and_(*all_of)


def _newest(condition: ColumnElement[bool], count: int) -> Select[Any]:
    inner = interactions.join(requests, requests.c.id == interactions.c.request_ref)
    return (
        select(interactions.c.id)
        .select_from(inner)
        .where(condition)
        .order_by(interactions.c.created_at.desc(), interactions.c.interaction_id.desc())
        .limit(count)
        .correlate(None)
    )
