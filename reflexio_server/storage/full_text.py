"""The full text: whose interactions have a word, and bringing what older versions cut to this one's words.

Words are cut by reflexio_server.words; the index itself is the dialect's.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, case, func, select, update

from reflexio_server.storage import dialect
from reflexio_server.storage.matches import Matches
from reflexio_server.storage.tables import interactions, words_state


def owner(account_id: int, user_ref: int) -> str:
    """Whose a text is, as words of the index."""
    return f"a{account_id} u{user_ref}"


def add(conn: Connection, rows: Sequence[tuple[int, str, str]]) -> None:
    """Index texts: rows of (ref, owner, words)."""
    dialect.full_text(conn).add(conn, rows)


def erase(conn: Connection, refs: Sequence[int]) -> None:
    """Take interactions out of the index, as long as they are there themselves.

    Their words stay on disk until `merge` is through.
    """
    dialect.full_text(conn).erase(conn, refs)


def pieces(conn: Connection) -> int:
    """How many pieces the index is in; each is one more to look a word up in."""
    return dialect.full_text(conn).pieces(conn)


def merge(conn: Connection, *, first: bool) -> bool:
    """Do a step of making the index one piece, which leaves out what was deleted; False when it is one.

    `first`: take up all pieces there are, else go on.
    """
    return dialect.full_text(conn).merge(conn, first=first)


def take_up(conn: Connection) -> None:
    """Take what is new into the index, where it waits beside it, and every search reads it, until somebody does."""
    dialect.full_text(conn).take_up(conn)


def matches(
    conn: Connection, account_id: int, user_ref: int | None, words: Mapping[str, str], most: int
) -> list[Matches]:
    """The owner's interactions with a word, for each of these words; of a word that more have the `most` newest.

    `words`: each with how it was written before it was cut: what version 1 stored is asked for both, and then comes
    whole.
    """
    return dialect.full_text(conn).matches(conn, account_id, user_ref, words, most) if words else []


def with_all(
    conn: Connection, account_id: int, user_ref: int | None, words: Collection[str], most: int
) -> NDArray[np.int64]:
    """The owner's newest interactions that have all of these words, in rising order."""
    return dialect.full_text(conn).with_all(conn, account_id, user_ref, words, most)


def having(conn: Connection, word: str, refs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which of these interactions have the word, in rising order; each takes about 20 µs."""
    return dialect.full_text(conn).having(conn, word, refs)


@dataclass(frozen=True, slots=True)
class Old:
    """A row whose words were cut by an older version; `words`: what is in the index of it, None if version 1 cut it."""

    ref: int
    account_id: int
    user_ref: int
    text: str
    words: str | None


def begin_renewal(conn: Connection, version: int) -> bool:
    """Set out to bring all rows to this version of the words, or go on; False when all are. Needs a write transaction.

    Also after a program of an older version ran in between, whose rows are old.
    """
    conn.execute(update(words_state).where(words_state.c.version != version).values(version=version, done=0))
    return conn.execute(select(words_state.c.done)).scalar_one() is not None


def old_rows(conn: Connection, version: int, limit: int) -> list[Old]:
    """The next rows to be brought to this version, oldest first; none when all are."""
    done = conn.execute(select(words_state.c.done)).scalar_one()
    searched = func.coalesce(interactions.c.search_text, interactions.c.content)
    indexed = case((interactions.c.words_version > 1, func.coalesce(interactions.c.words, searched)))
    query = select(interactions.c.id, interactions.c.account_id, interactions.c.user_ref, searched, indexed)
    query = query.where(interactions.c.id > done, interactions.c.words_version < version)
    return [Old(*row) for row in conn.execute(query.order_by(interactions.c.id).limit(limit))]


def progress(conn: Connection, version: int) -> tuple[int, int]:
    """How many interactions are of this version, and how many there are. Reads every row."""
    renewed = func.count().filter(interactions.c.words_version == version)
    of_it, all_of_them = conn.execute(select(renewed, func.count()).select_from(interactions)).one()
    return of_it, all_of_them


def renew(conn: Connection, version: int, rows: Sequence[tuple[Old, str]]) -> None:
    """Index rows anew by these words, in the order of `old_rows`; what was erased meanwhile is left out.

    What has the same words as before is not touched. Needs a write transaction.
    """
    refs = [row.ref for row, _ in rows]
    still = set(conn.execute(select(interactions.c.id).where(interactions.c.id.in_(refs))).scalars())
    rows = [(row, words) for row, words in rows if row.ref in still and words != row.words]
    if rows:
        erase(conn, [row.ref for row, _ in rows])
        conn.execute(
            update(interactions).where(interactions.c.id == bindparam("ref")).values(words=bindparam("cut")),
            [{"ref": row.ref, "cut": None if words == row.text else words} for row, words in rows],
        )
        add(conn, [(row.ref, owner(row.account_id, row.user_ref), words) for row, words in rows if words])
    conn.execute(update(interactions).where(interactions.c.id.in_(still)).values(words_version=version))
    conn.execute(update(words_state).values(done=refs[-1]))


def end_renewal(conn: Connection, *, first: bool) -> bool:
    """Once no row is old: do a step (see `merge`) of emptying what only old rows needed; False when it is gone.

    Needs a write transaction.
    """
    if dialect.full_text(conn).drop_first_version(conn, first=first):
        return True
    conn.execute(update(words_state).values(done=None, has_first=False))
    return False
