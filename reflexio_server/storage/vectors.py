"""Vectors beside the rows they were made of: storing them, reading them for a search."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, insert, select, update

from reflexio_server.storage import sqlite
from reflexio_server.storage.interactions import thread_number
from reflexio_server.storage.rows import CANNOT_BE_EMBEDDED
from reflexio_server.storage.settling import erase_vectors
from reflexio_server.storage.tables import interactions, live_model, requests, users, vectors
from reflexio_server.storage.waiting import Waiting

Matrix = NDArray[np.float32]
_ALL = 2**63 - 1
_REFS_AT_ONCE = 1000


_request_group = (
    select(requests.c.request_group)
    .select_from(interactions.join(requests, requests.c.id == interactions.c.request_ref))
    .where(interactions.c.id == vectors.c.interaction_ref)
    .scalar_subquery()
)
_columns = (vectors.c.id, vectors.c.interaction_ref, vectors.c.user_ref, _request_group, vectors.c.vector)


@dataclass(frozen=True)
class Vectors:
    """Vectors of interactions: row i of `matrix` (n × dimensions, length 1) belongs to interaction `refs[i]`.

    A long text has several. `stamps` are their vectors.id, rising with every write; `users` their users' numbers;
    `threads` the numbers of their threads (see `thread_number`).
    """

    stamps: NDArray[np.int64]
    refs: NDArray[np.int64]
    users: NDArray[np.int64]
    threads: NDArray[np.int64]
    matrix: Matrix

    @cached_property
    def interactions(self) -> int:
        """How many interactions they are of."""
        return len(np.unique(self.refs))

    def cosines(self, vector: Matrix) -> Matrix:
        """The cosine of each with a vector of length 1, shape (n,)."""
        if not len(self.refs):
            return np.zeros(0, dtype=np.float32)
        cosines: Matrix = self.matrix @ vector
        return cosines

    def where(self, chosen: NDArray[np.bool_]) -> "Vectors":
        return Vectors(
            self.stamps[chosen], self.refs[chosen], self.users[chosen], self.threads[chosen], self.matrix[chosen]
        )

    def up_to(self, stamp: int) -> "Vectors":
        """Those up to this stamp; needs them in the order of their stamps."""
        count = int(np.searchsorted(self.stamps, stamp, side="right"))
        return Vectors(
            self.stamps[:count], self.refs[:count], self.users[:count], self.threads[:count], self.matrix[:count]
        )


def store(conn: Connection, model: int, embedded: Sequence[tuple[Waiting, Matrix]]) -> bool:
    """Write the vectors (chunks × dimensions each) of rows that still wait; False when another model is live by now.

    A row with no vector at all cannot be embedded: it is marked so, and waits no longer. Needs a write transaction.
    """
    if conn.execute(select(live_model.c.model)).scalar() != model:
        return False
    still = set(
        conn.execute(
            select(interactions.c.id).where(
                interactions.c.id.in_([row.ref for row, _ in embedded]), interactions.c.model.is_(None)
            )
        ).scalars()
    )
    if not still:
        return True
    store_beside(conn, model, [(row, matrix) for row, matrix in embedded if row.ref in still])
    without = {row.ref for row, matrix in embedded if not len(matrix)}
    for value, refs in ((model, still - without), (CANNOT_BE_EMBEDDED, still & without)):
        conn.execute(update(interactions).where(interactions.c.id.in_(refs)).values(model=value))
    return True


def store_beside(conn: Connection, model: int, embedded: Sequence[tuple[Waiting, Matrix]]) -> None:
    """Write vectors of a model, whichever is live, and leave alone whether their rows wait.

    Rows that were erased meanwhile get none. Needs a write transaction.
    """
    refs = [row.ref for row, _ in embedded]
    # They may be there already: as at a row that waits again.
    erase_vectors(conn, vectors.c.interaction_ref.in_(refs) & (vectors.c.model == model))
    there = set(conn.execute(select(interactions.c.id).where(interactions.c.id.in_(refs))).scalars())
    rows = [
        {
            "account_id": row.account_id,
            "user_ref": row.user_ref,
            "interaction_ref": row.ref,
            "model": model,
            "chunk": chunk,
            "vector": vector.astype("<f4").tobytes(),
        }
        for row, matrix in embedded
        if row.ref in there
        for chunk, vector in enumerate(matrix)
    ]
    if rows:
        conn.execute(insert(vectors), rows)


def count_of_user(conn: Connection, user_ref: int, model: int, most: int) -> int:
    """How many vectors the user has, counted up to `most`."""
    some = select(vectors.c.id).where(vectors.c.user_ref == user_ref, vectors.c.model == model).limit(most)
    return conn.execute(select(func.count()).select_from(some.subquery())).scalar_one()


def state_of_user(conn: Connection, user_ref: int, model: int) -> tuple[int, int]:
    """The stamp of the user's newest vector, 0 when there is none, and how often vectors of the user were deleted."""
    newest = select(func.max(vectors.c.id)).where(vectors.c.user_ref == user_ref, vectors.c.model == model)
    row = conn.execute(select(newest.scalar_subquery(), users.c.erasures).where(users.c.id == user_ref)).one_or_none()
    return (0, 0) if row is None else (row[0] or 0, row[1])


