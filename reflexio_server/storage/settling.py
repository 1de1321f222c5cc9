"""What was erased and has yet to leave: collections its vectors, the files its bytes.

Writing functions need a write transaction.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from reflexio_server.storage.tables import account_counters, erased_vectors, users, vectors


def erase_vectors(conn: Connection, which: ColumnElement[bool]) -> None:
    """Erase vectors, and note that what memory holds of their users is old, and which stamps collections must lose."""
    gone = select(vectors.c.id, vectors.c.account_id, vectors.c.model).where(which)
    if not conn.execute(insert(erased_vectors).from_select(["stamp", "account_id", "model"], gone)).rowcount:
        return
    owners = select(vectors.c.user_ref).where(which)
    conn.execute(update(users).where(users.c.id.in_(owners)).values(erasures=users.c.erasures + 1))
    conn.execute(delete(vectors).where(which))


def pending(conn: Connection, account_id: int, limit: int) -> dict[int, list[int]]:
    """Some of the stamps that collections of this account must lose, by their models."""
    query = select(erased_vectors.c.model, erased_vectors.c.stamp).where(erased_vectors.c.account_id == account_id)
    found: dict[int, list[int]] = {}
    for model, stamp in conn.execute(query.limit(limit)):
        found.setdefault(model, []).append(stamp)
    return found


def pending_of_model(conn: Connection, account_id: int, model: int) -> list[int]:
    """The stamps that this account's collections of a model must lose, in order: they may hold them still."""
    query = select(erased_vectors.c.stamp).where(
        erased_vectors.c.account_id == account_id, erased_vectors.c.model == model
    )
    return sorted(conn.execute(query).scalars())


def accounts_with_pending(conn: Connection) -> list[int]:
    return list(conn.execute(select(erased_vectors.c.account_id).distinct()).scalars())


def note_settled(conn: Connection, stamps: Sequence[int]) -> None:
    """Remember that no collection holds these any more."""
    conn.execute(delete(erased_vectors).where(erased_vectors.c.stamp.in_(stamps)))


def unsettled_accounts(conn: Connection) -> dict[int, int]:
    """Accounts of which something erased may be left on disk, with how much was erased."""
    query = select(account_counters.c.account_id, account_counters.c.erased).where(
        account_counters.c.erased != account_counters.c.settled
    )
    return {account_id: erased for account_id, erased in conn.execute(query)}


def note_settled_accounts(conn: Connection, erased: dict[int, int]) -> None:
    """Remember that nothing is left of what had been erased of these accounts."""
    for account_id, count in erased.items():
        this = account_counters.c.account_id == account_id
        conn.execute(update(account_counters).where(this).values(settled=count))
