"""What a search begins with, read by one statement."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, func, literal, select

from reflexio_server.storage.prepared import Prepared
from reflexio_server.storage.tables import account_counters, interactions, live_model, users, vectors, waiting


@dataclass(frozen=True, slots=True)
class Standing:
    """Of the user or account that is searched, at one moment.

    Attributes:
        account_id: whose all is.
        interactions: how many interactions the account has.
        model: the number of the live model, whose vectors are compared.
        user_ref: the user's number; None when all of the account is searched.
        newest: the stamp of its newest vector, 0 when it has none.
        erasures: how often vectors of the user were deleted; 0 for an account.
        count: how many vectors the account has, counted up to what was asked for; 0 for a user.
        waiting: how many of its interactions have text but no vector yet.
    """

    account_id: int
    interactions: int
    model: int
    user_ref: int | None
    newest: int
    erasures: int
    count: int
    waiting: int


def of_account(conn: Connection, account_id: int, most: int) -> Standing:
    """`most`: how far its vectors are counted."""
    row = _OF_ACCOUNT.row(conn, account_id=account_id, most=most)
    assert row
    return Standing(*row)


def of_user(conn: Connection, account_id: int, user_id: str) -> Standing | None:
    """None when the account has no such user."""
    row = _OF_USER.row(conn, account_id=account_id, user_id=user_id)
    return None if row is None else Standing(*row)


def share_since(conn: Connection, ref: int) -> float:
    """The share of an account's interactions that were stored since this one of it, erased ones counted."""
    share: float = _SHARE_SINCE.scalar(conn, ref=ref)
    return share


_counters = account_counters.c
_ACCOUNT = (_counters.account_id, _counters.last_sequence - _counters.erased, live_model.c.model)


def _of_user() -> Select[Any]:
    theirs = and_(vectors.c.user_ref == users.c.id, vectors.c.model == live_model.c.model)
    wait = and_(waiting.c.account_id == users.c.account_id, waiting.c.user_ref == users.c.id)
    newest = func.coalesce(select(func.max(vectors.c.id)).where(theirs).scalar_subquery(), 0)
    count_waiting = select(func.count()).select_from(waiting).where(wait).scalar_subquery()
    return (
        select(*_ACCOUNT, users.c.id, newest, users.c.erasures, literal(0), count_waiting)
        .select_from(
            account_counters.join(live_model, live_model.c.id == 1).join(
                users, users.c.account_id == _counters.account_id
            )
        )
        .where(_counters.account_id == bindparam("account_id"), users.c.user_id == bindparam("user_id"))
    )


def _of_account() -> Select[Any]:
    theirs = and_(vectors.c.account_id == _counters.account_id, vectors.c.model == live_model.c.model)
    wait = waiting.c.account_id == _counters.account_id
    newest = func.coalesce(select(func.max(vectors.c.id)).where(theirs).scalar_subquery(), 0)
    some = (
        select(vectors.c.id).where(theirs).limit(bindparam("most")).correlate(account_counters, live_model).subquery()
    )
    count = select(func.count()).select_from(some).scalar_subquery()
    count_waiting = select(func.count()).select_from(waiting).where(wait).scalar_subquery()
    return (
        select(*_ACCOUNT, literal(None), newest, literal(0), count, count_waiting)
        .select_from(account_counters.join(live_model, live_model.c.id == 1))
        .where(_counters.account_id == bindparam("account_id"))
    )


_SHARE_SINCE = Prepared(
    select(1 - (interactions.c.sequence - 1.0) / _counters.last_sequence)
    .join_from(interactions, account_counters, _counters.account_id == interactions.c.account_id)
    .where(interactions.c.id == bindparam("ref"))
)
_OF_USER = Prepared(_of_user())
_OF_ACCOUNT = Prepared(_of_account())
