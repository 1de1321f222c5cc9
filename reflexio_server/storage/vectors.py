"""Vectors beside the rows they were made of: storing them, reading them for a search."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, func, insert, select, text, update

from reflexio_server.storage import sqlite
from reflexio_server.storage.interactions import thread_number, threads
from reflexio_server.storage.prepared import Prepared
from reflexio_server.storage.rows import CANNOT_BE_EMBEDDED
from reflexio_server.storage.settling import erase_vectors
from reflexio_server.storage.tables import interactions, live_model, requests, users, vectors
from reflexio_server.storage.waiting import Waiting

Matrix = NDArray[np.float32]
_ALL = 2**63 - 1

ROW = np.dtype([("stamp", np.int64), ("ref", np.int64), ("user", np.int64), ("thread", np.int64)])
"""What is known of a vector's row without reading it: its vectors.id, its interaction, and that one's user and thread
(see `thread_number`). Another fact of the interaction that ranking needs is another column here."""
Rows = NDArray[np.void]


@dataclass(frozen=True)
class Vectors:
    """Vectors of interactions: row i of `matrix` (n × dimensions, length 1) belongs to `rows[i]`, see `ROW`.

    A long text has several. Their stamps rise with every write.
    """

    rows: Rows
    matrix: Matrix

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def stamps(self) -> NDArray[np.int64]:
        return self.rows["stamp"]

    @property
    def users(self) -> NDArray[np.int64]:
        return self.rows["user"]

    @cached_property
    def interactions(self) -> int:
        """How many interactions they are of."""
        return len(np.unique(self.rows["ref"]))

    @property
    def newest(self) -> int:
        """The last one's stamp, 0 when there are none."""
        return int(self.rows["stamp"][-1]) if len(self) else 0

    def cosines(self, vector: Matrix) -> Matrix:
        """The cosine of each with a vector of length 1, shape (n,)."""
        if not len(self):
            return np.zeros(0, dtype=np.float32)
        cosines: Matrix = self.matrix @ vector
        return cosines

    def where(self, chosen: NDArray[np.bool_]) -> "Vectors":
        return Vectors(self.rows[chosen], self.matrix[chosen])

    def up_to(self, stamp: int) -> "Vectors":
        """Those up to this stamp; needs them in the order of their stamps."""
        count = int(np.searchsorted(self.rows["stamp"], stamp, side="right"))
        return Vectors(self.rows[:count], self.matrix[:count])


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


_request_group = (
    select(requests.c.request_group)
    .select_from(interactions.join(requests, requests.c.id == interactions.c.request_ref))
    .where(interactions.c.id == vectors.c.interaction_ref)
    .scalar_subquery()
)
_columns = (vectors.c.id, vectors.c.interaction_ref, vectors.c.user_ref, _request_group, vectors.c.vector)
_of_model = vectors.c.model == bindparam("model")
_newer = vectors.c.id > bindparam("after")
_OF_USER = Prepared(
    select(*_columns).where(vectors.c.user_ref == bindparam("user_ref"), _of_model, _newer).order_by(vectors.c.id)
)
_OF_ACCOUNT = Prepared(
    select(*_columns)
    .where(vectors.c.account_id == bindparam("account_id"), _of_model, _newer)
    .order_by(vectors.c.id)
    .limit(bindparam("most"))
)
_COUNT_OF_USER = Prepared(
    select(func.count()).select_from(
        select(vectors.c.id)
        .where(vectors.c.user_ref == bindparam("user_ref"), _of_model)
        .limit(bindparam("most"))
        .subquery()
    )
)
_OF_REFS = Prepared(select(*_columns).where(vectors.c.interaction_ref.in_(sqlite.listed("refs")), _of_model))
_OF_STAMPS = Prepared(select(*_columns).where(vectors.c.id.in_(sqlite.listed("stamps"))).order_by(vectors.c.id))
_COUNT_AFTER = Prepared(
    select(func.count()).select_from(vectors).where(vectors.c.account_id == bindparam("account_id"), _of_model, _newer)
)
_COUNT_UP_TO = Prepared(
    select(func.count())
    .select_from(vectors)
    .where(vectors.c.account_id == bindparam("account_id"), _of_model, vectors.c.id <= bindparam("stamp"))
)
_ERASURES = Prepared(select(users.c.id, users.c.erasures).where(users.c.id.in_(sqlite.listed("users"))))
# One row, as the driver gives up the interpreter's lock for each. "+ 0" keeps SQLite from walking all of the account.
_ROWS_OF_STAMPS = Prepared(
    text(
        """SELECT json_group_array(json_array(v.id, v.interaction_ref, v.user_ref, r.request_group))
           FROM json_each(:stamps) k CROSS JOIN vectors v ON v.id = k.value
           CROSS JOIN interactions i ON i.id = v.interaction_ref CROSS JOIN requests r ON r.id = i.request_ref
           WHERE v.account_id + 0 = :account_id"""
    )
)


