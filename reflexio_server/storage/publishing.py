"""Storing requests: one transaction takes any number of them, of any accounts."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select, tuple_, update
from sqlalchemy.dialects.sqlite import insert

from reflexio.ids import uuid7
from reflexio_server.model import NewRequest, Outcome, ReusedRequestId, StoredRequest, search_text
from reflexio_server.storage import sqlite
from reflexio_server.storage.tables import accounts, images, interactions, requests, users

NOTHING_TO_EMBED = 0
_AT_ONCE = 400  # values in one IN (…); SQLite takes 32,766 parameters

Submitted = tuple[int, NewRequest]  # account_id, request


def store_requests(conn: Connection, submitted: Sequence[Submitted], now: int) -> list[Outcome]:
    """Store every request that was not stored before; the outcomes are in the order of `submitted`.

    A request whose id is known is a replay (same body hash) or a reuse (another), and writes nothing. `now`: the
    time of storing, microseconds UTC.
    """
    known = _stored_before(conn, submitted)
    fresh: dict[tuple[int, str], NewRequest] = {}
    for account_id, request in submitted:
        key = (account_id, request.request_id)
        if key not in known:
            fresh.setdefault(key, request)
    stored = _insert(conn, [(account_id, request) for (account_id, _), request in fresh.items()], now)

    outcomes: list[Outcome] = []
    first_seen = set(known)
    for account_id, request in submitted:
        key = (account_id, request.request_id)
        if key in known:
            body_hash, first = known[key]
        else:
            body_hash, first = fresh[key].body_hash, stored[key]
        if body_hash != request.body_hash:
            outcomes.append(ReusedRequestId(request.request_id))
        elif key in first_seen:
            outcomes.append(StoredRequest(first.request_id, first.interaction_ids, first.refs, replayed=True))
        else:
            outcomes.append(first)
        first_seen.add(key)
    return outcomes


def _stored_before(
    conn: Connection, submitted: Sequence[Submitted]
) -> dict[tuple[int, str], tuple[bytes, StoredRequest]]:
    known: dict[tuple[int, str], tuple[bytes, StoredRequest]] = {}
    keys = list({(account_id, request.request_id) for account_id, request in submitted})
    for start in range(0, len(keys), _AT_ONCE):
        found = conn.execute(
            select(requests.c.id, requests.c.account_id, requests.c.request_id, requests.c.body_hash).where(
                tuple_(requests.c.account_id, requests.c.request_id).in_(keys[start : start + _AT_ONCE])
            )
        ).all()
        for row in found:
            ids = conn.execute(
                select(interactions.c.interaction_id, interactions.c.id)
                .where(interactions.c.request_ref == row.id)
                .order_by(interactions.c.id)
            ).all()
            known[row.account_id, row.request_id] = (
                row.body_hash,
                StoredRequest(row.request_id, tuple(i for i, _ in ids), tuple(ref for _, ref in ids), replayed=False),
            )
    return known


def _insert(conn: Connection, fresh: Sequence[Submitted], now: int) -> dict[tuple[int, str], StoredRequest]:
    if not fresh:
        return {}
    user_refs = _user_refs(conn, {(account_id, request.user_id) for account_id, request in fresh})
    sequences = _advance_sequences(conn, fresh)
    request_refs = sqlite.next_ids(conn, "requests", len(fresh))
    refs = iter(sqlite.next_ids(conn, "interactions", sum(len(request.interactions) for _, request in fresh)))

    request_rows: list[dict[str, Any]] = []
    interaction_rows: list[dict[str, Any]] = []
    text_rows: list[dict[str, Any]] = []
    image_rows: dict[tuple[int, bytes], dict[str, Any]] = {}
    stored: dict[tuple[int, str], StoredRequest] = {}
    for request_ref, (account_id, request) in zip(request_refs, fresh, strict=True):
        user_ref = user_refs[account_id, request.user_id]
        owner = {"account_id": account_id, "user_ref": user_ref}
        request_rows.append(
            owner
            | {
                "id": request_ref,
                "request_id": request.request_id,
                "request_group": request.request_group,
                "source": request.source,
                "agent_version": request.agent_version,
                "body_hash": request.body_hash,
                "stored_at": now,
            }
        )
        first_row = len(interaction_rows)
        for item in request.interactions:
            ref = next(refs)
            sequences[account_id] += 1
            text = search_text(item.content, item.user_action_description, item.interacted_image_url)
            if text:
                text_rows.append(owner | {"ref": ref, "text": text})
            if item.image:
                image_rows[account_id, item.image.sha256] = {
                    "account_id": account_id,
                    "sha256": item.image.sha256,
                    "media_type": item.image.media_type,
                    "width": item.image.width,
                    "height": item.image.height,
                    "size_bytes": len(item.image.data),
                    "data": item.image.data,
                }
            interaction_rows.append(
                owner
                | {
                    "id": ref,
                    "request_ref": request_ref,
                    "interaction_id": uuid7(),
                    "sequence": sequences[account_id],
                    "role": item.role,
                    "content": item.content,
                    "user_action": int(item.user_action),
                    "user_action_description": item.user_action_description,
                    "interacted_image_url": item.interacted_image_url,
                    "search_text": None if text == item.content else text,
                    "image_sha256": item.image.sha256 if item.image else None,
                    "created_at": now if item.created_at is None else item.created_at,
                    "stored_at": now,
                    "model": None if text else NOTHING_TO_EMBED,
                }
            )
        written = interaction_rows[first_row:]
        stored[account_id, request.request_id] = StoredRequest(
            request.request_id,
            tuple(row["interaction_id"] for row in written),
            tuple(row["id"] for row in written),
            replayed=False,
        )

    conn.execute(insert(requests), request_rows)
    for image in image_rows.values():
        conn.execute(insert(images).on_conflict_do_nothing(), image)
    conn.execute(insert(interactions), interaction_rows)
    if text_rows:
        sqlite.add_full_text(conn, text_rows)
    return stored


def _user_refs(conn: Connection, wanted: set[tuple[int, str]]) -> dict[tuple[int, str], int]:
    refs: dict[tuple[int, str], int] = {}
    ordered = sorted(wanted)
    for start in range(0, len(ordered), _AT_ONCE):
        found = conn.execute(
            select(users.c.account_id, users.c.user_id, users.c.id).where(
                tuple_(users.c.account_id, users.c.user_id).in_(ordered[start : start + _AT_ONCE])
            )
        )
        refs.update({(account_id, user_id): ref for account_id, user_id, ref in found})
    for account_id, user_id in ordered:
        if (account_id, user_id) not in refs:
            added = conn.execute(insert(users).values(account_id=account_id, user_id=user_id).returning(users.c.id))
            refs[account_id, user_id] = added.scalar_one()
    return refs


def _advance_sequences(conn: Connection, fresh: Sequence[Submitted]) -> dict[int, int]:
    """Each account's sequence before its new interactions; the rows already stand after them."""
    counts: dict[int, int] = {}
    for account_id, request in fresh:
        counts[account_id] = counts.get(account_id, 0) + len(request.interactions)
    before: dict[int, int] = {}
    for account_id, count in counts.items():
        last = conn.execute(
            update(accounts)
            .where(accounts.c.id == account_id)
            .values(last_sequence=accounts.c.last_sequence + count)
            .returning(accounts.c.last_sequence)
        ).scalar_one()
        before[account_id] = last - count
    return before
