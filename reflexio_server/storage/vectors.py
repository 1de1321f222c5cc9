"""Vectors beside the rows they were made of: storing them, reading them for a search."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, func, select, update

from reflexio_server.storage import dialect, expressions, facts
from reflexio_server.storage.facts import Rows, Texts
from reflexio_server.storage.prepared import Prepared
from reflexio_server.storage.rows import CANNOT_BE_EMBEDDED
from reflexio_server.storage.settling import erase_vectors
from reflexio_server.storage.tables import account_counters, interactions, live_model, requests, users, vectors, waiting
from reflexio_server.storage.waiting import Waiting, wait_no_more

Matrix = NDArray[np.float32]
_ALL = 2**63 - 1


@dataclass(frozen=True)
class Vectors:
    """Vectors of interactions: row i of `matrix` (n × dimensions, length 1) belongs to `rows[i]`, see `facts.ROW`.

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
    def texts(self) -> Texts:
        """What they are of."""
        return Texts.of(self.rows)

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

    A row with no vector at all cannot be embedded: it is marked so, and waits no longer. Needs a transaction that has
    locked the accounts.
    """
    if conn.execute(select(live_model.c.model)).scalar() != model:
        return False
    still = set(conn.execute(select(waiting.c.id).where(waiting.c.id.in_([row.ref for row, _ in embedded]))).scalars())
    if not still:
        return True
    store_beside(conn, model, [(row, matrix) for row, matrix in embedded if row.ref in still])
    wait_no_more(conn, waiting.c.id.in_(still))
    without = {row.ref for row, matrix in embedded if row.ref in still and not len(matrix)}
    if without:
        conn.execute(update(interactions).where(interactions.c.id.in_(without)).values(model=CANNOT_BE_EMBEDDED))
    return True


def store_beside(conn: Connection, model: int, embedded: Sequence[tuple[Waiting, Matrix]]) -> None:
    """Write vectors of a model, whichever is live, and leave alone whether their rows wait.

    Rows that were erased meanwhile get none. Needs a transaction that has locked the accounts.
    """
    refs = [row.ref for row, _ in embedded]
    # They may be there already: as at a row that waits again.
    erase_vectors(conn, vectors.c.interaction_ref.in_(refs) & (vectors.c.model == model))
    there = set(conn.execute(select(interactions.c.id).where(interactions.c.id.in_(refs))).scalars())
    made = [(row, chunk, vector) for row, matrix in embedded if row.ref in there for chunk, vector in enumerate(matrix)]
    stamps = dialect.of(conn).next_ids(conn, vectors.name, len(made))
    rows, newest = [], dict[int, int]()
    for stamp, (row, chunk, vector) in zip(stamps, made, strict=True):
        rows.append((stamp, row.account_id, row.user_ref, row.ref, model, chunk, vector.astype("<f4").tobytes()))
        newest[row.account_id] = stamp
    dialect.of(conn).insert_rows(conn, vectors.name, tuple(vectors.columns.keys()), rows)
    for account_id, stamp in newest.items():
        _NOTE_NEWEST.run(conn, account=account_id, stamp=stamp)


_NOTE_NEWEST = Prepared(
    update(account_counters)
    .where(account_counters.c.account_id == bindparam("account"))
    .values(newest_vector=bindparam("stamp"))
)
_columns = (vectors.c.id, *facts.COLUMNS, vectors.c.vector)
# Outer ones, so that the vectors are walked.
_with_facts = vectors.outerjoin(interactions, interactions.c.id == vectors.c.interaction_ref).outerjoin(
    requests, requests.c.id == interactions.c.request_ref
)
_all_of_it = select(*_columns).select_from(_with_facts)
_of_model = vectors.c.model == bindparam("model")
_newer = vectors.c.id > bindparam("after")
_OF_USER = Prepared(
    _all_of_it.where(vectors.c.user_ref == bindparam("user_ref"), _of_model, _newer).order_by(vectors.c.id)
)
_OF_ACCOUNT = Prepared(
    _all_of_it.where(vectors.c.account_id == bindparam("account_id"), _of_model, _newer)
    .order_by(vectors.c.id)
    .limit(bindparam("most"))
)
_NEWEST_UP_TO = Prepared(
    _all_of_it.where(vectors.c.account_id == bindparam("account_id"), _of_model, vectors.c.id <= bindparam("stamp"))
    .order_by(vectors.c.id.desc())
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
_OF_REFS = Prepared(_all_of_it.where(vectors.c.interaction_ref.in_(expressions.among_numbers("refs")), _of_model))
_OF_STAMPS = Prepared(_all_of_it.where(vectors.c.id.in_(expressions.among_numbers("stamps"))).order_by(vectors.c.id))
_COUNT_AFTER = Prepared(
    select(func.count()).select_from(vectors).where(vectors.c.account_id == bindparam("account_id"), _of_model, _newer)
)
_COUNT_UP_TO = Prepared(
    select(func.count())
    .select_from(vectors)
    .where(vectors.c.account_id == bindparam("account_id"), _of_model, vectors.c.id <= bindparam("stamp"))
)
_ERASURES = Prepared(select(users.c.id, users.c.erasures).where(users.c.id.in_(expressions.among_numbers("users"))))
_asked = expressions.numbers("stamps")
# One row, as the driver gives up the interpreter's lock for each. "+ 0" keeps SQLite from walking all of the account.
_FACTS_OF_STAMPS = Prepared(
    expressions.as_one_of(vectors.c.id, *facts.COLUMNS)
    .select_from(
        _asked.join(vectors, vectors.c.id == _asked.c.value)
        .join(interactions, interactions.c.id == vectors.c.interaction_ref)
        .join(requests, requests.c.id == interactions.c.request_ref)
    )
    .where(vectors.c.account_id + 0 == bindparam("account_id"))
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


def newest_up_to(conn: Connection, account_id: int, model: int, stamp: int, limit: int) -> Vectors:
    """An account's newest vectors up to this stamp, newest first."""
    return _vectors(_NEWEST_UP_TO.rows(conn, account_id=account_id, model=model, stamp=stamp, most=limit))


def count_after(conn: Connection, account_id: int, model: int, stamp: int) -> int:
    return int(_COUNT_AFTER.scalar(conn, account_id=account_id, model=model, after=stamp))


def count_up_to(conn: Connection, account_id: int, model: int, stamp: int) -> int:
    return int(_COUNT_UP_TO.scalar(conn, account_id=account_id, model=model, stamp=stamp))


def rows_of_stamps(conn: Connection, account_id: int, stamps: Sequence[int]) -> Rows:
    """The rows of these vectors of the account, in their order; where one is gone all is 0."""
    at = np.argsort(stamps)
    in_order = np.asarray(stamps)[at]  # so that a page of the file is read once
    listed = json.loads(_FACTS_OF_STAMPS.scalar(conn, account_id=account_id, stamps=json.dumps(in_order.tolist())))
    found = facts.rows(listed)
    rows = np.zeros(len(stamps), dtype=facts.ROW)
    rows[at[np.searchsorted(in_order, found["stamp"])]] = found
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
        return Vectors(np.zeros(0, dtype=facts.ROW), np.zeros((0, 1), dtype=np.float32))
    matrix = np.frombuffer(b"".join([vector for *_, vector in found]), dtype="<f4")
    return Vectors(facts.rows(values for *values, _ in found), matrix.reshape(len(found), -1))