def count_of_user(conn: Connection, user_ref: int, model: int, most: int) -> int:
    """How many vectors the user has, counted up to `most`."""
    return int(_COUNT_OF_USER.scalar(conn, user_ref=user_ref, model=model, most=most))


def erasures(conn: Connection, user_refs: Sequence[int]) -> dict[int, int]:
    """How often vectors of these users were deleted; users who are gone are left out."""
    return dict(_ERASURES.rows(conn, users=json.dumps(list(user_refs))))


def of_user(conn: Connection, user_ref: int, model: int, after: int = 0) -> Vectors:
    """All vectors of one user with a stamp after this one, in the order of their stamps."""
    return _vectors(_OF_USER.rows(conn, user_ref=user_ref, model=model, after=after))


def of_refs(conn: Connection, refs: NDArray[np.int64], model: int) -> Vectors:
    return _vectors(_OF_REFS.rows(conn, refs=json.dumps(refs.tolist()), model=model))


def of_stamps(conn: Connection, stamps: Sequence[int]) -> Vectors:
    """The vectors with these stamps; those that are gone are left out."""
    return _vectors(_OF_STAMPS.rows(conn, stamps=json.dumps(list(stamps))))


def after(conn: Connection, account_id: int, model: int, stamp: int, limit: int) -> Vectors:
    """An account's vectors written after this stamp, oldest first."""
    return _vectors(_OF_ACCOUNT.rows(conn, account_id=account_id, model=model, after=stamp, most=limit))


def count_after(conn: Connection, account_id: int, model: int, stamp: int) -> int:
    return int(_COUNT_AFTER.scalar(conn, account_id=account_id, model=model, after=stamp))


def count_up_to(conn: Connection, account_id: int, model: int, stamp: int) -> int:
    return int(_COUNT_UP_TO.scalar(conn, account_id=account_id, model=model, stamp=stamp))


def rows_of_stamps(conn: Connection, account_id: int, stamps: Sequence[int]) -> Rows:
    """The rows of these vectors of the account, in their order; where one is gone all is 0."""
    listed = json.loads(_ROWS_OF_STAMPS.scalar(conn, account_id=account_id, stamps=json.dumps(stamps)))
    found = {stamp: (stamp, ref, user, thread_number(user, group)) for stamp, ref, user, group in listed}
    return np.array([found.get(stamp, (0, 0, 0, 0)) for stamp in stamps], dtype=ROW)


def rows_of_refs(conn: Connection, refs: NDArray[np.int64]) -> Rows:
    """What is known of interactions that have no vector, in their order."""
    rows = np.zeros(len(refs), dtype=ROW)
    rows["ref"], rows["thread"] = refs, threads(conn, refs.tolist())
    return rows


def applied_stamps(conn: Connection, account_id: int, model: int, up_to: int = _ALL) -> NDArray[np.int64]:
    """Stamps of the account's vectors up to this one, in order: what its collection must hold."""
    query = (
        select(vectors.c.id)
        .where(vectors.c.account_id == account_id, vectors.c.model == model, vectors.c.id <= up_to)
        .order_by(vectors.c.id)
    )
    return np.array(conn.execute(query).scalars().all(), dtype=np.int64)


def _vectors(found: Sequence[Any]) -> Vectors:
    if not found:
        return Vectors(np.zeros(0, dtype=ROW), np.zeros((0, 1), dtype=np.float32))
    rows = [(stamp, ref, user, thread_number(user, group)) for stamp, ref, user, group, _ in found]
    matrix = np.frombuffer(b"".join([vector for *_, vector in found]), dtype="<f4")
    return Vectors(np.array(rows, dtype=ROW), matrix.reshape(len(rows), -1))
