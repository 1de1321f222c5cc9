"""Storing requests: one transaction takes any number of them, of any accounts."""

import json
from collections.abc import Sequence

from sqlalchemy import Connection

from reflexio_server.model import ErasedRequestId, NewRequest, Outcome, ReusedRequestId, StoredRequest
from reflexio_server.storage import dialect
from reflexio_server.storage.rows import Submitted, insert_rows, make_rows


def store_requests(conn: Connection, submitted: Sequence[Submitted], now: int) -> list[Outcome]:
    """Store every request that was not stored before; the outcomes are in the order of `submitted`.

    A request whose id is known is a replay (same body hash), a reuse (another) or erased, and writes nothing. `now`:
    the time of storing, microseconds UTC. Needs a transaction that has locked the accounts.
    """
    known = _stored_before(conn, submitted)
    fresh: dict[tuple[int, str], NewRequest] = {}
    for account_id, request in submitted:
        key = (account_id, request.request_id)
        if key not in known:
            fresh.setdefault(key, request)
    stored: dict[tuple[int, str], StoredRequest] = {}
    if fresh:
        rows, stored = make_rows(conn, [(account_id, request) for (account_id, _), request in fresh.items()], now)
        insert_rows(conn, rows)

    outcomes: list[Outcome] = []
    first_seen = set(known)
    for account_id, request in submitted:
        key = (account_id, request.request_id)
        if key in known:
            body_hash, first = known[key]
        else:
            body_hash, first = fresh[key].body_hash, stored[key]
        if first is None:
            outcomes.append(ErasedRequestId(request.request_id))
        elif body_hash != request.body_hash:
            outcomes.append(ReusedRequestId(request.request_id))
        elif key in first_seen:
            outcomes.append(StoredRequest(first.request_id, first.interaction_ids, first.refs, replayed=True))
        else:
            outcomes.append(first)
        first_seen.add(key)
    return outcomes


def _stored_before(
    conn: Connection, submitted: Sequence[Submitted]
) -> dict[tuple[int, str], tuple[bytes, StoredRequest | None]]:
    """The body hash and first outcome of each that is known; None for an erased one."""
    known: dict[tuple[int, str], tuple[bytes, StoredRequest | None]] = {}
    found = dialect.of(conn).stored_requests(
        conn, {(account_id, request.request_id) for account_id, request in submitted}
    )
    published: dict[int, list[tuple[str, int]]] = {ref: [] for ref, *_, erased_at, _ in found if erased_at is None}
    if published:
        for request_ref, interaction_id, ref in dialect.of(conn).published_with(conn, published):
            published[request_ref].append((interaction_id, ref))
    for request_ref, account_id, request_id, body_hash, erased_at, published_ids in found:
        first = None
        if erased_at is None:
            left = [interaction_id for interaction_id, _ in published[request_ref]]
            ids = tuple(left if published_ids is None else json.loads(published_ids))
            refs = tuple(ref for _, ref in published[request_ref])
            first = StoredRequest(request_id, ids, refs, False)
        known[account_id, request_id] = (body_hash, first)
    return known
