"""What stands in pictures: which were not read yet, and what of it is searched."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, bindparam, func, select, update

from reflexio_server import words
from reflexio_server.storage import embedders, full_text, waiting
from reflexio_server.storage.interactions import WITH_IMAGE
from reflexio_server.storage.prepared import Prepared
from reflexio_server.storage.tables import images, interactions

_unread = and_(interactions.c.image_sha256.is_not(None), interactions.c.picture_read.is_(None))
_UNREAD = Prepared(
    select(interactions.c.id, images.c.account_id, images.c.sha256, images.c.text)
    .join_from(interactions, images, WITH_IMAGE)
    # What waits for its vectors comes later: they could be made just now, of what it said until then.
    .where(_unread, ~waiting.waits)
    .order_by(interactions.c.id.desc())
    .limit(bindparam("most"))
)


@dataclass(frozen=True, slots=True)
class Unread:
    """An interaction with a picture that is not searched yet; `text`: what stands in it, None if it was not read."""

    ref: int
    account_id: int
    sha256: bytes
    text: str | None


def unread(conn: Connection, most: int) -> list[Unread]:
    """Of all accounts, newest first."""
    return [Unread(*row) for row in _UNREAD.rows(conn, most=most)]


def text_of(conn: Connection, account_id: int, sha256: bytes) -> str | None:
    """What stands in a picture; None if it was not read, or nobody has it any more."""
    this = (images.c.account_id == account_id) & (images.c.sha256 == sha256)
    return conn.execute(select(images.c.text).where(this)).scalar()


def set_text(conn: Connection, account_id: int, sha256: bytes, text: str, reader: str) -> None:
    """Keep what stands in a picture, unless nobody has it any more. Needs a write transaction."""
    this = (images.c.account_id == account_id) & (images.c.sha256 == sha256)
    conn.execute(update(images).where(this).values(text=text, reader=reader))


def let_be_found(conn: Connection, refs: Sequence[int], text: str) -> int:
    """Let interactions be found by what stands in their picture, too: by its words, and then by its meaning.

    Those that wait for their vectors are left for later, and all while another model takes over, which may have passed
    them. Returns how many are. Needs a write transaction.
    """
    state = embedders.state(conn)
    if state is None or state.next is not None:
        return 0
    said = func.coalesce(interactions.c.search_text, interactions.c.content)
    still = interactions.c.id.in_(refs) & _unread & ~waiting.waits
    query = select(interactions.c.id, interactions.c.account_id, interactions.c.user_ref, said).where(still)
    found = [tuple(row) for row in conn.execute(query)]
    this = interactions.c.id == bindparam("ref")
    if not text.strip():
        return conn.execute(update(interactions).where(still).values(picture_read=True)).rowcount
    if not found:
        return 0
    full_text.erase(conn, [ref for ref, *_ in found])
    values, indexed = [], []
    for ref, account_id, user_ref, before in found:
        together = "\n".join(part for part in (before, text) if part.strip())
        cut = words.to_index(together)
        values.append({"ref": ref, "together": together, "cut": None if cut == together else cut})
        indexed.append((ref, full_text.owner(account_id, user_ref), cut))
    conn.execute(
        update(interactions)
        .where(this)
        .values(
            search_text=bindparam("together"), words=bindparam("cut"), words_version=words.VERSION, picture_read=True
        ),
        values,
    )
    waiting.let_wait(conn, [ref for ref, *_ in found])
    full_text.add(conn, [row for row in indexed if row[2]])
    return len(found)
