"""Erasing interactions, and requests when nothing of them is left.

Every function needs a transaction that has locked the account.

A request that was erased stays as a tombstone: its account, its request_id and that it was erased.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, exists, func, select, update

from reflexio_server.model import ErasedCounts
from reflexio_server.storage import full_text
from reflexio_server.storage.interactions import last_sequence, user_ref
from reflexio_server.storage.settling import erase_vectors
from reflexio_server.storage.tables import account_counters, images, interactions, requests, users, vectors, waiting

_ROWS_AT_ONCE = 1000
_NO_HASH = bytes(32)  # a body of a few words can be guessed from its hash


@dataclass(frozen=True, slots=True)
class Part:
    """What is to be erased step by step: a user's requests, or those of a thread, stored up to `max_sequence`."""

    account_id: int
    user_ref: int
    request_group: str | None
    max_sequence: int


def erase_interaction(
    conn: Connection, account_id: int, interaction_id: str, user_id: str | None, now: int
) -> ErasedCounts:
    """Erase an interaction, and its request with its last one; nothing when the account or user has no such one."""
    query = select(interactions.c.id, interactions.c.request_ref).where(
        interactions.c.account_id == account_id, interactions.c.interaction_id == interaction_id
    )
    if user_id is not None:
        query = query.join(users, users.c.id == interactions.c.user_ref).where(users.c.user_id == user_id)
    found = conn.execute(query).one_or_none()
    if found is None:
        return ErasedCounts()
    siblings = select(interactions.c.interaction_id).where(interactions.c.request_ref == found.request_ref)
    ids = conn.execute(siblings.order_by(interactions.c.id)).scalars().all()
    if len(ids) == 1:
        return _erase_requests(conn, account_id, [found.request_ref], now)
    # Only the first time: later the list would lack what was erased before.
    whole = (requests.c.id == found.request_ref) & requests.c.published_ids.is_(None)
    conn.execute(update(requests).where(whole).values(published_ids=json.dumps(list(ids))))
    return ErasedCounts(interactions=1, images=_erase_rows(conn, account_id, [found.id]))


def erase_request(conn: Connection, account_id: int, request_id: str, user_id: str | None, now: int) -> ErasedCounts:
    """Erase a request with all its interactions; nothing when the account or user has no such one."""
    query = select(requests.c.id).join(users, users.c.id == requests.c.user_ref)
    query = query.where(requests.c.account_id == account_id, requests.c.request_id == request_id)
    if user_id is not None:
        query = query.where(users.c.user_id == user_id)
    ref = conn.execute(query).scalar()
    return ErasedCounts() if ref is None else _erase_requests(conn, account_id, [ref], now)


def part_of(conn: Connection, account_id: int, user_id: str, request_group: str | None) -> Part | None:
    """What a user has stored until now, or in a thread; None when the account has no such user. Writes nothing."""
    user = user_ref(conn, account_id, user_id)
    return None if user is None else Part(account_id, user, request_group, last_sequence(conn, account_id))


def erase_some(conn: Connection, part: Part, most: int, now: int) -> ErasedCounts:
    """Erase whole requests of the part, with at most so many interactions or just one; nothing when none is left."""
    size = select(func.count()).where(interactions.c.request_ref == requests.c.id).correlate(requests)
    query = select(requests.c.id, size.scalar_subquery()).where(
        requests.c.user_ref == part.user_ref, requests.c.sequence <= part.max_sequence
    )
    if part.request_group is not None:
        query = query.where(requests.c.request_group == part.request_group)
    refs: list[int] = []
    rows = 0
    for ref, count in conn.execute(query.limit(most)).all():
        rows += count
        if refs and rows > most:
            break
        refs.append(ref)
    return _erase_requests(conn, part.account_id, refs, now) if refs else ErasedCounts()


def _erase_requests(conn: Connection, account_id: int, request_refs: Sequence[int], now: int) -> ErasedCounts:
    mine = requests.c.id.in_(request_refs)
    owners = set(conn.execute(select(requests.c.user_ref).where(mine)).scalars())
    rows = select(interactions.c.id).where(interactions.c.request_ref.in_(request_refs))
    refs = conn.execute(rows).scalars().all()
    erased_images = _erase_rows(conn, account_id, refs)
    conn.execute(
        update(requests)
        .where(mine)
        .values(
            user_ref=None,
            request_group="",
            source="",
            agent_version="",
            stored_at=0,
            created_at=0,
            sequence=0,
            erased_at=now,
            published_ids=None,
            body_hash=_NO_HASH,
        )
    )
    has_requests = exists().where(requests.c.user_ref == users.c.id)
    conn.execute(delete(users).where(users.c.id.in_(owners), ~has_requests))
    return ErasedCounts(len(request_refs), len(refs), erased_images)


def _erase_rows(conn: Connection, account_id: int, refs: Sequence[int]) -> int:
    """Delete interactions with all that was made of them; how many pictures nobody has any more."""
    pictures: set[bytes] = set()
    for start in range(0, len(refs), _ROWS_AT_ONCE):
        mine = interactions.c.id.in_(refs[start : start + _ROWS_AT_ONCE])
        with_picture = select(interactions.c.image_sha256).where(mine, interactions.c.image_sha256.is_not(None))
        pictures.update(conn.execute(with_picture).scalars())
        full_text.erase(conn, refs[start : start + _ROWS_AT_ONCE])
        erase_vectors(conn, vectors.c.interaction_ref.in_(refs[start : start + _ROWS_AT_ONCE]))
        conn.execute(delete(waiting).where(waiting.c.id.in_(refs[start : start + _ROWS_AT_ONCE])))
        conn.execute(delete(interactions).where(mine))
    counted = {"erased": account_counters.c.erased + len(refs), "position": account_counters.c.position + len(refs)}
    conn.execute(update(account_counters).where(account_counters.c.account_id == account_id).values(counted))
    return _erase_unused(conn, account_id, sorted(pictures))


def _erase_unused(conn: Connection, account_id: int, pictures: Sequence[bytes]) -> int:
    """Delete those of these pictures that no interaction of the account has; how many."""
    has_it = exists().where(interactions.c.account_id == account_id, interactions.c.image_sha256 == images.c.sha256)
    erased = 0
    for start in range(0, len(pictures), _ROWS_AT_ONCE):
        some = images.c.sha256.in_(pictures[start : start + _ROWS_AT_ONCE])
        erased += conn.execute(delete(images).where(images.c.account_id == account_id, some, ~has_it)).rowcount
    return erased