def erasures(conn: Connection, user_refs: Sequence[int]) -> dict[int, int]:
    """How often vectors of these users were deleted; users who are gone are left out."""
    found: dict[int, int] = {}
    for start in range(0, len(user_refs), _REFS_AT_ONCE):
        query = select(users.c.id, users.c.erasures).where(users.c.id.in_(user_refs[start : start + _REFS_AT_ONCE]))
        found.update({user: count for user, count in conn.execute(query)})
    return found


def of_user(conn: Connection, user_ref: int, model: int, after: int = 0) -> Vectors:
    """All vectors of one user with a stamp after this one, in the order of their stamps."""
    found = _vectors(
        conn.execute(
            select(*_columns)
            .where(vectors.c.user_ref == user_ref, vectors.c.model == model, vectors.c.id > after)
            .order_by(vectors.c.id)
        ).all()
    )
    return replace(found, users=np.broadcast_to(np.int64(user_ref), found.users.shape))  # which takes no memory


def of_refs(conn: Connection, refs: Sequence[int], model: int) -> Vectors:
    query = select(*_columns).where(vectors.c.interaction_ref.in_(sqlite.numbers(refs)), vectors.c.model == model)
    return _vectors(conn.execute(query).all())


def of_stamps(conn: Connection, stamps: Sequence[int]) -> Vectors:
    """The vectors with these stamps; those that are gone are left out."""
    return _vectors(conn.execute(select(*_columns).where(vectors.c.id.in_(stamps)).order_by(vectors.c.id)).all())


def after(conn: Connection, account_id: int, model: int, stamp: int, limit: int) -> Vectors:
    """An account's vectors written after this stamp, oldest first."""
    return _vectors(
        conn.execute(
            select(*_columns)
            .where(vectors.c.account_id == account_id, vectors.c.model == model, vectors.c.id > stamp)
            .order_by(vectors.c.id)
            .limit(limit)
        ).all()
    )


def count_after(conn: Connection, account_id: int, model: int, stamp: int) -> int:
    query = select(func.count()).where(
        vectors.c.account_id == account_id, vectors.c.model == model, vectors.c.id > stamp
    )
    return int(conn.execute(query).scalar_one())


def refs_of_stamps(conn: Connection, account_id: int, stamps: Sequence[int]) -> NDArray[np.int64]:
    """The interaction of each of these vectors of the account, in their order; 0 where it is gone."""
    by_stamp = dict(sqlite.refs_of_stamps(conn, account_id, stamps))
    return np.array([by_stamp.get(stamp, 0) for stamp in stamps], dtype=np.int64)


def applied_stamps(conn: Connection, account_id: int, model: int, up_to: int = _ALL) -> NDArray[np.int64]:
    """Stamps of the account's vectors up to this one, in order: what its collection must hold."""
    query = (
        select(vectors.c.id)
        .where(vectors.c.account_id == account_id, vectors.c.model == model, vectors.c.id <= up_to)
        .order_by(vectors.c.id)
    )
    return np.array(conn.execute(query).scalars().all(), dtype=np.int64)


def _vectors(rows: Sequence[Any]) -> Vectors:
    stamps, refs, users, groups, blobs = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    matrix = np.frombuffer(b"".join(blobs), dtype="<f4")
    return Vectors(
        np.array(stamps, dtype=np.int64),
        np.array(refs, dtype=np.int64),
        np.array(users, dtype=np.int64),
        np.array([thread_number(*thread) for thread in zip(users, groups, strict=True)], dtype=np.int64),
        matrix.reshape(len(blobs), -1) if blobs else np.zeros((0, 1), dtype=np.float32),
    )
