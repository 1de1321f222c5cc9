"""The rows of new requests: made in one walk, inserted in one statement a table."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sqlalchemy import Connection, bindparam, insert, text, update

from reflexio.ids import uuid7s
from reflexio_server import words
from reflexio_server.model import NewInteraction, NewRequest, StoredRequest
from reflexio_server.storage import dialect, full_text
from reflexio_server.storage.prepared import Prepared
from reflexio_server.storage.tables import account_counters, images, interactions, requests, users, waiting

NOTHING_TO_EMBED = 0
CANNOT_BE_EMBEDDED = -1  # by the model in use, as it failed or knows no word of it; another one tries again

_ONCE_ERASED = ("erased_at", "published_ids")
_REQUEST_COLUMNS = tuple(name for name in requests.columns.keys() if name not in _ONCE_ERASED)  # noqa: SIM118

Submitted = tuple[int, NewRequest]  # account_id, request


@dataclass(slots=True)
class Rows:
    """Rows ready to be inserted, as tuples in the order of the tables' columns; `requests` without _ONCE_ERASED."""

    requests: list[tuple[Any, ...]] = field(default_factory=list)
    images: dict[tuple[int, bytes], dict[str, Any]] = field(default_factory=dict)
    interactions: list[tuple[Any, ...]] = field(default_factory=list)
    texts: list[tuple[int, str, str]] = field(default_factory=list)
    """(ref, owner, words) for the full-text index."""
    waiting: list[tuple[int, int, int]] = field(default_factory=list)


def make_rows(
    conn: Connection, fresh: Sequence[Submitted], now: int
) -> tuple[Rows, dict[tuple[int, str], StoredRequest]]:
    """The rows of requests that were never stored, and what their publishers will be told."""
    user_refs = _user_refs(conn, {(account_id, request.user_id) for account_id, request in fresh})
    sequences = _advance_sequences(conn, fresh)
    next_ids = dialect.of(conn).next_ids
    request_refs = next_ids(conn, "requests", len(fresh))
    refs_of_all = next_ids(conn, "interactions", sum(len(request.interactions) for _, request in fresh))
    taken, new_ids = 0, iter(uuid7s(len(refs_of_all)))

    rows = Rows()
    stored: dict[tuple[int, str], StoredRequest] = {}
    for request_ref, (account_id, request) in zip(request_refs, fresh, strict=True):
        user_ref = user_refs[account_id, request.user_id]
        refs = refs_of_all[taken : taken + len(request.interactions)]
        taken += len(refs)
        sequence = sequences[account_id]
        sequences[account_id] += len(refs)
        owner = full_text.owner(account_id, user_ref)
        ids = tuple(islice(new_ids, len(refs)))
        for ref, interaction_id, item in zip(refs, ids, request.interactions, strict=True):
            sequence += 1
            said = _search_text(item.content, item.user_action_description, item.interacted_image_url)
            indexed = words.to_index(said)
            if indexed:
                rows.texts.append((ref, owner, indexed))
            if said:
                rows.waiting.append((ref, account_id, user_ref))
            if item.image:
                rows.images[account_id, item.image.sha256] = _image(account_id, item)
            rows.interactions.append(
                (
                    ref,
                    account_id,
                    user_ref,
                    request_ref,
                    interaction_id,
                    sequence,
                    item.role,
                    item.content,
                    int(item.user_action),
                    item.user_action_description,
                    item.interacted_image_url,
                    None if said == item.content else said,
                    item.image.sha256 if item.image else None,
                    now if item.created_at is None else item.created_at,
                    now,
                    None if said else NOTHING_TO_EMBED,
                    None if indexed == said else indexed,
                    words.VERSION,
                    None,
                )
            )
        rows.requests.append(
            (
                request_ref,
                account_id,
                user_ref,
                request.request_id,
                request.request_group,
                request.source,
                request.agent_version,
                request.body_hash,
                now,
                min(now if item.created_at is None else item.created_at for item in request.interactions),
                sequences[account_id],
            )
        )
        stored[account_id, request.request_id] = StoredRequest(request.request_id, ids, tuple(refs), False)
    return rows, stored


def _search_text(content: str, description: str, url: str) -> str:
    """What of an interaction is embedded and cut into words: content, description and the words of the URL."""
    if not description and not url:  # nearly every chat turn
        return "" if content.isspace() else content
    pieces = words.pieces(url.partition("://")[2] or url)
    url_words = " ".join(piece for piece, found in pieces if found)
    return "\n".join(part for part in (content, description, url_words) if part.strip())


def insert_rows(conn: Connection, rows: Rows) -> None:
    """Write new requests: everything a publish writes but users and sequences."""
    write = dialect.of(conn).insert_rows
    write(conn, requests.name, _REQUEST_COLUMNS, rows.requests)
    for image in rows.images.values():
        _ADD_IMAGE.run(conn, **image)
    write(conn, interactions.name, tuple(interactions.columns.keys()), rows.interactions)
    write(conn, waiting.name, tuple(waiting.columns.keys()), rows.waiting)
    if rows.texts:
        full_text.add(conn, rows.texts)


def _image(account_id: int, item: NewInteraction) -> dict[str, Any]:
    assert item.image
    return {
        "account_id": account_id,
        "sha256": item.image.sha256,
        "media_type": item.image.media_type,
        "width": item.image.width,
        "height": item.image.height,
        "size_bytes": len(item.image.data),
        "text": None,
        "reader": None,
        "data": item.image.data,
    }


def _user_refs(conn: Connection, wanted: set[tuple[int, str]]) -> dict[tuple[int, str], int]:
    refs = dialect.of(conn).known_users(conn, wanted)
    for account_id, user_id in sorted(wanted - refs.keys()):
        ((refs[account_id, user_id],),) = _ADD_USER.rows(conn, account=account_id, user=user_id)
    return refs


def _advance_sequences(conn: Connection, fresh: Sequence[Submitted]) -> dict[int, int]:
    """Each account's sequence before its new interactions; the rows already stand after them."""
    counts: dict[int, int] = {}
    for account_id, request in fresh:
        counts[account_id] = counts.get(account_id, 0) + len(request.interactions)
    before: dict[int, int] = {}
    for account_id, count in counts.items():
        ((last,),) = _ADVANCE_SEQUENCE.rows(conn, account=account_id, count=count)
        before[account_id] = last - count
    return before


_IMAGE_COLUMNS = images.columns.keys()
_ADD_IMAGE = Prepared(
    text(
        f"""INSERT INTO images ({", ".join(_IMAGE_COLUMNS)}) VALUES ({", ".join(f":{name}" for name in _IMAGE_COLUMNS)})
            ON CONFLICT DO NOTHING"""
    )
)
_ADD_USER = Prepared(
    insert(users).values(account_id=bindparam("account"), user_id=bindparam("user")).returning(users.c.id)
)
_ADVANCE_SEQUENCE = Prepared(
    update(account_counters)
    .where(account_counters.c.account_id == bindparam("account"))
    .values(
        last_sequence=account_counters.c.last_sequence + bindparam("count"),
        position=account_counters.c.position + bindparam("count"),
    )
    .returning(account_counters.c.last_sequence)
)
